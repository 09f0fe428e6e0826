"""The express lane of the door for legacy SSE (2024-11-05): hot requests on bytes (``stream_lane.py``).

The SDK opens each session, names its address, introduces it and serves whatever is out of the ordinary. What it says on
the session's stream passes through here, so that it and the lane's answers leave in turn, event by event. A request is
answered twice: its POST at once, by 202, and then on the stream.
"""

import asyncio
import re
from collections.abc import AsyncIterator, Coroutine, Mapping
from contextlib import asynccontextmanager
from contextvars import ContextVar
from typing import Any, Final

import structlog
from mcp.server.connection import Connection
from mcp.server.transport_security import DEFAULT_MAX_REQUEST_BODY_SIZE
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from proxy.gateway.answerer import Answerer
from proxy.gateway.channel import Asgi, Channel
from proxy.gateway.downstream import Who, who_in
from proxy.gateway.intake import SESSION, again, body_of, bounded, posted
from proxy.gateway.known import Known
from proxy.gateway.paths import PREFIX
from proxy.gateway.replying import DECLINED, way_of
from proxy.gateway.shortcut import Vouched
from proxy.gateway.sse_outlet import Ready, SseOutlet
from proxy.gateway.stream_lane import Begin, Request, StreamLane
from proxy.model import owner_of
from proxy.runtime import Runtime
from proxy.wire.depth import too_deep

log = structlog.get_logger(__name__)

SSE_PATH: Final = "/sse"
MESSAGES_PATH: Final = "/messages"

MANY: Final = 256
"""Requests of a client that does not read, beyond which its POSTs wait for an answer."""

_MESSAGES: Final = MESSAGES_PATH + "/"
_NAMED: Final = re.compile(rb"session_id=([0-9a-f]{32})")
_ADDRESS: Final = re.compile(
    rb"(?:%b([A-Za-z0-9_.-]+))?%b\?%b" % (re.escape(PREFIX.encode()), re.escape(_MESSAGES.encode()), _NAMED.pattern)
)
_ACCEPTED: Final = (b"content-type: text/plain; charset=utf-8\r\n", b"Accepted")

_sender: ContextVar["SseSession | None"] = ContextVar("manifold_legacy_session", default=None)
"""The session that the message under way is for: the SDK serves it in the context in which it came."""


def is_messages(path: str) -> bool:
    """Whether a path is where legacy SSE takes messages."""
    return path == MESSAGES_PATH or path.startswith(_MESSAGES)


class SseLane:
    """Serves the hot requests of all legacy SSE sessions.

    Args:
        runtime: the upstreams.
        answerer: knows the answers.
    """

    def __init__(self, runtime: Runtime, answerer: Answerer) -> None:
        self._runtime = runtime
        self._answerer = answerer
        self._sessions: dict[bytes, SseSession] = {}
        self._vouched = Vouched()
        """What came through the guards before this lane: it may come past ASGI, too."""

    def over(self, app: ASGIApp) -> ASGIApp:
        """The lane in front of an app, which has the sessions, and where everything goes that the lane leaves alone."""

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            method = scope["method"] if scope["type"] == "http" else ""
            if method == "GET" and scope["path"] == SSE_PATH:
                await self._listen(app, scope, receive, send)
            elif method == "POST" and is_messages(scope["path"]):
                await self._post(app, scope, receive, send)
            else:
                await app(scope, receive, send)

        return serve

    def fit(self, url: bytes, scope: Scope, largest: int) -> Known | None:
        """What the head says of a POST that may come past ASGI (``hot.py``); None of any other."""
        address = _ADDRESS.fullmatch(url)
        headers = None if address is None else posted(scope)
        if address is None or headers is None or not _plain(headers):
            return None
        if not bounded(headers, largest) or not self._vouched.knows(scope, headers):
            return None
        return Known(headers, None if address[1] is None else address[1].decode(), address[2])

    def take(self, known: Known, body: bytes, who: Who, channel: Channel) -> Coroutine[Any, Any, None] | None:
        """Serve a message for whoever has found out whom it is from: what is to be awaited, or None."""
        session = None if known.legacy is None else self._sessions.get(known.legacy)
        if session is None or session.owner != known.owner:
            return None
        if len(body) > DEFAULT_MAX_REQUEST_BODY_SIZE or too_deep(body):
            return None
        begin = session.look(body, who)
        return None if begin is None else session.accept(begin, channel)

    def opened(self, connection: Connection) -> None:
        """The SDK has introduced the downstream of a connection; it may be one of this door."""
        session = _sender.get()
        if session is not None:
            session.opened(connection)

    async def _post(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        named = _NAMED.fullmatch(scope["query_string"])
        headers = None if named is None or scope.get(DECLINED) else posted(scope)
        if named is not None and headers is not None and _plain(headers):
            self._vouched.note(scope, headers)
            body = await body_of(receive)
            known = Known(headers, legacy=named[1])
            who = known.who(*who_in(scope))
            taken = None if body is None else self.take(known, body, who, Asgi(scope, receive, send))
            if taken is not None:
                await taken
                return
            receive = again(body, receive)
        token = _sender.set(None if named is None else self._sessions.get(named[1]))
        try:
            await app(scope, receive, send)
        finally:
            _sender.reset(token)

    async def _listen(self, app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        outlet = SseOutlet(send, way_of(scope))
        session = SseSession(self._runtime, self._answerer, outlet, owner_of(*who_in(scope)))
        number = b""

        async def said(message: Message) -> None:
            nonlocal number
            body = message.get("body")
            if not body or not message.get("more_body"):
                if message["type"] == "http.response.body":
                    outlet.drop()  # it is the end
                await send(message)
                return
            if not number and (named := _NAMED.search(body)) is not None:
                number = named[1]
                self._sessions[number] = session
            await outlet.send(Ready(body))

        async def heard() -> Message:
            message = await receive()
            if message["type"] == "http.disconnect":
                outlet.drop()  # a part of what was said would come before the end of the response
            return message

        async with session.serving():
            try:
                await app(scope, heard, said)
            finally:
                self._sessions.pop(number, None)


class SseSession(StreamLane):
    """Serves the hot requests of one session.

    Args:
        runtime: the upstreams.
        answerer: knows the answers.
        outlet: its stream.
        owner: whose it is.
    """

    outlet: SseOutlet

    def __init__(self, runtime: Runtime, answerer: Answerer, outlet: SseOutlet, owner: str) -> None:
        super().__init__(runtime, answerer, outlet)
        self.owner = owner

    @asynccontextmanager
    async def serving(self) -> AsyncIterator[None]:
        """Serve as long as the block runs, which has the stream."""
        self._start(self.outlet.run(), self._unwritten)
        try:
            yield
        finally:
            self.outlet.drop()
            await self.end()

    def _unwritten(self, task: asyncio.Task[None]) -> None:
        """Nothing is written any more that has to wait."""
        self._tasks.discard(task)
        self.outlet.drop()
        if not task.cancelled():
            log.error("downstream.stream.failed", exc_info=task.exception())

    async def accept(self, begin: Begin, channel: Channel) -> None:
        """Take a message, and say so."""
        if isinstance(begin, Request) and self.outlet.crowded and len(self.running) >= MANY:
            await self.outlet.room()
        begin()
        lines, text = _ACCEPTED
        if not channel.whole(202, lines, text):
            headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"content-length", b"%d" % len(text))]
            await channel.send({"type": "http.response.start", "status": 202, "headers": headers})
            await channel.send({"type": "http.response.body", "body": text})


def _plain(headers: Mapping[bytes, bytes]) -> bool:
    """Whether headers say nothing that this door would not expect."""
    return SESSION not in headers and b"transfer-encoding" not in headers
