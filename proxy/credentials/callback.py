"""The local door to which a browser comes back after a login: one request that counts, then it is closed."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Final
from urllib.parse import parse_qs, urlsplit

import anyio
from anyio.abc import Listener, SocketAttribute, SocketStream

PATH: Final = "/callback"
_HEAD: Final = 16 * 1024
_PATIENCE: Final = 5.0
_PAGE: Final = (
    b"<!doctype html><meta charset=utf-8><title>Manifold</title><body style='font:1.2em system-ui;margin:3em'>"
    b"<p>%s<p>You may close this window."
)


class Callback:
    """What came back. ``door`` makes one."""

    def __init__(self, port: int) -> None:
        self.uri = f"http://127.0.0.1:{port}{PATH}"
        """Where the browser is to be sent."""
        self._url = ""
        self._state = ""
        self._came = anyio.Event()

    def expect(self, page: str) -> None:
        """From now on a browser may come back from this page; what belongs to no login does not count."""
        self._state = state_of(page)

    async def url(self) -> str:
        """Wait for the URL to which the browser is sent back."""
        await self._came.wait()
        return self._url

    async def serve(self, stream: SocketStream) -> None:
        """Answer one connection. Anything but a login's answer is nothing to us."""
        async with stream:
            with anyio.move_on_after(_PATIENCE):
                try:
                    await self._answer(stream)
                except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                    return  # the browser thought better of it

    async def _answer(self, stream: SocketStream) -> None:
        head = b""
        while b"\r\n\r\n" not in head and len(head) < _HEAD:
            head += await stream.receive()
        method, _, rest = head.decode("latin-1").partition(" ")
        target = rest.partition(" ")[0]
        parts = urlsplit(target)
        asked = parse_qs(parts.query)
        if method != "GET" or parts.path != PATH or not self._state or asked.get("state") != [self._state]:
            await stream.send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        page = _PAGE % (b"The login was refused." if "error" in asked else b"Thank you; Manifold goes on by itself.")
        await stream.send(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n"
            b"Cache-Control: no-store\r\nReferrer-Policy: no-referrer\r\n"
            b"Content-Security-Policy: default-src 'none'; style-src 'unsafe-inline'\r\n"
            b"Content-Length: %d\r\nConnection: close\r\n\r\n%s" % (len(page), page)
        )
        self._url = f"{self.uri}?{parts.query}"
        self._came.set()


async def _listener(port: int, *, strict: bool) -> Listener[SocketStream]:
    try:
        return await anyio.create_tcp_listener(local_host="127.0.0.1", local_port=port)
    except OSError:
        if strict or not port:
            raise
    return await anyio.create_tcp_listener(local_host="127.0.0.1")


def state_of(page: str) -> str:
    """The state that a login page was asked to send back."""
    return parse_qs(urlsplit(page).query).get("state", [""])[0]


@asynccontextmanager
async def door(port: int = 0, *, strict: bool = False) -> AsyncIterator[Callback]:
    """Listen on this machine for as long as the block runs; 0 is any free port, as is another one that is taken.

    Raises:
        OSError: the port is taken, and it had to be this one (``strict``).
    """
    async with await _listener(port, strict=strict) as listener:
        callback = Callback(listener.extra(SocketAttribute.local_port))  # noqa: S610 - anyio's, not Django's
        tasks = await anyio.create_task_group().__aenter__()
        try:
            tasks.start_soon(listener.serve, callback.serve)
            yield callback
        finally:
            tasks.cancel_scope.cancel()
            await tasks.__aexit__(None, None, None)  # what the block raises goes on as it is, in no group
