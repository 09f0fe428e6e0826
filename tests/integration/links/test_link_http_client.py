"""The HTTP client of a link: connections that are kept, bounds on what servers may send, names and TLS."""

import asyncio
import gc
import gzip
import socket
import ssl
import zlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import anyio.abc
import pytest

from proxy.config.model import UpstreamConfig
from proxy.errors import ConnectFailed, InvalidArguments, Lost, ProtocolFault
from proxy.model import Params
from proxy.upstream import http_dial, http_pool
from proxy.upstream.http import HttpLink, open_http
from tests.support.link_http import Handler, Request, Response, Site, serve
from tests.support.link_open import linked
from tests.support.link_peers import Back, Heard
from tests.support.link_tls import self_signed


async def echo(request: Request, response: Response) -> None:
    response.result(request.message.get("params"))


# -- connections -------------------------------------------------------------------------------------------------------


async def test_a_call_on_a_kept_connection_that_was_closed_meanwhile_is_sent_on_a_new_one() -> None:
    async def once(request: Request, response: Response) -> None:
        response.result(request.connection)
        response.end_of_connection()

    async with linked(once) as (link, _):
        for number in (1, 2, 3):
            assert (await link.request("x", None)).result == number
            await anyio.wait_all_tasks_blocked()


async def test_a_call_whose_kept_connection_breaks_may_have_run_and_is_not_sent_again() -> None:
    async def second_time(request: Request, response: Response) -> None:
        if request.rpc == "second":
            await response.drop()
        else:
            response.result({})

    async with linked(second_time) as (link, site):
        await link.request("first", None)
        with pytest.raises(Lost):
            await link.request("second", None)
    assert [request.rpc for request in site.requests] == ["first", "second"]


async def test_a_server_that_wants_its_connections_closed_gets_a_new_one_each_time() -> None:
    async def closing(request: Request, response: Response) -> None:
        response.result(request.connection, Connection="close")

    async with linked(closing) as (link, _):
        assert [(await link.request("x", None)).result for _ in range(3)] == [1, 2, 3]


async def test_what_comes_behind_an_answer_does_not_get_into_the_next_one() -> None:
    async def talkative(request: Request, response: Response) -> None:
        response.result(request.connection)
        body = b'{"jsonrpc":"2.0","id":%d,"result":99}' % (request.message["id"] + 1)
        head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n"
        response.raw(head % len(body) + body)

    async with linked(talkative) as (link, _):
        assert [(await link.request("x", None)).result for _ in range(3)] == [1, 2, 3]


async def test_a_cancelled_call_costs_its_connection() -> None:
    async def hangs_first(request: Request, response: Response) -> None:
        if request.rpc == "hang":
            await response.gone.wait()
        else:
            response.result(request.connection)

    async with linked(hangs_first) as (link, site):
        link.agree("2026-07-28")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: link.request("hang", None))
            await site.asked("hang")
            tasks.cancel_scope.cancel()
        assert (await link.request("x", None)).result == 2


async def test_calls_beyond_the_limit_of_connections_wait_for_their_turn() -> None:
    under_way, most = 0, 0

    async def counting(request: Request, response: Response) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await anyio.wait_all_tasks_blocked()
        under_way -= 1
        response.result(request.connection)

    async with linked(counting, concurrency=90) as (link, site), anyio.create_task_group() as tasks:
        for _ in range(250):
            tasks.start_soon(link.request, "x", None)
    assert most <= 106
    assert max(request.connection for request in site.requests) <= 106


async def test_a_call_that_is_cancelled_while_it_waits_for_a_connection_leaves_the_others_their_turn() -> None:
    go = anyio.Event()

    async def waits(_request: Request, response: Response) -> None:
        await go.wait()
        response.result({})

    async with linked(waits, concurrency=1) as (link, site):
        link.agree("2026-07-28")
        async with anyio.create_task_group() as tasks:
            for _ in range(100):
                tasks.start_soon(link.request, "x", None)
            await site.asked("x", 100)
            scope = anyio.CancelScope()
            tasks.start_soon(_within, scope, link)
            tasks.start_soon(link.request, "last", None)
            await anyio.wait_all_tasks_blocked()
            scope.cancel()
            go.set()
        assert (len(site.of("last")), site.of("cancelled")) == (1, [])


async def _within(scope: anyio.CancelScope, link: HttpLink) -> None:
    with scope:
        await link.request("cancelled", None)


async def test_an_idle_connection_is_closed_before_the_server_would_do_it(monkeypatch: pytest.MonkeyPatch) -> None:
    gone: list[anyio.Event] = []

    async def noted(request: Request, response: Response) -> None:
        gone.append(response.gone)
        response.result(request.connection)

    monkeypatch.setattr(http_pool, "KEEP_ALIVE", 0.01)
    async with linked(noted) as (link, _):
        assert (await link.request("x", None)).result == 1
        await gone[0].wait()
        assert (await link.request("x", None)).result == 2


async def test_leaving_closes_every_connection() -> None:
    gone: list[anyio.Event] = []

    async def noted(request: Request, response: Response) -> None:
        gone.append(response.gone)
        await anyio.wait_all_tasks_blocked()
        response.result(request.connection)

    async with serve(noted) as site:
        async with (
            open_http("up", site.url, UpstreamConfig(url=site.url), Heard()) as link,
            anyio.create_task_group() as tasks,
        ):
            for _ in range(5):
                tasks.start_soon(link.request, "x", None)
        with anyio.fail_after(5):
            for event in gone:
                await event.wait()
    gc.collect()  # an open socket would warn, and a warning fails the test


# -- what a server may send --------------------------------------------------------------------------------------------


async def interim(request: Request, response: Response) -> None:
    response.raw(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n")
    await echo(request, response)


async def byte_by_byte(request: Request, response: Response) -> None:
    body = b'{"jsonrpc":"2.0","id":%d,"result":{"a":1}}' % request.message["id"]
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    for byte in head + b"".join(b"1\r\n%c\r\n" % each for each in body) + b"0\r\n\r\n":
        response.raw(bytes([byte]))
        await anyio.lowlevel.checkpoint()


async def until_the_end(request: Request, response: Response) -> None:
    response.raw(b'HTTP/1.0 200 OK\r\nContent-Type: application/json\r\n\r\n{"jsonrpc":"2.0",')
    response.raw(b'"id":%d,"result":{"a":1}}' % request.message["id"])
    response.end_of_connection()


async def packed_with_deflate(request: Request, response: Response) -> None:
    body = b'{"jsonrpc":"2.0","id":%d,"result":{"a":1}}' % request.message["id"]
    response.whole(200, zlib.compress(body), Content_Encoding="deflate")


async def packed_stream(request: Request, response: Response) -> None:
    event = b'data: {"jsonrpc":"2.0","id":%d,"result":{"a":1}}\n\n' % request.message["id"]
    response.start(200, {"Content-Type": "text/event-stream", "Content-Encoding": "gzip"})
    response.chunk(gzip.compress(event))
    response.end()


@pytest.mark.parametrize(
    "handler",
    [interim, byte_by_byte, until_the_end, packed_with_deflate, packed_stream],
    ids=lambda each: each.__name__,
)
async def test_every_shape_of_a_response_is_understood(handler: Handler) -> None:
    async with linked(handler) as (link, _):
        for _ in range(2):
            assert (await link.request("x", {"a": 1})).result == {"a": 1}


async def bomb(_request: Request, response: Response) -> None:
    response.whole(200, gzip.compress(b" " * 50_000_000), Content_Encoding="gzip")


async def endless(_request: Request, response: Response) -> None:
    response.start(200, {"Content-Type": "application/json"})
    while not response.gone.is_set():
        response.chunk(b" " * 10_000)
        await response.drain()


@pytest.mark.parametrize("handler", [bomb, endless])
async def test_a_body_without_end_is_refused_at_the_limit(handler: Handler) -> None:
    async with linked(handler, max_message=100_000) as (link, _):
        with pytest.raises(ProtocolFault, match="100000"):
            await link.request("x", None)


async def no_length(_request: Request, response: Response) -> None:
    response.raw(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000 + b"\r\n\r\n")


async def unknown_packing(_request: Request, response: Response) -> None:
    response.whole(200, b"????", Content_Encoding="br")


@pytest.mark.parametrize("handler", [no_length, unknown_packing])
async def test_a_response_that_cannot_be_taken_is_a_fault(handler: Handler) -> None:
    async with linked(handler) as (link, _):
        with pytest.raises(ProtocolFault):
            await link.request("x", None)


async def test_a_stream_is_read_no_faster_than_it_is_taken() -> None:
    sent = 0
    take = anyio.Event()

    async def flood(_request: Request, response: Response) -> None:
        nonlocal sent
        response.stream()
        frame = b"data: " + b'{"jsonrpc":"2.0","method":"notifications/message","params":{"data":"%b"}}' % (
            b"x" * 100_000
        )
        for _ in range(400):
            response.chunk(frame + b"\n\n")
            sent += 1
            await response.drain()
        response.result_event("done")

    class Slow(Back):
        async def notify(self, method: str, params: Params | None) -> None:
            del method, params
            await take.wait()

    async with linked(flood) as (link, site), anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: link.request("x", None, back=Slow()))
        await site.asked("x")
        await anyio.wait_all_tasks_blocked()
        assert sent < 300  # of 40 MB; the rest waits at the server
        take.set()


async def test_an_answer_before_the_request_was_sent_counts_and_its_connection_does_not() -> None:
    answered = 0

    async def too_long(stream: anyio.abc.SocketStream) -> None:
        nonlocal answered
        async with stream:
            await stream.receive()
            answered += 1
            await stream.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 0\r\n\r\n")
            await anyio.sleep_forever()

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, too_long)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610 - no Django here
        url = f"http://127.0.0.1:{port}/mcp"
        with anyio.fail_after(10):
            async with open_http("up", url, UpstreamConfig(url=url), Heard()) as link:
                for _ in range(2):
                    with pytest.raises(ProtocolFault, match="413"):
                        await link.request("x", {"text": "y" * 30_000_000})
        tasks.cancel_scope.cancel()
    assert answered == 2


async def test_a_header_with_a_line_break_is_not_sent() -> None:
    async with linked(echo) as (link, site):
        with pytest.raises(InvalidArguments, match="line break"):
            await link.request("x", None, headers={"Mcp-Name": "a\r\nX-Evil: 1"})
    assert site.requests == []


# -- where to ----------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def secured(context: ssl.SSLContext) -> AsyncIterator[tuple[HttpLink, Site]]:
    with anyio.fail_after(30):
        async with serve(echo, tls=context) as site, open_http("up", site.url, _config(site), Heard()) as link:
            yield link, site


def _config(site: Site) -> UpstreamConfig:
    return UpstreamConfig(url=site.url)


async def test_a_trusted_server_is_spoken_to_over_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context = self_signed(tmp_path, address="127.0.0.1")
    trusting = ssl.create_default_context(cafile=tmp_path / "both.pem")
    monkeypatch.setattr(http_dial, "trust", lambda: trusting)
    text = "x" * 1_000_000
    async with secured(context) as (link, site):
        for _ in range(3):
            assert (await link.request("x", {"text": text})).result == {"text": text}
    assert {request.connection for request in site.requests} == {1}


async def test_a_certificate_of_another_name_is_not_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
    context = self_signed(tmp_path, address="192.0.2.1")
    trusting = ssl.create_default_context(cafile=tmp_path / "both.pem")
    monkeypatch.setattr(http_dial, "trust", lambda: trusting)
    async with (
        serve(echo, tls=context) as site,
        open_http("up", site.url, UpstreamConfig(url=site.url), Heard()) as link,
    ):
        with pytest.raises(ConnectFailed, match="not trusted"):
            await link.request("x", None)
    assert site.requests == []


async def test_a_name_is_tried_at_all_its_addresses() -> None:
    addresses = {each[4][0] for each in socket.getaddrinfo("localhost", 1, type=socket.SOCK_STREAM)}
    async with serve(echo) as site:
        url = site.url.replace("127.0.0.1", "localhost")
        async with open_http("up", url, UpstreamConfig(url=url), Heard()) as link:
            assert (await link.request("x", {"a": 1})).result == {"a": 1}
    assert "127.0.0.1" in addresses
    assert site.requests[0].headers["host"].startswith("localhost:")


async def test_a_proxy_in_the_environment_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    async with linked(echo) as (link, _):
        assert (await link.request("x", {"a": 1})).result == {"a": 1}
