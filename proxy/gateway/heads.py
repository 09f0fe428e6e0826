"""Limits on what comes before the body of an HTTP request, which uvicorn's fast parser does not have."""

import asyncio
from typing import Final

import structlog
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

log = structlog.get_logger(__name__)

LARGEST: Final = 64 * 1024
"""Bytes that the head of a request may have: its first line and all headers."""
PATIENCE: Final = 30.0
"""Seconds in which a head that has begun must have come, and the first byte on a new connection."""

_TOO_LARGE: Final = b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"


class BoundedHeads(HttpToolsProtocol):
    """uvicorn's HTTP protocol, for heads of bounded size that come in bounded time.

    Headers end with the head: what comes behind a body (trailers) is dropped. uvicorn would put it among the headers,
    where it could stand in for a credential (RFC 9110, 6.5.1), and would take any amount of it.
    """

    _in_head = False
    _head = 0
    _moved = False
    _deadline: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Somebody connected, and has so much time to say something."""
        super().connection_made(transport)
        self._deadline = self.loop.call_later(PATIENCE, self._give_up)

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._relax()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Feed the parser; what it has of a head and cannot complete yet counts."""
        if self._deadline is not None and not self._in_head:
            self._relax()
        self._moved = False
        super().data_received(data)
        if self._in_head and self._deadline is None:
            self._deadline = self.loop.call_later(PATIENCE, self._give_up)
        if self._in_head or not self._moved:
            self._head += len(data)
            if self._head > LARGEST and not self.transport.is_closing():
                log.warning("downstream.head_too_large", client=str(self.client), limit=LARGEST)
                if self._in_head:
                    self.transport.write(_TOO_LARGE)
                self.transport.close()

    def on_message_begin(self) -> None:
        """A head begins."""
        self._in_head = True
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """It is complete."""
        self._head_came()
        super().on_headers_complete()
        self.headers = []  # the scope has its own by now

    def _head_came(self) -> None:
        self._in_head = False
        self._head = 0
        self._moved = True
        self._relax()

    def on_body(self, body: bytes) -> None:
        """A part of the body came."""
        self._body_came()
        super().on_body(body)

    def _body_came(self) -> None:
        self._head = 0
        self._moved = True

    def _relax(self) -> None:
        if self._deadline is not None:
            self._deadline.cancel()
            self._deadline = None

    def _give_up(self) -> None:
        self._deadline = None
        if not self.transport.is_closing():
            log.debug("downstream.head_too_slow", client=str(self.client))
            self.transport.close()
