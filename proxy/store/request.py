"""One request of a program on its way: found, checked, sent in as many rounds as it takes, and brought back.

What the relay does for a client behind a door, made of the same parts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec
import structlog
from msgspec.structs import replace

from proxy.agents import rewrite
from proxy.bridge.convert import Crossing, error_for, result_for
from proxy.bridge.drive import drive
from proxy.bridge.failed import failed_call
from proxy.errors import ArgumentProblem, InvalidArguments, ManifoldError, ProtocolFault, Rejected, RoutingError
from proxy.model import Caller, Era, Params, Reply, Sent
from proxy.router import Request, Routed
from proxy.store.asking import Asked, Handlers
from proxy.store.calls import ToolCall
from proxy.store.engine import Engine, Validate
from proxy.store.pages import visited
from proxy.store.patience import bounded, patience
from proxy.store.result import ToolResult
from proxy.store.tool import Tool
from proxy.store.validation import Report, Uncheckable

log = structlog.get_logger(__name__)

_CALL = "tools/call"


@dataclass(frozen=True, slots=True)
class Manner:
    """How to make a call."""

    timeout: float | None
    """Seconds for all of it."""
    validate: Validate


@dataclass(frozen=True, slots=True)
class Door:
    """Where the requests of one context go in."""

    engine: Engine
    caller: Caller
    handlers: Handlers

    async def tool(self, name: str) -> Tool:
        """The tool that a name means; one that nobody knows waits for upstreams that are still starting.

        Raises:
            RoutingError: it means none, or several.
            UpstreamError: it belongs to an upstream of which nobody knows yet what it offers.
        """
        agent = self.caller.agent
        await self.engine.renew(agent)
        try:
            return self.engine.tool(agent, name)
        except RoutingError:
            await self.engine.runtime.ready(agent)
            try:
                return self.engine.tool(agent, name)
            except RoutingError as error:
                router, request = self.engine.runtime.router, Request(_CALL, {"name": name}, self.caller)
                away = router.out_of_reach(request)
                fault = error if away is None or away.fault is None else away.fault
                router.refused(request, fault)
                raise fault from None

    async def call(self, call: ToolCall, arguments: dict[str, Any], manner: Manner) -> ToolResult:
        """Call a tool.

        Raises:
            ManifoldError: why there is no result.
        """
        with patience(manner.timeout):
            with bounded(f"finding the tool {call.name!r}", sent=Sent.NO):
                tool = await self.tool(call.name)
            warnings = self._checked(tool, arguments, manner.validate)
            raw = await self._sent(_CALL, {"name": tool.name, "arguments": arguments})
        return ToolResult(call.name, raw, call.id, warnings=warnings)

    async def request(self, method: str, params: dict[str, Any], timeout: float | None) -> dict[str, Any]:  # noqa: ASYNC109 - the limit has to end in an error which says what was sent
        """Send any other request that goes to one upstream, and return its result.

        Raises:
            ManifoldError: why there is none.
        """
        with patience(timeout):
            return await self._sent(method, params)

    def _checked(self, tool: Tool, arguments: Params, validate: Validate) -> Sequence[ArgumentProblem]:
        if validate == "off":
            return ()
        try:
            report = self.engine.validators.check(tool.input_schema, arguments)
        except Uncheckable as error:
            report = Report((ArgumentProblem("", "a schema that can be checked", f"one that cannot: {error}"),))
        if report.problems and validate == "strict":
            found = "; ".join(map(str, report.problems))
            fault = f"The arguments do not fit the tool {tool.name!r}: {found}."
            raise InvalidArguments(fault, problems=report.problems)
        doubts = (*report.problems, *report.skipped)
        if doubts:
            log.warning("arguments.doubtful", tool=tool.name, upstream=tool.server, problems=[*map(str, doubts)])
        return doubts

    async def _sent(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        back = Asked(self.handlers)
        hears = self.handlers != Handlers()
        request = Request(method, params, self.caller, back if hears else None)
        router = self.engine.runtime.router
        with bounded(f"{method}: finding where it goes", sent=Sent.NO):
            routed = await router.route(request)
        back.view, back.upstream = routed.view, routed.route.upstream

        async def once(own: Params) -> Reply:
            return await router.send(replace(routed, call=replace(routed.call, params=own)))

        async def send(own: Params) -> Reply:
            return await visited(once, own, back=back, capabilities=self.caller.capabilities)

        try:
            reply = await drive(
                send,
                routed.call.params or {},
                back=back,
                capabilities=self.caller.capabilities,
                clock=self.engine.runtime.clock,
            )
            # Decoded anew: a result may be shared with others, and a program may change its own.
            result = rewrite.result(routed.view, back.upstream, method, msgspec.json.decode(reply.raw))
        except Rejected as error:
            raise self._refusal(request, routed, error) from error
        except RecursionError as error:
            raise ProtocolFault("its result is nested too deeply to be used", upstream=back.upstream) from error
        return result_for(Crossing(reply.era, Era.HANDSHAKE), method, result, {})

    @staticmethod
    def _refusal(request: Request, routed: Routed, error: Rejected) -> Rejected:
        uri = request.params.get("uri")
        crossing = Crossing(error.era or Era.HANDSHAKE, Era.HANDSHAKE)
        told = error_for(crossing, request.method, error, uri if isinstance(uri, str) else None)
        told.upstream, told.hint = routed.route.upstream, error.hint
        return told


def failed(call: ToolCall, error: ManifoldError) -> ToolResult:
    """The result for a call that was not answered."""
    return ToolResult(call.name, failed_call(error), call.id, error)
