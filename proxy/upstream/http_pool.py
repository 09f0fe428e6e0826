"""The connections to one HTTP server: kept for a while after use, the youngest first, and never more than so many."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Final

from proxy.upstream.http_connection import Connection

KEEP_ALIVE: Final = 4.0
"""Seconds an idle connection is kept: less than the 5 s after which uvicorn and Node close theirs, so that no request
is written into a connection which the other side is just closing."""

Dial = Callable[[Callable[[Connection], None]], Awaitable[Connection]]


class Pool:
    """Hands out connections, each to one exchange at a time.

    Args:
        dial: makes a connection; it is given who hears that the connection is gone.
        limit: how many there may be; whoever wants one more waits for its turn.
    """

    def __init__(self, dial: Dial, limit: int) -> None:
        self._dial = dial
        self._limit = limit
        self._loop = asyncio.get_running_loop()
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._dialing = 0
        self._waiting: deque[asyncio.Future[None]] = deque()
        self._sweep: asyncio.TimerHandle | None = None
        self._emptied: asyncio.Future[None] | None = None

    def kept(self) -> Connection | None:
        """A connection that was used before, if there is one, without waiting."""
        idle = self._idle
        now = self._loop.time()
        while idle:
            connection = idle.pop()
            since = connection.idle_since
            if since is not None and now - since < KEEP_ALIVE and connection.alive:
                return connection
            connection.abort()
        return None

    async def take(self, *, fresh: bool = False) -> Connection:
        """A connection: a kept one, unless it has to be fresh, or a new one.

        Raises:
            Unconnected: none can be made.
        """
        while fresh or (found := self.kept()) is None:
            if len(self._open) + self._dialing < self._limit:
                return await self._new()
            if self._idle:
                self._idle.pop(0).abort()
            await self._turn()
        return found

    def give(self, connection: Connection) -> None:
        """An exchange is over: keep the connection if it can bear another one."""
        if connection.free:
            connection.idle_since = self._loop.time()
            self._idle.append(connection)
            if self._sweep is None:
                self._sweep = self._loop.call_later(KEEP_ALIVE, self._close_old)
            if self._waiting:
                self._wake_one()
        else:
            connection.abort()

    async def close(self) -> None:
        """Close all connections, and wait until they are closed."""
        self._limit = 0
        if self._sweep is not None:
            self._sweep.cancel()
        for connection in self._open:
            connection.abort()
        if self._open:
            self._emptied = self._loop.create_future()
            await self._emptied

    async def _new(self) -> Connection:
        self._dialing += 1
        try:
            connection = await self._dial(self._gone)
            self._open.add(connection)
            return connection
        finally:
            self._dialing -= 1
            self._wake_one()

    async def _turn(self) -> None:
        turn = self._loop.create_future()
        self._waiting.append(turn)
        try:
            await turn
        except BaseException:
            if turn.done() and not turn.cancelled():
                self._wake_one()  # it was our turn, and somebody else may have it
            else:
                self._waiting.remove(turn)
            raise

    def _wake_one(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return

    def _gone(self, connection: Connection) -> None:
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._wake_one()
        if self._emptied is not None and not self._open and not self._emptied.done():
            self._emptied.set_result(None)

    def _close_old(self) -> None:
        """Close what has been idle for too long; the oldest stand first."""
        now = self._loop.time()
        while self._idle and now - (self._idle[0].idle_since or 0.0) >= KEEP_ALIVE:
            self._idle.pop(0).abort()
        if self._idle:
            oldest = self._idle[0].idle_since or 0.0
            self._sweep = self._loop.call_later(oldest + KEEP_ALIVE - now, self._close_old)
        else:
            self._sweep = None
