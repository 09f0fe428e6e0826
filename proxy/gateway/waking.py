"""What the express lane does not serve itself in a session that rests: the SDK gets the session first, and then that.

Some things need no SDK session all the same: listening to news, and ending the session.
"""

from collections.abc import Awaitable, Callable
from typing import Final

import anyio
import anyio.lowlevel
import msgspec
import structlog
from mcp.server.connection import Connection
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from proxy.errors import INVALID_REQUEST
from proxy.gateway import seams
from proxy.gateway.admission import VERSION
from proxy.gateway.channel import Channel
from proxy.gateway.downstream import who_in
from proxy.gateway.events import Audience, Listener, missed
from proxy.gateway.intake import SESSION
from proxy.gateway.lane import JSON_TYPE
from proxy.gateway.news import GET_STREAM, PING_AFTER, News, go_on
from proxy.gateway.opened import Open
from proxy.gateway.sessions import Sessions
from proxy.gateway.silent import Silent
from proxy.gateway.welcome import INITIALIZE, Welcome
from proxy.model import HANDSHAKE_VERSIONS, Params, owner_of
from proxy.service import expiry
from proxy.service.clock import SYSTEM
from proxy.wire import envelope

INITIALIZED: Final = "notifications/initialized"

_OPENING: Final = "manifold:opening"
"""The id of an ``initialize`` that is said again; no client's request has it."""
_TURNS: Final = 50
"""Turns of the event loop in which the SDK takes over a stream."""
_CONFLICT: Final = "Conflict: Only one SSE stream is allowed per session"

log = structlog.get_logger(__name__)


class Waking:
    """Serves what comes to resting sessions and is not for the lane.

    Args:
        sessions: all of them.
        welcome: opens them.
        audience: who hears of list changes.
    """

    def __init__(self, sessions: Sessions, welcome: Welcome, audience: Audience) -> None:
        self.sessions = self._sessions = sessions
        self.welcome = welcome
        self._audience = audience
        self._pings = expiry.Lane(SYSTEM, PING_AFTER)
        self.reviver: seams.Reviver | None = None
        """Opens the SDK's sessions."""

    async def serve(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request to the endpoint, by the app behind the lane if need be."""
        session = self._session(scope)
        if session is not None and session.resting:
            if scope["method"] == "DELETE" and await self._end(session, send):
                return
            if scope["method"] == "GET" and await self.listen(app, scope, (receive, send)):
                return
            await self.wake(session, scope)
        await app(scope, receive, send)

    async def listen(self, app: ASGIApp, scope: Scope, channel: tuple[Receive, Send]) -> bool:
        """Serve a GET that asks a resting session for news; False if it was not touched.

        Args:
            app: goes on with it when the session has been woken.
            scope: of the request.
            channel: its ASGI channel.
        """
        session = self._session(scope)
        if session is None or not session.resting or not _plain(scope):
            return False
        receive, send = channel
        await self._listen(session, app, (scope, receive, send))
        return True

    def initialized(self, session: Open, agent: str | None) -> None:
        """The client of a resting session is ready: from now on it may be told of changes."""
        if not session.initialized:
            session.initialized = True
            session.seen = self._audience.counts(agent)
            self._enlist(session, agent)

    def enlisted(self, connection: Connection) -> None:
        """The SDK's side tells a session of list changes from now on."""
        if connection.session_id is not None:
            self._sessions.unlist(connection.session_id)

    async def wake(self, session: Open, scope: Scope) -> None:
        """Let the SDK have a session, once; ``scope`` is of a request that belongs to it."""
        async with session.lock:
            if session.resting and self._sessions.rests(session):
                with anyio.CancelScope(shield=True):
                    await self._wake(session, scope)

    # -- what needs no SDK session -------------------------------------------------------------------------------------

    async def _end(self, session: Open, send: Send) -> bool:
        async with session.lock:
            if not session.resting:
                return False
            self._sessions.end(session)
        await _answer(send, 200, session)
        return True

    async def _listen(self, session: Open, app: ASGIApp, channel: tuple[Scope, Receive, Send]) -> None:
        scope, receive, send = channel
        if session.news is not None:
            await _answer(send, 409, session, envelope.error(None, INVALID_REQUEST, _CONFLICT))
            return
        news = session.news = News(send, self._sessions.store_of(session), self._pings)
        agent = who_in(scope).agent
        counts = self._audience.counts(agent)
        self._enlist(session, agent)
        try:
            await news.serve(session.headers, receive, missed(session.seen or counts, counts))
        finally:
            session.news = None
            session.seen = self._audience.counts(agent) if session.initialized else None
            if session.resting:
                self._sessions.unlist(session.session_id)
                self._sessions.touch(session)
        if news.handed:
            await go_on(app, scope, receive, news.rest)

    def _enlist(self, session: Open, agent: str | None) -> None:
        """Tell a session of list changes, as soon as it is ready for that and listens."""
        if not session.initialized or session.news is None:
            return

        async def tell(method: str, params: Params | None) -> None:
            async with session.lock:  # never in the middle of waking
                news, connection = session.news, session.connection
            if connection is not None:
                await connection.notify(method, params)
            elif news is not None:
                await news.notify(method, params)

        self._sessions.list_as(session, self._audience.add(Listener(agent, tell)))

    # -- waking --------------------------------------------------------------------------------------------------------

    async def _wake(self, session: Open, scope: Scope) -> None:
        try:
            risen = await self._rise(session, scope)
        except BaseException:
            self._sessions.end(session)  # half of it is at the SDK: its client opens another one
            raise
        if not risen:
            return
        log.debug("downstream.session.woken", method=scope["method"])
        if session.news is not None:
            session.news.hand_over()
            await self._taken_over(session)
        if session.initialized:
            ready = Silent(scope, envelope.notification(INITIALIZED, None), within=True)
            await self._sessions.transports()[session.session_id].handle_request(ready.scope, ready.receive, ready.send)

    async def _rise(self, session: Open, scope: Scope) -> bool:
        hello = Silent(scope, envelope.request(_OPENING, INITIALIZE, msgspec.Raw(session.hello)))
        store = self._sessions.store_of(session)
        if self.reviver is None or not await self.reviver.revive(session.session_id, store, hello):
            log.warning("downstream.session.not_woken", status=hello.status)
            self._sessions.end(session)
            return False
        if self._sessions.risen(session):
            return True
        await self._sessions.transports()[session.session_id].terminate()  # it was ended meanwhile
        return False

    async def _taken_over(self, session: Open) -> None:
        """Wait until the SDK sends news to the stream that was handed over."""
        for _ in range(_TURNS):
            transport = self._sessions.transports().get(session.session_id)
            if transport is None or seams.resumed(transport, GET_STREAM) is not None:
                return
            await anyio.lowlevel.checkpoint()
        log.warning("downstream.stream.not_taken_over")

    def _session(self, scope: Scope) -> Open | None:
        headers = scope["headers"]
        ids = [value for name, value in headers if name == SESSION]
        versions = [value.decode("latin-1") for name, value in headers if name == VERSION]
        if len(ids) != 1 or any(version not in HANDSHAKE_VERSIONS for version in versions):
            return None
        return self._sessions.find(ids[0], owner_of(*who_in(scope)))


def _plain(scope: Scope) -> bool:
    """Whether a GET asks for nothing but news from now on."""
    headers = dict(scope["headers"])
    return b"last-event-id" not in headers and b"text/event-stream" in headers.get(b"accept", b"")


async def taken_note(channel: Channel, session: Open) -> None:
    """Answer a notification."""
    await _answer(channel.send, 202, session)


async def _answer(send: Callable[[Message], Awaitable[None]], status: int, session: Open, body: bytes = b"") -> None:
    length = (b"content-length", str(len(body)).encode())
    await send({"type": "http.response.start", "status": status, "headers": [JSON_TYPE, length, *session.headers]})
    await send({"type": "http.response.body", "body": body})
