"""What leaves on the one stream of a downstream: whole messages, one after the other, whoever says them.

A large message leaves in pieces, between which others run. So there is one writer: messages that come while it is busy,
or while the reader at the other end lags behind, wait for their turn, and nobody tears one by giving up in the middle.
"""

import asyncio
from abc import ABC, abstractmethod
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


class Outlet(ABC):
    """The writing end of a stream. ``run`` in a task as long as it is open."""

    def __init__(self) -> None:
        self._waiting: deque[tuple[bytes | Parts, str]] = deque()
        self._news = asyncio.Event()
        self._clear = asyncio.Event()
        """Nothing waits."""
        self._clear.set()
        self._gone = False
        self._held = 0

    @property
    def lags(self) -> bool:
        """Whether what is put now has to wait."""
        return not self._clear.is_set()

    @property
    def crowded(self) -> bool:
        """Whether so much waits that nothing should be done that makes more of it."""
        return self._held > CROWD

    def put(self, frame: bytes | Parts, upstream: str = "") -> None:
        """Send a message: now, or in its turn. Its line breaks, blanks between its tokens, become others.

        Args:
            frame: the message.
            upstream: on whose account a large one is written.
        """
        if self._gone:
            return
        if isinstance(frame, bytes) and len(frame) <= PIECE and not self.lags and self._at_once(frame):
            return
        self._waiting.append((frame, upstream))
        self._held += _size(frame)
        self._clear.clear()
        self._news.set()

    async def send(self, frame: bytes | Parts, upstream: str = "") -> None:
        """Send a message, and wait until there is room for another one."""
        self.put(frame, upstream)
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
                await self._write(*self._waiting[0])
                if self._waiting:
                    self._held -= _size(self._waiting.popleft()[0])
            self._written()

    def drop(self) -> None:
        """Nobody reads any more: what waits is dropped, and so is what is put from now on."""
        self._gone = True
        self._waiting.clear()
        self._held = 0
        self._clear.set()

    def _written(self) -> None:
        """All that has waited was written."""
        self._clear.set()

    @abstractmethod
    def _at_once(self, frame: bytes) -> bool:
        """Write a small message now, if that is possible."""

    @abstractmethod
    async def _write(self, frame: bytes | Parts, upstream: str) -> None:
        """Write a message as soon as the reader takes it."""


class Pipe(Outlet, asyncio.Protocol):
    """The writing end of a pipe, on which each message is a line, as a protocol of its transport."""

    _transport: asyncio.WriteTransport

    def __init__(self) -> None:
        super().__init__()
        self._flowing = asyncio.Event()
        """The transport takes more, or nothing any more."""
        self._flowing.set()

    # -- the transport's side ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The pipe is open."""
        self._transport = cast("asyncio.WriteTransport", transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Nobody reads any more."""
        log.debug("downstream.gone", reason="" if exc is None else str(exc))
        self.drop()
        self._flowing.set()

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

    def _written(self) -> None:
        if self._flowing.is_set():
            super()._written()

    def _at_once(self, frame: bytes) -> bool:
        self._say(plain(frame) + b"\n")
        return True

    def _say(self, data: bytes) -> None:
        if not self._transport.is_closing():  # otherwise ``connection_lost`` is on its way
            self._transport.write(data)

    async def _write(self, frame: bytes | Parts, upstream: str) -> None:
        del upstream  # a pipe has one reader, who waits for all of them
        if isinstance(frame, bytes) and len(frame) <= PIECE:
            await self._flowing.wait()
            self._at_once(frame)
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
