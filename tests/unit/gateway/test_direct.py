"""Hot requests past ASGI: on the wire nothing tells them from uvicorn's own, and its connections stay in order."""

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, cast

import anyio
import pytest
from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from proxy.gateway.direct import HttpProtocol
from proxy.gateway.known import Known
from proxy.gateway.serving import HttpServer
from proxy.gateway.taken import Direct, Taken
from tests.support.raw_http import left_to_the_collector, read_late, request, running, told

HEAD = b"content-type: application/json\r\n"
Serve = Callable[[Taken], Coroutine[Any, Any, None]]


async def echo(taken: Taken) -> None:
    """Answer with the body, at once where that is possible."""
    if not taken.whole(200, HEAD, bytes(taken.body)):
        await streamed(taken)


async def streamed(taken: Taken) -> None:
    """The same by ASGI messages."""
    body = bytes(taken.body)
    send = cast("Send", taken.send)
    headers = [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body[:3], "more_body": True})
    await send({"type": "http.response.body", "body": body[3:]})


@dataclass
class Door:
    """Takes every POST of a known length to ``/hot``."""

    how: Serve = echo
    bodies: list[bytes] = field(default_factory=list)
    largest: int = 1 << 20
    fitted: int = 0
    declines: Callable[[Taken], bool] = lambda _taken: False
    tasks: list[int] = field(default_factory=list)
    """By which task each was served."""
    over: int = 0

    def fit(self, url: bytes, scope: Scope) -> Known | None:
        self.fitted += 1
        headers = dict(scope["headers"])
        return Known(headers) if url == b"/hot" and b"content-length" in headers else None

    def begin(self, taken: Taken) -> Coroutine[Any, Any, None] | None:
        self.bodies.append(bytes(taken.body))
        assert taken.task is asyncio.current_task()
        self.tasks.append(id(taken.task))
        return None if self.declines(taken) else self.how(taken)

    def closed(self) -> None:
        self.over += 1


@dataclass
class App:
    """Answers with the body it is asked for, by ASGI."""

    direct: Direct | None = None
    scopes: list[Scope] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            for event in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{event}.complete"})
            return
        self.scopes.append(scope)
        body = b""
        while (message := await receive()).get("more_body"):
            body += message["body"]
        body += message["body"]
        headers = [(b"content-length", b"%d" % len(body)), (b"content-type", b"application/json")]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})


LAST = request(b"last", "Connection: close")
CHUNKED = b"POST /hot HTTP/1.1\r\nhost: x\r\ntransfer-encoding: chunked\r\n\r\n4\r\nabcd\r\n0\r\n\r\n"
CASES = {
    "one": (LAST,),
    "two": (request(b"first") + LAST,),
    "nothing in it": (request(b"") + LAST,),
    "large": (request(b"x" * 300_000) + LAST,),
    "pipelined": (b"".join(request(b"%d" % number) for number in range(30)) + LAST,),
    "mixed": (request(b"a") + request(b"b", path="/other") + request(b"c", method="PUT") + request(b"d") + LAST,),
    "in pieces": (LAST[:10], LAST[10:-2], LAST[-2:]),
    "head and body": (LAST[:-4], LAST[-4:]),
    "cut in the second": (request(b"first") + LAST[:-2], LAST[-2:]),
    "old": (request(b"old", version="1.0"),),
    "old and kept": (request(b"old", "Connection: keep-alive", version="1.0"),),
    "expecting": (request(b"expected", "Expect: 100-continue") + LAST,),
    "upgrading": (request(b"up", "Connection: close, upgrade", "Upgrade: h2c"),),
    "chunked": (CHUNKED + LAST,),
    "garbage behind": (LAST + b"\x00\x01garbage\r\n\r\n",),
    "too short": (request(b"first") + b"POST /hot HTTP/1.1\r\ncontent-length: x\r\n\r\n",),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("how", [echo, streamed])
async def test_what_goes_out_is_what_uvicorn_would_send(case: str, how: Serve) -> None:
    said = []
    for direct in (Door(how), None):
        async with running(App(direct), HttpToolsProtocol if direct is None else None) as (_, port):
            said.append(await told(port, *CASES[case]))
    assert said[0] == said[1]
    assert said[0].startswith(b"HTTP/1.1 ")


async def test_what_comes_in_one_piece_goes_past_asgi() -> None:
    door = Door()
    app = App(door)
    async with running(app) as (_, port):
        await told(port, request(b"a") + request(b"b"), LAST)
    assert b"".join(door.bodies).startswith(b"a")
    assert door.bodies[-1] == b"last" or app.scopes


TALKS = {
    "the same head again": ((request(b"first"),), (request(b"again"),)),
    "another length": ((request(b"first"),), (request(b"longer than that"),), (request(b""),)),
    "head and body apart": ((request(b"first"),), (request(b"again")[:-5], b"again"), (request(b"3")[:-1], b"3")),
    "apart at first": ((request(b"first")[:-5], b"first"), (request(b"again"),)),
    "a body in pieces": ((request(b"first"),), (request(b"again")[:-5], b"ag", b"a", b"in")),
    "a head in pieces": ((request(b"first"),), (request(b"again")[:9], request(b"again")[9:])),
    "too large": ((request(b"first"),), (request(b"x" * 3_000_000),), (request(b"3"),)),
    "large": ((request(b"first"),), (request(b"x" * 300_000),), (request(b"3"),)),
    "another door": ((request(b"first"),), (request(b"again", path="/other"),), (request(b"3"),)),
    "many heads": tuple((request(b"%d" % number, f"X-Name: {number % 6}"),) for number in range(18)),
    "not at first": ((CHUNKED,), (request(b"2"),), (CHUNKED,), (request(b"4"),)),
    "something behind": ((request(b"first"),), (request(b"2") + request(b"3") + request(b"4"),)),
    "something behind a part": ((request(b"first"),), (request(b"2")[:-1], b"2" + request(b"3") + request(b"4"))),
}


async def talk(port: int, turns: tuple[tuple[bytes, ...], ...]) -> bytes:
    """All that a server says to a client that waits for each answer before it goes on."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    said = b""
    for turn in turns:
        for piece in turn:
            writer.write(piece)
            await writer.drain()
            for _ in range(5):
                await asyncio.sleep(0)
        for _ in range(b"".join(turn).count(b" HTTP/1.1")):
            head = await reader.readuntil(b"\r\n\r\n")
            length = int(head.lower().split(b"content-length: ")[1].split(b"\r")[0])
            said += head + await reader.readexactly(length)
    writer.write(LAST)
    said += await reader.read()
    writer.close()
    await writer.wait_closed()
    return said


@pytest.mark.parametrize("case", TALKS)
@pytest.mark.parametrize("how", [echo, streamed])
async def test_a_conversation_goes_as_with_uvicorn(case: str, how: Serve) -> None:
    said = []
    for direct in (Door(how), None):
        async with running(App(direct), HttpToolsProtocol if direct is None else None) as (_, port):
            said.append(await talk(port, TALKS[case]))
    assert said[0] == said[1]


NOT_ALL = ("too large", "large", "another door", "not at first")


@pytest.mark.parametrize("case", [case for case in TALKS if case not in NOT_ALL])
async def test_a_client_that_waits_is_served_past_asgi_however_its_writes_are_cut(case: str) -> None:
    app = App(door := Door())
    async with running(app) as (_, port):
        await talk(port, TALKS[case])
    pipelined = "behind" in case  # which goes through uvicorn's queue
    assert pipelined or not app.scopes
    assert pipelined or len(door.bodies) == len(TALKS[case]) + 1


async def test_a_head_that_was_had_before_is_not_looked_at_again() -> None:
    app = App(door := Door())
    async with running(app) as (_, port):
        await talk(port, tuple((request(b"x" * number),) for number in range(20)))
    assert len(door.bodies) == 21
    assert door.fitted == 2  # the first one, and that of the last request, which closes the connection


async def test_what_is_declined_of_a_known_head_is_served_by_the_app_as_it_came() -> None:
    def all_but_the_first(taken: Taken) -> bool:
        taken.declined = taken.body != b"first"
        return taken.declined

    app = App(Door(declines=all_but_the_first))
    turns = ((request(b"first"),), (request(b"again!"),), (request(b"thr")[:-3], b"thr"))
    async with running(app) as (_, port):
        said = await talk(port, turns)
    assert [said.count(body) for body in (b"first", b"again!", b"thr")] == [1, 1, 1]
    lengths = [dict(scope["headers"])[b"content-length"] for scope in app.scopes]
    assert lengths == [b"6", b"3", b"4"]
    assert all(scope["manifold.declined"] for scope in app.scopes)


async def all_gone(server: HttpServer) -> None:
    """Wait until a server has no connections left, and nothing that it serves."""
    while server.server_state.connections or server.server_state.tasks:  # noqa: ASYNC110 - uvicorn tells nobody
        await asyncio.sleep(0)


async def test_a_client_that_leaves_in_a_body_leaves_nothing_behind() -> None:
    app = App(door := Door())
    async with running(app) as (server, port):
        stream = await anyio.connect_tcp("127.0.0.1", port)
        await stream.send(request(b"first"))
        await stream.receive()
        await stream.send(request(b"second")[:-3])
        await stream.aclose()
        await all_gone(server)
    assert door.bodies == [b"first"]


@pytest.mark.parametrize("case", ["old", "chunked", "expecting", "upgrading"])
async def test_what_is_unusual_is_left_to_uvicorn(case: str) -> None:
    app = App(door := Door())
    async with running(app) as (_, port):
        await told(port, *CASES[case])
    assert app.scopes
    assert all(body == b"last" for body in door.bodies)


async def test_what_is_declined_is_served_by_the_app_as_it_came() -> None:
    scopes = []
    for direct in (Door(declines=lambda _taken: True), None):
        app = App(direct)
        async with running(app) as (_, port):
            assert (await told(port, request(b"first") + LAST)).endswith(b"last")
        scopes.append([{**scope, "client": None, "server": None, "manifold.whole": None} for scope in app.scopes])
    assert scopes[0] == scopes[1]


async def test_a_failure_is_answered_as_uvicorn_does() -> None:
    async def broken(_taken: Taken) -> None:
        raise RuntimeError("no")

    async with running(App(Door(broken))) as (_, port):
        assert (await told(port, LAST)).startswith(b"HTTP/1.1 500 ")


async def test_a_second_answer_is_not_sent() -> None:
    async def twice(taken: Taken) -> None:
        assert taken.whole(200, b"", b"one")
        assert not taken.whole(200, b"", b"two")

    async with running(App(Door(twice))) as (_, port):
        assert (await told(port, LAST)).endswith(b"\r\n\r\none")


async def test_a_client_that_leaves_is_noticed_behind_the_body() -> None:
    heard: list[Any] = []
    left, came = anyio.Event(), anyio.Event()

    async def wait(taken: Taken) -> None:
        came.set()
        while not heard or heard[-1]["type"] != "http.disconnect":
            heard.append(await taken.receive())
        left.set()

    async with running(App(Door(wait))) as (_, port):
        stream = await anyio.connect_tcp("127.0.0.1", port)
        await stream.send(request(b"body"))
        await came.wait()
        await stream.aclose()
        await left.wait()
    assert [one["type"] for one in heard] == ["http.request", "http.disconnect"]
    assert heard[0]["body"] == b"body"


async def test_a_client_that_does_not_read_makes_the_answer_wait() -> None:
    app = App(door := Door())
    async with running(app) as (_, port):
        await read_late(port, b"x" * 200_000, 60)
    assert len(app.scopes) + len(door.bodies) == 60


async def test_a_server_that_stops_waits_for_what_it_serves() -> None:
    came, go = anyio.Event(), anyio.Event()

    async def wait(taken: Taken) -> None:
        came.set()
        await go.wait()
        await echo(taken)

    async with running(App(Door(wait))) as (server, port):
        stream = await anyio.connect_tcp("127.0.0.1", port)
        async with stream:
            await stream.send(request(b"body"))
            await came.wait()
            assert len(server.server_state.tasks) == 1
            server.stop()
            connection = cast("HttpProtocol", next(iter(server.server_state.connections)))
            while connection.cycle.keep_alive:  # noqa: ASYNC110 - uvicorn tells nobody when it begins to stop
                await asyncio.sleep(0)
            go.set()
            said = await stream.receive()
    assert said.endswith(b"body")
    assert b"connection: close" in said


async def test_an_idle_connection_is_closed_and_one_that_is_used_is_not() -> None:
    async def late(taken: Taken) -> None:
        await asyncio.sleep(0.3)  # much longer than a connection may be idle
        await echo(taken)

    async with running(App(Door(late)), keep_alive=0.05) as (_, port):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        for _ in range(2):
            writer.write(request(b"body"))
            assert (await reader.readuntil(b"body")).startswith(b"HTTP/1.1 200")
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("how", [echo, streamed])
async def test_an_answer_leaves_nothing_to_the_collector(how: Serve) -> None:
    async with running(App(Door(how))) as (_, port):
        left = await left_to_the_collector(port, b"{}")
    assert left < 50


async def test_a_request_that_is_taken_has_all_that_uvicorn_gives_one() -> None:
    seen: list[Taken] = []

    async def keep(taken: Taken) -> None:
        seen.append(taken)
        await echo(taken)

    async with running(App(Door(keep))) as (_, port):
        await told(port, LAST)
    own = RequestResponseCycle(
        scope=cast("Any", {}),
        transport=cast("Any", None),
        flow=cast("FlowControl", None),
        logger=cast("Any", None),
        access_logger=cast("Any", None),
        access_log=False,
        default_headers=[],
        message_event=asyncio.Event(),
        expect_100_continue=False,
        keep_alive=True,
        on_response=lambda: None,
    )
    assert all(hasattr(seen[0], name) for name in vars(own))
    same = ("more_body", "disconnected", "chunked_encoding", "expected_content_length", "waiting_for_100_continue")
    assert all(getattr(own, name) == getattr(Taken, name) for name in same)
    assert issubclass(HttpProtocol, HttpToolsProtocol)
