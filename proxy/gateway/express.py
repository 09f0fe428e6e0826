"""The express lane: an ASGI short cut for hot HTTP requests of both eras.

It stands before FastMCP's routing and behind everything that guards the door. A request that it can serve completely
(known session, plain envelope, hot method) goes on bytes through the same router, joint and tower as in the other lane;
anything else falls through before anything was sent (docs/decisions/0006).
"""

import asyncio
from collections.abc import Callable, Mapping
from itertools import count
from typing import Any, Final

import msgspec
import structlog
from mcp.server.connection import Connection
from mcp.shared.exceptions import MCPError
from starlette.types import ASGIApp, Receive, Scope, Send

from proxy.bridge.failed import failed_call
from proxy.errors import InvalidArguments, ManifoldError, Rejected, UpstreamError
from proxy.gateway import seams
from proxy.gateway.admission import VERSION, modern_caller
from proxy.gateway.answers import refusal, wire_error
from proxy.gateway.downstream import Who, caller_on, who_in
from proxy.gateway.finish import Finish
from proxy.gateway.intake import SESSION, again, body_of, headers_of
from proxy.gateway.joining import Joint
from proxy.gateway.lane import Lane
from proxy.gateway.leaving import WATCH_AFTER, unless_left
from proxy.gateway.lists import Lists
from proxy.gateway.relay import input_schema
from proxy.gateway.replying import Whole, way_of
from proxy.gateway.resume import history_of
from proxy.gateway.shortcut import Vouched
from proxy.gateway.writable import writable
from proxy.model import HANDSHAKE_VERSIONS, Caller, Era, Json, Params, owner_of
from proxy.router import COMPLETION, ROUTED, Request
from proxy.runtime import Runtime
from proxy.service import expiry
from proxy.service.clock import SYSTEM
from proxy.wire import envelope
from proxy.wire.depth import too_deep

log = structlog.get_logger(__name__)

STREAM_AFTER: Final = 0.1
"""Seconds after which the answer to a handshake request becomes a stream that can be resumed, if it is not one yet."""

_STATUS: Final = {-32700: 400, -32600: 400, -32602: 400, -32020: 400, -32021: 400, -32022: 400, -32601: 404}
"""HTTP status by error code, modern era (spec 2026-07-28, transports)."""


Rest = tuple[Who, Receive, Send, Whole | None]
"""Whom a request is from, and how it is answered."""


class _Open:
    """A handshake session that the lane may serve."""

    __slots__ = ("connection", "given_up", "headers", "owner", "questions", "running", "session_id", "used")

    def __init__(self, connection: Connection, session_id: str, owner: str) -> None:
        self.connection = connection
        self.owner = owner
        self.session_id = session_id
        self.headers = ((SESSION, session_id.encode()),)
        self.running: dict[object, asyncio.Task[Any]] = {}
        self.given_up: set[object] = set()
        self.questions: dict[str, asyncio.Future[envelope.Message]] = {}
        self.used = 0.0
        """When it was last used, by the clock of the loop."""


class ExpressLane:
    """ASGI middleware in front of one streamable HTTP endpoint.

    Args:
        runtime: views and router.
        joint: sends what is routed.
        finish: the last touch.
        path: the endpoint.
    """

    def __init__(self, runtime: Runtime, joint: Joint, finish: Finish, path: str) -> None:
        self._runtime = runtime
        self._joint = joint
        self._finish = finish
        self._path = path
        self._lists = Lists(runtime, finish)
        self.vouched = Vouched()
        """What came through the guards before this lane: it may come by the short way, too."""
        self._open: dict[str, _Open] = {}
        self._numbers = count(1)
        self._slow = expiry.Lane(SYSTEM, STREAM_AFTER)
        self._watch = expiry.Lane(SYSTEM, WATCH_AFTER)
        self.transports: Callable[[], Mapping[str, Any]] = dict

    def opened(self, connection: Connection, owner: str) -> None:
        """A handshake session was opened; the lane serves it until it closes."""
        session_id = connection.session_id
        if session_id is not None:
            self._open[session_id] = _Open(connection, session_id, owner)
            connection.exit_stack.callback(self._open.pop, session_id, None)

    def settle(self) -> None:
        """Push the idle deadlines of all sessions to where they belong; with each call that is done by the second."""
        transports = self.transports()
        for session in self._open.values():
            if (transport := transports.get(session.session_id)) is not None:
                seams.keep_awake(transport, session.used)

    def over(self, app: ASGIApp) -> ASGIApp:
        """The lane in front of an app, where everything goes that it does not serve itself, untouched."""

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            hot = scope["type"] == "http" and scope["method"] == "POST" and scope["path"] == self._path
            headers = headers_of(scope) if hot else None
            if headers is None:
                await app(scope, receive, send)
                return
            self.vouched.note(scope, headers)
            body = await body_of(receive)
            if body is None or not await self.serve(scope, headers, body, (receive, send)):
                await app(scope, again(body, receive), send)

        return serve

    async def serve(
        self, scope: Scope, headers: Mapping[bytes, bytes], body: bytes, channel: tuple[Receive, Send]
    ) -> bool:
        """Serve a request completely, or say that it was not touched. Whoever calls this has guarded the door."""
        return await self.take(headers, body, (who_in(scope), *channel, way_of(scope)))

    async def take(self, headers: Mapping[bytes, bytes], body: bytes, rest: Rest) -> bool:
        """The same for whoever has found out already whom it is from."""
        if too_deep(body):
            return False
        try:
            message = envelope.decode(body)
            params = message.decoded_params() or {}
        except envelope.Malformed:
            return False
        if headers.get(VERSION, b"").startswith(b"2026"):
            return await self._modern(headers, message, params, rest)
        session = self._session(headers, owner_of(*rest[0]))
        if session is None:
            return False
        if message.kind is envelope.Kind.REQUEST:
            return await self._handshake(session, message, params, rest)
        return await self._other(session, message, params, rest[2])

    # -- the two eras --------------------------------------------------------------------------------------------------

    async def _modern(
        self,
        headers: Mapping[bytes, bytes],
        message: envelope.Message,
        params: Params,
        rest: Rest,
    ) -> bool:
        who, receive, send, whole = rest
        method = str(message.method)
        if message.kind is not envelope.Kind.REQUEST or not _hot(method):
            return False
        caller = modern_caller(headers, method, params, who)
        if caller is None:
            return False
        if method == "tools/call" and self._annotated(caller, params):
            return False  # the SDK compares arguments with ``Mcp-Param`` headers
        lane = Lane(send, caller, (), params)
        lane.whole = whole
        await unless_left(receive, self._answer(lane, caller, message, params), self._watch)
        return True

    def _annotated(self, caller: Caller, params: Params) -> bool:
        schema = input_schema(self._runtime.router.seen_by(caller), str(params.get("name")))
        return schema is not None and self._runtime.router.param_map(schema) is not None

    async def _handshake(self, session: _Open, message: envelope.Message, params: Params, rest: Rest) -> bool:
        who, _, send, whole = rest
        method = str(message.method)
        if not (_hot(method) or method == "ping") or message.id in session.running:
            return False
        caller = caller_on(session.connection, who)
        lane = Lane(send, caller, session.headers, params)
        lane.whole = whole
        lane.asking = lambda asked, about: self._question(session, lane, asked, about)
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - an ASGI app runs in a task
        session.running[message.id] = task
        transport = self.transports()[session.session_id]
        lane.history = history_of(transport, session.connection.protocol_version, message.id)
        if lane.history is not None:
            self._slow.start(lane)
        try:
            # A closed response is no cancellation in this era: the downstream may have lost the connection only.
            await self._answer(lane, caller, message, params)
        except asyncio.CancelledError:
            if message.id not in session.given_up:
                raise
            task.uncancel()
            await lane.give_up(_number(message))
        finally:
            self._slow.stop(lane)
            lane.asking = None  # it holds on to the lane: without this the garbage collector had to find out
            del session.running[message.id]
            session.given_up.discard(message.id)
            session.used = asyncio.get_running_loop().time()
            seams.keep_awake(transport, session.used, least=1.0)
        return True

    async def _other(self, session: _Open, message: envelope.Message, params: Params, send: Send) -> bool:
        """What is no request: the answer to a question of ours, or a cancellation of a request of ours."""
        if message.method is msgspec.UNSET:
            question = session.questions.get(str(message.id))
            if question is None:
                return False
            if not question.done():
                question.set_result(message)
        elif message.method != "notifications/cancelled" or params.get("requestId") not in session.running:
            return False
        else:
            session.given_up.add(params["requestId"])
            session.running[params["requestId"]].cancel()
        await send({"type": "http.response.start", "status": 202, "headers": [(b"content-length", b"0")]})
        await send({"type": "http.response.body", "body": b""})
        return True

    def _session(self, headers: Mapping[bytes, bytes], owner: str) -> _Open | None:
        session = self._open.get(headers.get(SESSION, b"").decode("latin-1"))
        version = headers.get(VERSION)
        if session is None or session.owner != owner or not session.connection.initialize_accepted:
            return None
        if version is not None and version.decode("latin-1") not in HANDSHAKE_VERSIONS:
            return None
        return session if session.session_id in self.transports() else None

    # -- answers -------------------------------------------------------------------------------------------------------

    async def _answer(self, lane: Lane, caller: Caller, message: envelope.Message, params: Params) -> None:
        number, status = _number(message), 200
        try:
            result = await self._result(lane, caller, message, params)
            frame = envelope.response(number, msgspec.Raw(result))
        except (MCPError, ManifoldError, RecursionError) as error:
            fault = (error if isinstance(error, MCPError) else wire_error(error)).error
            frame = envelope.error(number, fault.code, fault.message, fault.data)
            status = _STATUS.get(fault.code, 200) if caller.era is Era.MODERN else 200
        await lane.finish(frame, status)

    async def _result(self, lane: Lane, caller: Caller, message: envelope.Message, params: Params) -> bytes:
        if (method := str(message.method)) == "ping":
            return b"{}"
        if method in self._lists:
            return await self._lists.encoded(caller, method, params)
        request = Request(method, params, caller, lane, _number(message))
        routed = await self._runtime.router.route(request)
        lane.view, lane.upstream = routed.view, routed.route.upstream
        try:
            reply = writable(await self._joint.send(request, routed, lane), routed.route.upstream)
        except Rejected as error:
            raise refusal(request, routed, error) from error
        except (UpstreamError, InvalidArguments) as error:
            if method != "tools/call":
                raise
            failed = failed_call(error, safe=routed.call.safe)
            return msgspec.json.encode(self._finish.own(caller, method, failed))
        return self._finish.raw(caller, method, routed, reply)

    async def _question(self, session: _Open, lane: Lane, method: str, params: Params | None) -> Json:
        key = f"lane-{next(self._numbers)}"
        answer = session.questions[key] = asyncio.get_running_loop().create_future()
        try:
            await lane.event(envelope.request(key, method, params))
            message = await answer
        finally:
            del session.questions[key]
        if message.kind is envelope.Kind.ERROR:
            fault = message.fault
            raise Rejected(fault.code, fault.message, fault.data)
        return msgspec.json.decode(message.result)


def _number(message: envelope.Message) -> int | str | float | None:
    return None if message.id is msgspec.UNSET else message.id


def _hot(method: str) -> bool:
    return method in ROUTED or method == COMPLETION or method in Lists.METHODS
