"""Limits: what is too much is refused with an error that says so, and costs nobody else anything."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import aiohttp
import anyio
import pytest
from anyio.abc import SocketStream
from starlette.applications import Starlette

from proxy.config.model import Config
from proxy.errors import ProtocolFault, QueueFull
from proxy.gateway import heads
from proxy.gateway.heads import LARGEST
from proxy.gateway.places import Places
from proxy.gateway.serving import bind, http_server
from proxy.model import Caller
from proxy.router import Request
from proxy.runtime import Runtime, background
from tests.support.manifold import Home, Manifold, serving
from tests.support.scripted import upstream


@asynccontextmanager
async def raw(manifold: Manifold) -> AsyncIterator[SocketStream]:
    port = int(manifold.base.rpartition(":")[2])
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        yield stream


async def heard(stream: SocketStream) -> bytes:
    told = b""
    with anyio.fail_after(20):
        try:
            while True:
                told += await stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            return told


@pytest.mark.parametrize("piece", [b"x-one: " + b"a" * 4000, b"x: y\r\n" * 1000], ids=["one header", "many"])
async def test_a_head_that_never_ends_is_cut(tmp_path: Path, piece: bytes) -> None:
    async with serving(Home(tmp_path).write({})) as manifold, raw(manifold) as stream:
        await stream.send(b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        with anyio.fail_after(20):
            try:
                for _ in range(LARGEST // 1000):
                    await stream.send(piece)
            except anyio.BrokenResourceError:
                pass  # it was cut while we were still talking
        told = await heard(stream)
        assert told == b"" or told.startswith(b"HTTP/1.1 431 ")
        await manifold.event("downstream.head_too_large")
        async with aiohttp.ClientSession() as http, http.get(manifold.base + "/livez") as answer:
            assert answer.status == 200


async def test_heads_within_the_limit_are_served_one_after_the_other_and_at_once(tmp_path: Path) -> None:
    async with serving(Home(tmp_path).write({})) as manifold, raw(manifold) as stream:
        one = b"GET /livez HTTP/1.1\r\nHost: 127.0.0.1\r\nx-long: " + b"a" * 30_000 + b"\r\n\r\n"
        told = b""
        with anyio.fail_after(20):
            for half in (one[:20_000], one[20_000:], one + one[:7], one[7:]):
                await stream.send(half)
            while told.count(b"HTTP/1.1 200") < 3:
                told += await stream.receive()


async def test_a_head_that_never_comes_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heads, "PATIENCE", 0.1)
    server = http_server(Starlette())
    sock = bind("127.0.0.1", 0)
    async with background() as tasks:
        tasks.start_soon(partial(server.serve, sockets=[sock]))
        for beginning in (b"", b"GET / HTTP/1.1\r\nHost: x\r\n"):
            with anyio.fail_after(20):
                async with await anyio.connect_tcp("127.0.0.1", sock.getsockname()[1]) as stream:
                    if beginning:
                        await stream.send(beginning)
                    assert await heard(stream) == b""
        server.stop(now=True)
    sock.close()


async def test_a_result_over_the_limit_of_its_upstream_is_an_error_and_the_call_has_run() -> None:
    entry = upstream("a", "work", max_result="2KiB")
    async with Runtime(Config.model_validate({"upstreams": {"a": entry}})) as runtime:
        runtime.start()

        async def call(size: int) -> None:
            arguments = {"do": "swell", "size": size}
            request = Request("tools/call", {"name": "mcp_a_work", "arguments": arguments}, Caller())
            with anyio.fail_after(20):
                await runtime.router.send(await runtime.router.route(request))

        await call(10)
        with pytest.raises(ProtocolFault, match="over the limit of 2048") as caught:
            await call(4000)
        assert caught.value.sent.value == "yes"
        assert "max_result" in caught.value.hint
        await call(10)


async def test_legacy_sessions_beyond_the_limit_are_refused(tmp_path: Path) -> None:
    home = Home(tmp_path).write({}, server={"max_sessions": 1})
    async with serving(home) as manifold, aiohttp.ClientSession() as http:
        with anyio.fail_after(20):
            async with http.get(manifold.base + "/sse") as first:
                assert first.status == 200
                async with http.get(manifold.base + "/sse") as second:
                    assert second.status == 503


def test_there_are_so_many_places() -> None:
    places = Places(1, "listen streams")
    with places.one(), pytest.raises(QueueFull, match="too many listen streams"), places.one():
        pass
    with places.one():
        pass
