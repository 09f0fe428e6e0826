"""Room for new sessions: a client that never says goodbye must not keep others out, nor fill the memory.

A handshake session ends when its client deletes it, or after ``server.session_idle`` without a request. Up to then it
costs memory, so there are at most ``server.max_sessions``. For one more, those go that were idle longest; a client that
comes back to such a session is told that it is gone, and opens another one (spec 2025-11-25, session management). A
session with a request under way, an open GET stream included, never goes: where all are busy, one more is refused.
"""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Final, Protocol

import anyio.lowlevel
import structlog
from starlette.types import ASGIApp, Receive, Scope, Send

from proxy.model import MODERN_VERSIONS

_SHARE: Final = 100
"""One session in so many goes at once, so that room need not be made for each comer."""

_TURNS: Final = 20
"""Turns of the event loop in which a session that was ended may leave."""

_MODERN: Final = frozenset(version.encode() for version in MODERN_VERSIONS)

log = structlog.get_logger(__name__)


class Idle(Protocol):
    """A session in which nothing goes on."""

    @property
    def deadline(self) -> float:
        """When it ends by itself, by the clock of the loop."""
        ...

    def cancel(self) -> None:
        """End it."""
        ...


class Hosted(Protocol):
    """All sessions."""

    def __len__(self) -> int:
        """How many there are, with those that are on their way out."""
        ...

    def leaving(self) -> int:
        """How many are on their way out: those who come at the same time need not end others for that."""
        ...

    def idle(self) -> Sequence[Idle]:
        """Those in which nothing goes on, and that may end."""
        ...


class Room:
    """Makes room.

    Args:
        sessions: all of them.
        most: how many there may be.
    """

    def __init__(self, sessions: Hosted, most: int) -> None:
        self._sessions = sessions
        self._most = most
        self._coming = 0
        """Requests under way that may each open a session."""

    @property
    def left(self) -> bool:
        """Whether there is room for one more."""
        return len(self._sessions) - self._sessions.leaving() < self._most

    def over(self, app: ASGIApp) -> ASGIApp:
        """An app before which room is made, if it may open a session."""

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http" or scope["method"] != "POST" or not _opens(scope):
                await app(scope, receive, send)
                return
            async with self.coming():
                await app(scope, receive, send)

        return serve

    @asynccontextmanager
    async def coming(self) -> AsyncIterator[None]:
        """Within this block a session may be opened."""
        self._coming += 1
        try:
            await self._make()
            yield
        finally:
            self._coming -= 1

    async def _make(self) -> None:
        """End as many idle sessions as those need that are coming, and wait until they have left."""
        live = len(self._sessions)
        if live + self._coming <= self._most:
            return
        missing = live - self._sessions.leaving() + self._coming - self._most
        if missing > 0:
            idle = sorted(self._sessions.idle(), key=lambda one: float(one.deadline))
            going = idle[: max(missing, self._most // _SHARE)]
            for one in going:
                one.cancel()
            log.info("downstream.sessions.ended", idle=len(going), live=live, limit=self._most)
        for _ in range(_TURNS):
            if len(self._sessions) < self._most:
                break
            await anyio.lowlevel.checkpoint()


def _opens(scope: Scope) -> bool:
    """Whether a request may open a session: it belongs to none, and is not of the era that has none."""
    headers = dict(scope["headers"])
    return b"mcp-session-id" not in headers and headers.get(b"mcp-protocol-version") not in _MODERN
