"""What a hot request means, whichever door it came by: through router, joint and last touch, on bytes."""

import asyncio
from collections.abc import Callable
from itertools import count
from typing import Final

import msgspec
from mcp.shared.exceptions import MCPError

from proxy.bridge.drive import may_ask
from proxy.bridge.failed import failed_call
from proxy.errors import InvalidArguments, ManifoldError, Rejected, UpstreamError
from proxy.gateway.answers import refusal, wire_error
from proxy.gateway.downstream import at_level
from proxy.gateway.finish import Finish
from proxy.gateway.joining import Joint
from proxy.gateway.lists import Lists
from proxy.gateway.onlane import OnLane
from proxy.gateway.pieces import Parts, answer
from proxy.gateway.writable import writable
from proxy.model import Caller, Era, Json, Params
from proxy.router import COMPLETION, ROUTED, Request, Routed
from proxy.runtime import Runtime
from proxy.wire import envelope
from proxy.wire.asked import Asked

PING: Final = "ping"
LEVEL: Final = "logging/setLevel"

_ROUTED: Final = frozenset({*ROUTED, COMPLETION})
HOT: Final = frozenset({*_ROUTED, *Lists.METHODS})
"""The methods that are answered here in both eras."""
HANDSHAKE_HOT: Final = HOT | {PING, LEVEL}

_STATUS: Final = {-32700: 400, -32600: 400, -32602: 400, -32020: 400, -32021: 400, -32022: 400, -32601: 404}
"""HTTP status by error code, modern era (spec 2026-07-28, transports)."""

_numbers = count(1)


class Answerer:
    """Answers hot requests.

    Args:
        runtime: views and router.
        joint: sends what is routed.
        finish: the last touch.
    """

    def __init__(self, runtime: Runtime, joint: Joint, finish: Finish) -> None:
        self._runtime = runtime
        self._joint = joint
        self._finish = finish
        self._lists = Lists(runtime, finish)
        self.on_listed: Callable[[Caller, str, bytes], None] | None = None
        """Called with each list that goes out, by method; the same object as long as it is the same list."""

    async def answer(self, lane: OnLane, asked: Asked) -> None:
        """Answer one request, a failure with an error."""
        # One coroutine from here to the router: each costs as much as a layer of the tower.
        request: Request | None = None
        routed: Routed | None = None
        status = 200
        try:
            if asked.method in _ROUTED:
                request = Request(asked.method, asked.params, lane.caller, lane, asked.id)
                router, joint = self._runtime.router, self._joint
                routed = router.known(request) or await router.route(request)
                lane.view, lane.upstream = routed.view, routed.route.upstream
                if joint.is_plain(request, routed):
                    reply = await router.send(routed)
                    if may_ask(reply):
                        reply = await joint.asked(reply, request, routed, lane)
                else:
                    reply = await joint.send(request, routed, lane)
                result = self._finish.raw(lane.caller, asked.method, routed, writable(reply, lane.upstream))
            else:
                result = await self._own(lane, asked)
            frame = envelope.answer(asked.id, result) if isinstance(result, bytes) else answer(asked.id, result)
        except (MCPError, ManifoldError, RecursionError) as error:
            frame, status = self._failed(error, asked, lane.caller, (request, routed))
        if not lane.finish_at_once(frame, status):
            await lane.finish(frame, status)

    async def _own(self, lane: OnLane, asked: Asked) -> bytes | Parts:
        """What is answered without an upstream."""
        if asked.method in self._lists:
            listed = await self._lists.encoded(lane.caller, asked.method, asked.params)
            if self.on_listed is not None:
                self.on_listed(lane.caller, asked.method, listed)
            return listed
        if asked.method == LEVEL and lane.session is not None:
            lane.session.become(at_level(lane.caller, asked.params))
        return b"{}"

    def _failed(
        self,
        error: MCPError | ManifoldError | RecursionError,
        asked: Asked,
        caller: Caller,
        sent: tuple[Request | None, Routed | None],
    ) -> tuple[bytes, int]:
        """The answer to a request that failed: where it was sent, the upstream's error, or how its tool failed."""
        request, routed = sent
        if request is not None and routed is not None:
            if isinstance(error, Rejected):
                error = refusal(request, routed, error)
            elif isinstance(error, UpstreamError | InvalidArguments) and asked.method == "tools/call":
                failed = self._finish.own(caller, asked.method, failed_call(error, safe=routed.call.safe))
                return envelope.answer(asked.id, msgspec.json.encode(failed)), 200
        fault = (error if isinstance(error, MCPError) else wire_error(error)).error
        status = _STATUS.get(fault.code, 200) if caller.era is Era.MODERN else 200
        return envelope.error(asked.id, fault.code, fault.message, fault.data), status


async def question(lane: OnLane, method: str, params: Params | None) -> Json:
    """Put a question on the way of a request that came in a session, and wait for its answer.

    Raises:
        Rejected: the downstream answered with an error.
    """
    assert lane.session is not None  # noqa: S101 - nobody else is asked this way
    key, questions = f"lane-{next(_numbers)}", lane.session.questions
    told = questions[key] = asyncio.get_running_loop().create_future()
    try:
        await lane.event(envelope.request(key, method, params))
        message = await told
    except asyncio.CancelledError:
        lane.abandon(key)
        raise
    finally:
        del questions[key]
    if message.kind is envelope.Kind.ERROR:
        fault = message.fault
        raise Rejected(fault.code, fault.message, fault.data)
    return msgspec.json.decode(message.result)
