"""The express lane: an ASGI short cut for hot HTTP requests of both eras.

It stands before FastMCP's routing and behind everything that guards the door. A request that it can serve completely
(known session, plain envelope, hot method) goes on bytes through the same router, joint and tower as in the other lane;
anything else falls through before anything was sent (docs/decisions/0006).
"""

import asyncio
from collections.abc import Coroutine, Mapping
from itertools import count
from typing import Any, Final

import msgspec
import structlog
from mcp.shared.exceptions import MCPError
from starlette.types import ASGIApp, Receive, Scope, Send

from proxy.bridge.failed import failed_call
from proxy.errors import INTERNAL_ERROR, InvalidArguments, ManifoldError, Rejected, UpstreamError
from proxy.gateway.admission import VERSION, modern_caller
from proxy.gateway.answers import refusal, wire_error
from proxy.gateway.downstream import Who, at_level, who_in
from proxy.gateway.finish import Finish
from proxy.gateway.intake import SESSION, again, body_of, headers_of
from proxy.gateway.joining import Joint
from proxy.gateway.lane import Lane, Questions
from proxy.gateway.leaving import WATCH_AFTER, unless_left
from proxy.gateway.lists import Lists
from proxy.gateway.opened import Open
from proxy.gateway.pieces import Parts, answer
from proxy.gateway.relay import input_schema
from proxy.gateway.replying import DECLINED, Whole, way_of
from proxy.gateway.shortcut import Vouched
from proxy.gateway.waking import INITIALIZED, Waking, taken_note
from proxy.gateway.welcome import INITIALIZE, Arrival
from proxy.gateway.writable import writable
from proxy.model import HANDSHAKE_VERSIONS, Caller, Era, Json, Params, owner_of
from proxy.router import COMPLETION, ROUTED, Request, Routed
from proxy.runtime import Runtime
from proxy.service import expiry
from proxy.service.clock import SYSTEM
from proxy.wire import envelope
from proxy.wire.depth import too_deep

log = structlog.get_logger(__name__)

STREAM_AFTER: Final = 0.1
"""Seconds after which the answer to a handshake request becomes a stream that can be resumed, if it is not one yet."""

_VERSIONS: Final = frozenset(version.encode() for version in HANDSHAKE_VERSIONS)
PING: Final = "ping"
LEVEL: Final = "logging/setLevel"
CANCELS: Final = "notifications/cancelled"

_STATUS: Final = {-32700: 400, -32600: 400, -32602: 400, -32020: 400, -32021: 400, -32022: 400, -32601: 404}
"""HTTP status by error code, modern era (spec 2026-07-28, transports)."""


Rest = tuple[Who, Receive, Send, Whole | None]
"""Whom a request is from, and how it is answered."""


class ExpressLane:
    """ASGI middleware in front of one streamable HTTP endpoint.

    Args:
        runtime: views and router.
        joint: sends what is routed.
        finish: the last touch.
        waking: serves what the lane does not, in sessions that rest.
        path: the endpoint.
    """

    def __init__(self, runtime: Runtime, joint: Joint, finish: Finish, waking: Waking, path: str) -> None:
        self._runtime = runtime
        self._joint = joint
        self._finish = finish
        self._path = path
        self._lists = Lists(runtime, finish)
        self.vouched = Vouched()
        """What came through the guards before this lane: it may come by the short way, too."""
        self._waking = waking
        self._sessions = waking.sessions
        self._numbers = count(1)
        self._slow = expiry.Lane(SYSTEM, STREAM_AFTER)
        self._watch = expiry.Lane(SYSTEM, WATCH_AFTER)

    def over(self, app: ASGIApp) -> ASGIApp:
        """The lane in front of an app, where everything goes that it does not serve itself, untouched."""

        async def serve(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] != "http" or scope["path"] != self._path:
                await app(scope, receive, send)
                return
            headers = headers_of(scope) if scope["method"] == "POST" and not scope.get(DECLINED) else None
            if headers is not None:
                self.vouched.note(scope, headers)
                body = await body_of(receive)
                if body is not None and await self.serve(scope, headers, body, (receive, send)):
                    return
                receive = again(body, receive)
            await self._waking.serve(app, scope, receive, send)

        return serve

    async def serve(
        self, scope: Scope, headers: Mapping[bytes, bytes], body: bytes, channel: tuple[Receive, Send]
    ) -> bool:
        """Serve a request completely, or say that it was not touched. Whoever calls this has guarded the door."""
        served = self.take(headers, body, (who_in(scope), *channel, way_of(scope)))
        if served is not None:
            await served
        return served is not None

    def take(self, headers: Mapping[bytes, bytes], body: bytes, rest: Rest) -> Coroutine[Any, Any, None] | None:
        """Serve it for whoever has found out already whom it is from: what is to be awaited, or None."""
        if too_deep(body):
            return None
        try:
            message = envelope.decode(body)
            params = message.decoded_params() or {}
        except envelope.Malformed:
            return None
        if headers.get(VERSION, b"").startswith(b"2026"):
            return self._modern(headers, message, params, rest)
        session = self._session(headers, owner_of(*rest[0]))
        if session is None:
            opens = message.method == INITIALIZE and SESSION not in headers and _handshake(headers)
            arrival = self._waking.welcome.arrived(message, params, rest[0]) if opens else None
            return None if arrival is None else self._welcome(arrival, message, rest)
        if message.kind is not envelope.Kind.REQUEST:
            return self._other(session, message, params, rest)
        hot = _hot(str(message.method)) or message.method in (PING, LEVEL)
        return self._handshake(session, message, params, rest) if hot and message.id not in session.running else None

    # -- the two eras --------------------------------------------------------------------------------------------------

    def _modern(
        self,
        headers: Mapping[bytes, bytes],
        message: envelope.Message,
        params: Params,
        rest: Rest,
    ) -> Coroutine[Any, Any, None] | None:
        who, receive, send, whole = rest
        method = str(message.method)
        if message.kind is not envelope.Kind.REQUEST or not _hot(method):
            return None
        caller = modern_caller(headers, method, params, who)
        if caller is None:
            return None
        if method == "tools/call" and self._annotated(caller, params):
            return None  # the SDK compares arguments with ``Mcp-Param`` headers
        lane = Lane(send, caller, (), params)
        lane.whole = whole
        return unless_left(receive, self._answer(lane, caller, message, params), self._watch)

    def _annotated(self, caller: Caller, params: Params) -> bool:
        schema = input_schema(self._runtime.router.seen_by(caller), str(params.get("name")))
        return schema is not None and self._runtime.router.param_map(schema) is not None

    async def _welcome(self, arrival: Arrival, message: envelope.Message, rest: Rest) -> None:
        _, _, send, whole = rest
        session = await self._waking.welcome.open(arrival)
        lane = Lane(send, arrival.caller, () if session is None else session.headers, {})
        lane.whole = whole
        if session is None:
            await lane.finish(envelope.error(None, INTERNAL_ERROR, "Too many open sessions"), 503)
        else:
            await lane.finish(envelope.response(_number(message), msgspec.Raw(arrival.result)))

    async def _handshake(self, session: Open, message: envelope.Message, params: Params, rest: Rest) -> None:
        who, _, send, whole = rest
        caller = session.caller(who)
        lane = Lane(send, caller, session.headers, params)
        lane.whole, lane.lines = whole, session.lines
        lane.asking = self._question, session.questions
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - an ASGI app runs in a task
        session.running[message.id] = task
        if self._sessions.keeps(session):
            lane.resumed = self._sessions.history, session, message.id
            self._slow.start(lane)
        try:
            # A closed response is no cancellation in this era: the downstream may have lost the connection only.
            await self._answer(lane, caller, message, params, session)
        except asyncio.CancelledError:
            if message.id not in session.given_up:
                raise
            task.uncancel()
            await lane.give_up(_number(message))
        finally:
            self._slow.stop(lane)
            lane.asking = None
            del session.running[message.id]
            session.given_up.pop(message.id, None)
            self._sessions.touch(session)

    def _other(
        self, session: Open, message: envelope.Message, params: Params, rest: Rest
    ) -> Coroutine[Any, Any, None] | None:
        """What is no request: the answer to a question of ours, a cancellation of a request of ours, a greeting."""
        if message.method is msgspec.UNSET:
            question = session.questions.get(str(message.id))
            if question is None:
                return None
            if not question.done():
                question.set_result(message)
        elif message.method == CANCELS and params.get("requestId") in session.running:
            session.given_up[params["requestId"]] = None
            session.running[params["requestId"]].cancel()
        elif message.method == INITIALIZED and session.resting and not params:
            self._waking.initialized(session, rest[0].agent)
            self._sessions.touch(session)
        elif message.method != CANCELS or not session.resting:
            return None  # a resting session has no requests but those that run here
        return taken_note(rest[2], session)

    def _session(self, headers: Mapping[bytes, bytes], owner: str) -> Open | None:
        found = headers.get(SESSION)
        if found is None or not _handshake(headers):
            return None
        return self._sessions.find(found, owner)

    # -- answers -------------------------------------------------------------------------------------------------------

    async def _answer(
        self, lane: Lane, caller: Caller, message: envelope.Message, params: Params, session: Open | None = None
    ) -> None:
        number, method, status = _number(message), str(message.method), 200
        try:
            result: bytes | Parts
            if method in ROUTED or method == COMPLETION:
                request = Request(method, params, caller, lane, number)
                routed = self._runtime.router.known(request) or await self._runtime.router.route(request)
                result = await self._sent(request, routed, lane)
            elif method in self._lists:
                result = await self._lists.encoded(caller, method, params)
            else:
                result = b"{}"
                if session is not None and method == LEVEL:
                    session.become(at_level(caller, params))
            frame: bytes | Parts = (
                envelope.response(number, msgspec.Raw(result)) if isinstance(result, bytes) else answer(number, result)
            )
        except (MCPError, ManifoldError, RecursionError) as error:
            fault = (error if isinstance(error, MCPError) else wire_error(error)).error
            frame = envelope.error(number, fault.code, fault.message, fault.data)
            status = _STATUS.get(fault.code, 200) if caller.era is Era.MODERN else 200
        await lane.finish(frame, status)

    async def _sent(self, request: Request, routed: Routed, lane: Lane) -> bytes | Parts:
        method, upstream = request.method, routed.route.upstream
        lane.view, lane.upstream = routed.view, upstream
        try:
            reply = writable(await self._joint.send(request, routed, lane), upstream)
        except Rejected as error:
            raise refusal(request, routed, error) from error
        except (UpstreamError, InvalidArguments) as error:
            if method != "tools/call":
                raise
            failed = failed_call(error, safe=routed.call.safe)
            return msgspec.json.encode(self._finish.own(request.caller, method, failed))
        return self._finish.raw(request.caller, method, routed, reply)

    async def _question(self, lane: Lane, questions: Questions, method: str, params: Params | None) -> Json:
        key = f"lane-{next(self._numbers)}"
        answer = questions[key] = asyncio.get_running_loop().create_future()
        try:
            await lane.event(envelope.request(key, method, params))
            message = await answer
        finally:
            del questions[key]
        if message.kind is envelope.Kind.ERROR:
            fault = message.fault
            raise Rejected(fault.code, fault.message, fault.data)
        return msgspec.json.decode(message.result)


def _number(message: envelope.Message) -> int | str | float | None:
    return None if message.id is msgspec.UNSET else message.id


def _handshake(headers: Mapping[bytes, bytes]) -> bool:
    """Whether a request is of the handshake era, as far as its headers say."""
    version = headers.get(VERSION)
    return version is None or version in _VERSIONS


def _hot(method: str) -> bool:
    return method in ROUTED or method == COMPLETION or method in Lists.METHODS
