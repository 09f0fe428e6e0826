"""Answers in one write: on the wire they are what uvicorn would have sent, and its connections stay in order."""

from dataclasses import dataclass, field

import pytest
from starlette.types import Receive, Scope, Send

from proxy.gateway.replying import way_of
from tests.support.raw_http import left_to_the_collector, read_late, request, running, told

JSON = (b"content-type", b"application/json")


@dataclass
class App:
    """Answers with the body it is asked for, by the way past or by ASGI."""

    past: bool
    took: list[bool] = field(default_factory=list)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            for event in ("startup", "shutdown"):
                await receive()
                await send({"type": f"lifespan.{event}.complete"})
            return
        body = b""
        while (message := await receive()).get("more_body"):
            body += message["body"]
        body += message["body"]
        way = way_of(scope) if self.past else None
        self.took.append(way is not None and way(200, b"content-type: application/json\r\n", body))
        if not self.took[-1]:
            length = (b"content-length", b"%d" % len(body))
            await send({"type": "http.response.start", "status": 200, "headers": [length, JSON]})
            await send({"type": "http.response.body", "body": body})


LAST = request(b"last", "connection: close")


@pytest.mark.parametrize(
    "data",
    [
        LAST,
        request(b"first") + LAST,
        request(b"x" * 200_000) + LAST,
        request(b"") + LAST,
        b"".join(request(b"%d" % number) for number in range(20)) + LAST,
        request(b"old", version="1.0"),
        request(b"old", "connection: keep-alive", version="1.0"),
        request(b"expected", "expect: 100-continue") + LAST,
    ],
)
async def test_what_goes_out_is_what_uvicorn_would_send(data: bytes) -> None:
    said = []
    for past in (True, False):
        async with running(App(past)) as (_, port):
            said.append(await told(port, data))
    assert said[0] == said[1]
    assert said[0].startswith(b"HTTP/1.1 ")


async def test_the_way_past_is_taken_where_the_server_has_it() -> None:
    app = App(past=True)
    async with running(app) as (_, port):
        await told(port, request(b"a") + LAST)
    assert app.took == [True, True]


async def test_a_client_that_does_not_read_is_written_to_by_asgi_which_waits() -> None:
    app = App(past=True)
    async with running(app) as (_, port):
        await read_late(port, b"x" * 1_000_000, 12)
    assert len(app.took) == 12


async def test_a_second_answer_is_not_sent() -> None:
    async def twice(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await receive()
            way = way_of(scope)
            assert way is not None
            assert way(200, b"", b"one")
            assert not way(200, b"", b"two")
            return
        await app(scope, receive, send)

    app = App(past=True)
    async with running(twice) as (_, port):
        said = await told(port, LAST)
    assert said.endswith(b"one")
    assert b"two" not in said


@pytest.mark.parametrize("past", [True, False])
async def test_an_answer_leaves_nothing_to_the_collector(past: bool) -> None:
    async with running(App(past)) as (_, port):
        left = await left_to_the_collector(port)
    assert left < 50


@pytest.mark.parametrize("version", ["1.0", "1.1"])
async def test_a_stream_that_goes_past_asgi_in_part_is_what_uvicorn_would_send(version: str) -> None:
    said = []
    for past in (True, False):

        async def streaming(scope: Scope, receive: Receive, send: Send, past: bool = past) -> None:
            if scope["type"] != "http":
                await App(past)(scope, receive, send)
                return
            way = way_of(scope)
            assert way is not None
            assert not way.part(b"too early")
            await send({"type": "http.response.start", "status": 200, "headers": [JSON]})
            assert not way.part(b"")
            for number in range(20):
                body = b"%d" % number * (number + 1)
                assert not past or way.part(body)
                if not past or number % 3 == 0:
                    await send({"type": "http.response.body", "body": b"" if past else body, "more_body": True})
            await send({"type": "http.response.body", "body": b"end"})
            assert not way.part(b"too late")

        async with running(streaming) as (_, port):
            said.append(await told(port, request(b"last", "connection: close", version=version)))
    assert said[0] == said[1]
    assert b"too" not in said[0]
    assert b"end" in said[0]


async def test_a_part_of_known_length_goes_by_asgi() -> None:
    async def counted(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await App(past=False)(scope, receive, send)
            return
        way = way_of(scope)
        assert way is not None
        await send({"type": "http.response.start", "status": 200, "headers": [JSON, (b"content-length", b"3")]})
        assert not way.part(b"one")
        await send({"type": "http.response.body", "body": b"two"})

    async with running(counted) as (_, port):
        assert (await told(port, LAST)).endswith(b"\r\n\r\ntwo")
