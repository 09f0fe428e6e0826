"""Room for new sessions: a client that never says goodbye must not keep others out, nor fill the memory.

A handshake session ends when its client deletes it, or after ``server.session_idle`` without a request. Up to then it
costs memory, so there are at most ``server.max_sessions``. For one more, those go that were idle longest; a client that
comes back to such a session is told that it is gone, and opens another one (spec 2025-11-25, session management). A
session with a request under way, an open GET stream included, never goes: where all are busy, one more is refused.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, Final

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


class Room:
    """ASGI middleware before the handshake era's session manager.

    Args:
        app: what it stands before.
        live: the transports of the live sessions, by session id.
        most: how many sessions there may be.
        settle: brings the sessions' idle deadlines up to date.
    """

    def __init__(
        self, app: ASGIApp, live: Callable[[], Mapping[str, Any]], most: int, settle: Callable[[], None]
    ) -> None:
        self.app = app
        self._live = live
        self._most = most
        self._settle = settle
        self._coming = 0
        """Requests under way that may each open a session."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] != "POST" or not _opens(scope):
            await self.app(scope, receive, send)
            return
        self._coming += 1
        try:
            await self._make()
            await self.app(scope, receive, send)
        finally:
            self._coming -= 1

    async def _make(self) -> None:
        """End as many idle sessions as those need that are coming, and wait until they have left."""
        live = self._live()
        missing = len(live) + self._coming - self._most
        if missing <= 0:
            return
        self._settle()
        idle = sorted((one.idle_scope for one in live.values() if _is_idle(one)), key=lambda one: float(one.deadline))
        going = idle[: max(missing, self._most // _SHARE)]
        for scope in going:
            scope.cancel()
        log.info("downstream.sessions.ended", idle=len(going), live=len(live), limit=self._most)
        for _ in range(_TURNS):
            if len(self._live()) < self._most:
                break
            await anyio.lowlevel.checkpoint()


def _opens(scope: Scope) -> bool:
    """Whether a request may open a session: it belongs to none, and is not of the era that has none."""
    headers = dict(scope["headers"])
    return b"mcp-session-id" not in headers and headers.get(b"mcp-protocol-version") not in _MODERN


def _is_idle(transport: Any) -> bool:
    scope = transport.idle_scope
    return scope is not None and scope.deadline < math.inf and not scope.cancel_called
