"""What leaves on a pipe: whole lines, one after the other, whoever says them.

A large line leaves in pieces, between which others run. So there is one writer: lines that come while it is busy, or
while the reader at the other end lags behind, wait for their turn, and nobody tears a line by giving up in the middle.
"""

import asyncio
from collections import deque
from typing import Final, cast

import anyio.lowlevel
import structlog

from proxy.gateway.pieces import Parts, gathered, plain, size_of
from proxy.service.courtesy import give_way

log = structlog.get_logger(__name__)

PIECE: Final = 1 << 17
"""Bytes that are written at once."""

CROWD: Final = 1 << 23
"""Bytes of lines that wait, beyond which no new calls are begun."""


class Outlet(asyncio.Protocol):
    """The writing end of a pipe, as a protocol of its transport. ``run`` in a task as long as it is open."""

    _transport: asyncio.WriteTransport

    def __init__(self) -> None:
        self._waiting: deque[bytes | Parts] = deque()
        self._news = asyncio.Event()
        self._flowing = asyncio.Event()
        """The transport takes more, or nothing any more."""
        self._flowing.set()
        self._clear = asyncio.Event()
        """Nothing waits either."""
        self._clear.set()
        self._gone = False
        self._held = 0

    # -- the transport's side ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The pipe is open."""
        self._transport = cast("asyncio.WriteTransport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody reads any more: what waits is dropped."""
        log.debug("downstream.gone", reason="" if exc is None else str(exc))
        self._gone = True
        self._waiting.clear()
        self._held = 0
        self._flowing.set()
        self._clear.set()

    def pause_writing(self) -> None:
        """The reader lags behind."""
        self._flowing.clear()
        self._clear.clear()

    def resume_writing(self) -> None:
        """It has caught up."""
        self._flowing.set()
        if not self._waiting:
            self._clear.set()

    # -- our side ------------------------------------------------------------------------------------------------------

    @property
    def lags(self) -> bool:
        """Whether what is put now has to wait."""
        return not self._clear.is_set()

    @property
    def crowded(self) -> bool:
        """Whether so much waits that nothing should be done that makes more of it."""
        return self._held > CROWD

    def put(self, frame: bytes | Parts) -> None:
        """Send a message as a line: now, or in its turn. Its line breaks, blanks between its tokens, become others."""
        if self._gone:
            return
        if isinstance(frame, bytes) and len(frame) <= PIECE and not self.lags:
            self._say(plain(frame) + b"\n")
            return
        self._waiting.append(frame)
        self._held += _size(frame)
        self._clear.clear()
        self._news.set()

    async def send(self, frame: bytes | Parts) -> None:
        """Send a message as a line, and wait until there is room for another one."""
        self.put(frame)
        if self.lags:
            await self.room()

    async def room(self) -> None:
        """Wait until nothing waits."""
        while self.lags:
            await self._clear.wait()

    async def run(self) -> None:
        """Write what has to wait, until cancelled."""
        while True:
            await self._news.wait()
            self._news.clear()
            while self._waiting:
                await self._write(self._waiting[0])
                if self._waiting:
                    self._held -= _size(self._waiting.popleft())
            if self._flowing.is_set():
                self._clear.set()

    async def flushed(self) -> None:
        """Wait until everything has left, or cannot."""
        await self.room()
        if not self._gone:
            self._transport.set_write_buffer_limits(0)
            await self._flowing.wait()

    def close(self) -> None:
        """Drop what is left."""
        if not self._gone:
            self._transport.abort()

    def _say(self, data: bytes) -> None:
        if not self._transport.is_closing():  # otherwise ``connection_lost`` is on its way
            self._transport.write(data)

    async def _write(self, frame: bytes | Parts) -> None:
        if isinstance(frame, bytes) and len(frame) <= PIECE:
            await self._flowing.wait()
            self._say(plain(frame) + b"\n")
            return
        for piece in gathered(frame, PIECE):
            await self._flowing.wait()
            if self._gone:
                return
            self._say(plain(piece))
            give_way()
            await anyio.lowlevel.checkpoint()
        self._say(b"\n")


def _size(frame: bytes | Parts) -> int:
    return len(frame) if isinstance(frame, bytes) else size_of(frame)
