"""One connection to an HTTP server, with one exchange at a time: bytes out, a response in."""

import asyncio
from collections.abc import Callable
from typing import Final, cast

from proxy.wire.http1 import Garbled, Responses

HIGH_WATER: Final = 1 << 17
"""Bytes of a body that may wait to be read; then the peer has to wait."""
_ONE_WRITE: Final = 1 << 16
"""Up to this size a request goes out in one piece, headers and body."""


class Broken(Exception):
    """The connection ended or broke before the response was complete; ``reason`` says how."""

    def __init__(self, reason: str, *, untouched: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.untouched = untouched
        """Whether it was a kept connection that ended before any byte of the response."""


class NotHttp(Exception):
    """What came is no HTTP response; ``reason`` says what is wrong with it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Connection(asyncio.Protocol):
    """The protocol of one connection.

    Mutable state: the exchange under way, and who waits for it. Whoever holds it gives it back to its pool, or aborts.

    Args:
        lost: called once, when the connection is gone.
    """

    __slots__ = (
        "_error",
        "_gathering",
        "_loop",
        "_lost",
        "_paused",
        "_transport",
        "_used",
        "_waiter",
        "idle_since",
        "incoming",
    )

    def __init__(self, lost: Callable[["Connection"], None]) -> None:
        self.incoming = Responses()
        self.idle_since: float | None = None
        """When the last exchange ended, in seconds of the loop; None while one is under way."""
        self._lost = lost
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._error: Broken | NotHttp | None = None
        self._used = self._paused = False
        self._gathering = 0

    @property
    def alive(self) -> bool:
        """Whether another request may be sent."""
        return self._error is None and self._transport is not None and not self._transport.is_closing()

    @property
    def free(self) -> bool:
        """Whether the exchange has ended so that another one may begin."""
        transport = self._transport
        if not self.incoming.reusable or self._error is not None or transport is None or transport.is_closing():
            return False
        return not transport.get_write_buffer_size()  # an answer may come before all of the request went out

    async def exchange(self, head: bytes, body: bytes) -> None:
        """Send a request and wait for the head of its response (``incoming``). Abort the connection if that fails.

        Raises:
            Broken, NotHttp: there is none.
        """
        transport = cast("asyncio.Transport", self._transport)
        self.idle_since = None
        self._gathering = 0
        if self._used:
            self.incoming.begin()
        if len(body) <= _ONE_WRITE:
            transport.write(head + body)
        else:
            transport.writelines((head, body))
        while not self.incoming.status and self._error is None:
            await self._more()
        self._used = True
        if self._error is not None and not self.incoming.status:
            raise self._error

    async def some(self) -> bytes:
        """What comes next of the body; empty at its end.

        Raises:
            Broken: it breaks off.
        """
        incoming = self.incoming
        while not incoming.parts:
            if incoming.over:
                return b""
            if self._error is not None:
                raise self._error
            await self._more()
        data = incoming.take()
        if self._paused:
            self._paused = False
            cast("asyncio.Transport", self._transport).resume_reading()
        return data

    async def gather(self, limit: int) -> bytes | None:
        """The rest of the body, gathered without waking anybody meanwhile; None if it has more than ``limit`` bytes.

        Raises:
            Broken: it breaks off.
        """
        incoming = self.incoming
        self._gathering = limit
        if self._paused:
            self._paused = False
            cast("asyncio.Transport", self._transport).resume_reading()
        while not incoming.over and incoming.waiting <= limit:
            if self._error is not None:
                raise self._error
            await self._more()
        return incoming.take() if incoming.waiting <= limit else None

    def abort(self) -> None:
        """Close at once, whatever is under way."""
        if self._transport is not None:
            self._transport.abort()

    # -- what the transport calls --------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The connection is there."""
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        """Take what comes; whoever waits is woken only when there is something for it."""
        incoming = self.incoming
        try:
            incoming.feed(data)
        except Garbled as error:
            self._fail(Broken("the answer broke off") if incoming.status else NotHttp(error.reason))
            self.abort()
            return
        if incoming.over:
            if self.idle_since is not None and not incoming.reusable:
                self.abort()  # nobody asked for it
            self._wake()
        elif incoming.status:
            self._came(incoming)

    def _came(self, incoming: Responses) -> None:
        if self._gathering:
            if incoming.waiting > self._gathering:
                self._wake()
            return
        self._wake()
        if incoming.waiting >= HIGH_WATER and not self._paused:
            self._paused = True
            cast("asyncio.Transport", self._transport).pause_reading()

    def eof_received(self) -> bool:
        """The peer will send no more."""
        self._ended(None)
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        self._ended(exc)
        self._error = self._error or Broken("the connection is closed")
        self._transport = None
        self.incoming.close()
        self._lost(self)

    def _ended(self, error: Exception | None) -> None:
        incoming = self.incoming
        if self._error is not None or incoming.over or self.idle_since is not None:
            return
        if error is None and incoming.end():
            self._wake()
            return
        why = "the answer broke off" if incoming.status else "the server closed the connection"
        if isinstance(error, OSError):
            why = error.strerror or type(error).__name__
        self._fail(Broken(why, untouched=self._used and not incoming.started))

    def _fail(self, error: Broken | NotHttp) -> None:
        self._error = self._error or error
        self._wake()

    async def _more(self) -> None:
        waiter = self._waiter = self._loop.create_future()
        try:
            await waiter
        finally:
            self._waiter = None

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
