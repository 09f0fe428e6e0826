"""The express lane: an ASGI short cut for hot HTTP requests of both eras.

It stands before FastMCP's routing and behind everything that guards the door. A request that it can serve completely
(known session, plain envelope, hot method) goes on bytes through the same router, joint and tower as in the other lane;
anything else falls through before anything was sent (docs/decisions/0006).
"""

import asyncio
from collections.abc import Coroutine, Mapping
from typing import Any, Final

import msgspec
from starlette.types import ASGIApp, Receive, Scope, Send

from proxy.errors import INTERNAL_ERROR
from proxy.gateway.answerer import HANDSHAKE_HOT, HOT, Answerer, question
from proxy.gateway.channel import Asgi, Channel
from proxy.gateway.downstream import Who, who_in
from proxy.gateway.finish import Finish
from proxy.gateway.intake import again, body_of, headers_of
from proxy.gateway.joining import Joint
from proxy.gateway.known import Known
from proxy.gateway.lane import BARE, Lane
from proxy.gateway.leaving import WATCH_AFTER, unless_left
from proxy.gateway.opened import Open
from proxy.gateway.relay import input_schema
from proxy.gateway.replying import DECLINED
from proxy.gateway.shortcut import Vouched
from proxy.gateway.waking import INITIALIZED, Waking, taken_note
from proxy.gateway.welcome import INITIALIZE, Arrival
from proxy.model import Caller, Params
from proxy.runtime import Runtime
from proxy.service import expiry
from proxy.service.clock import SYSTEM
from proxy.wire import envelope
from proxy.wire.asked import Asked, plain
from proxy.wire.depth import too_deep

STREAM_AFTER: Final = 0.1
"""Seconds after which the answer to a handshake request becomes a stream that can be resumed, if it is not one yet."""

CANCELS: Final = "notifications/cancelled"


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
        self._path = path
        self.answerer = Answerer(runtime, joint, finish)
        """Answers what is served here."""
        self.vouched = Vouched()
        """What came through the guards before this lane: it may come by the short way, too."""
        self._waking = waking
        self._sessions = waking.sessions
        self._history = waking.sessions.history
        """Bound once, and not for each request."""
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
        known = Known(headers)
        served = self.take(known, body, known.who(*who_in(scope)), Asgi(scope, *channel))
        if served is not None:
            await served
        return served is not None

    def take(self, known: Known, body: bytes, who: Who, channel: Channel) -> Coroutine[Any, Any, None] | None:
        """Serve it for whoever has found out already whom it is from: what is to be awaited, or None."""
        if too_deep(body):
            return None
        asked = plain(body)
        if asked is None or asked.method not in HANDSHAKE_HOT:
            return self._unusual(known, body, who, channel)
        return self._asked(known, asked, who, channel)

    def _asked(self, known: Known, asked: Asked, who: Who, channel: Channel) -> Coroutine[Any, Any, None] | None:
        if known.modern:
            return self._modern(known, asked, who, channel) if asked.method in HOT else None
        session = None if known.session is None else self._sessions.find(known.session, known.owner)
        if session is None or asked.id in session.running:
            return None
        return self._handshake(session, asked, who, channel)

    def _unusual(self, known: Known, body: bytes, who: Who, channel: Channel) -> Coroutine[Any, Any, None] | None:
        """What is no plain request of a hot method."""
        try:
            message = envelope.decode(body)
            params = message.decoded_params() or {}
        except envelope.Malformed:
            return None
        if message.kind is not envelope.Kind.REQUEST:
            session = None if known.session is None else self._sessions.find(known.session, known.owner)
            return None if session is None else self._other(session, message, params, (who, channel))
        if message.method in HANDSHAKE_HOT:
            return self._asked(known, Asked.of(message), who, channel)
        opens = message.method == INITIALIZE and known.opens
        arrival = self._waking.welcome.arrived(message, params, who) if opens else None
        return None if arrival is None else self._welcome(arrival, message, channel)

    # -- the two eras --------------------------------------------------------------------------------------------------

    def _modern(self, known: Known, asked: Asked, who: Who, channel: Channel) -> Coroutine[Any, Any, None] | None:
        caller = known.caller(asked.method, asked.params, who)
        if caller is None or (asked.method == "tools/call" and self._annotated(caller, asked.params)):
            return None  # the SDK compares arguments with ``Mcp-Param`` headers
        lane = Lane(channel, caller, asked.params)
        return unless_left(channel, self.answerer.answer(lane, asked), self._watch)

    def _annotated(self, caller: Caller, params: Params) -> bool:
        schema = input_schema(self._runtime.router.seen_by(caller), str(params.get("name")))
        return schema is not None and self._runtime.router.param_map(schema) is not None

    async def _welcome(self, arrival: Arrival, message: envelope.Message, channel: Channel) -> None:
        session = await self._waking.welcome.open(arrival)
        lane = Lane(channel, arrival.caller, {}, BARE if session is None else session.bears)
        if session is None:
            await lane.finish(envelope.error(None, INTERNAL_ERROR, "Too many open sessions"), 503)
        else:
            await lane.finish(envelope.response(message.answers, msgspec.Raw(arrival.result)))

    async def _handshake(self, session: Open, asked: Asked, who: Who, channel: Channel) -> None:
        number, task = asked.id, channel.task
        assert task is not None  # noqa: S101 - a request is served in a task
        lane = Lane(channel, session.caller(who), asked.params, session.bears)
        lane.asking, lane.session, lane.number, lane.keep = question, session, number, self._history
        session.running[number] = task
        self._slow.start(lane)
        try:
            # A closed response is no cancellation in this era: the downstream may have lost the connection only.
            await self.answerer.answer(lane, asked)
        except asyncio.CancelledError:
            if number not in session.given_up:
                raise
            task.uncancel()
            await lane.give_up(number)
        finally:
            self._slow.stop(lane)
            lane.asking = None
            del session.running[number]
            if session.given_up:
                session.given_up.pop(number, None)
            self._sessions.touch(session)

    def _other(
        self, session: Open, message: envelope.Message, params: Params, asker: tuple[Who, Channel]
    ) -> Coroutine[Any, Any, None] | None:
        """What is no request: the answer to a question of ours, a cancellation of a request of ours, a greeting."""
        who, channel = asker
        if message.method is msgspec.UNSET:
            told = session.questions.get(str(message.id))
            if told is None:
                return None
            if not told.done():
                told.set_result(message)
        elif message.method == CANCELS and params.get("requestId") in session.running:
            session.given_up[params["requestId"]] = None
            session.running[params["requestId"]].cancel()
        elif message.method == INITIALIZED and session.resting and not params:
            self._waking.initialized(session, who.agent)
            self._sessions.touch(session)
        elif message.method != CANCELS or not session.resting:
            return None  # a resting session has no requests but those that run here
        return taken_note(channel, session)
