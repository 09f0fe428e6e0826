"""Raw requests to a server of ours in the test's own process, and all that it says to them."""

import asyncio
import gc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import anyio
from starlette.types import ASGIApp

from proxy.gateway.serving import HttpServer, bind, http_server


@asynccontextmanager
async def running(
    app: ASGIApp, protocol: type[Any] | None = None, keep_alive: float = 5.0
) -> AsyncIterator[tuple[HttpServer, int]]:
    """Serve an app, by another protocol if one is given; the server and its port."""
    server = http_server(app)
    if protocol is not None:
        server.config.http = protocol
    server.config.timeout_keep_alive = cast("int", keep_alive)
    sock = bind("127.0.0.1", 0)
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: server.serve(sockets=[sock]))
            try:
                yield server, sock.getsockname()[1]
            finally:
                server.stop(now=True)


def request(body: bytes, *lines: str, version: str = "1.1", method: str = "POST", path: str = "/hot") -> bytes:
    """A whole request."""
    head = [f"{method} {path} HTTP/{version}", "Host: x", f"Content-Length: {len(body)}", *lines]
    return "\r\n".join([*head, "", ""]).encode() + body


async def told(port: int, *pieces: bytes) -> bytes:
    """All that a server says to some bytes, which come one after the other, until it closes the connection."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
        await asyncio.sleep(0)
    try:
        return await reader.read()
    finally:
        writer.close()
        await writer.wait_closed()


async def read_late(port: int, body: bytes, times: int) -> None:
    """Send a request many times without reading anything, and then read until all bodies have come back."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(times):
        writer.write(request(body))
    with anyio.move_on_after(1):
        await writer.drain()
    seen = 0
    while seen < times * len(body):
        seen += len(await reader.read(1 << 20))
    writer.close()
    await writer.wait_closed()


async def left_to_the_collector(port: int, ends: bytes = b"") -> int:
    """How many objects fifty answers leave to the garbage collector, on a connection that has had some before."""
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:

        async def ask() -> None:
            await stream.send(request(b"{}"))
            said = await stream.receive()
            while not said.endswith(ends):
                said += await stream.receive()

        for _ in range(3):
            await ask()
        gc.collect()
        gc.disable()
        try:
            for _ in range(50):
                await ask()
            return gc.collect()
        finally:
            gc.enable()
