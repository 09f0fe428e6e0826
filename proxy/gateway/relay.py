"""The relay: one middleware of the SDK's server, before FastMCP's own chain.

It answers everything that concerns upstreams, from the catalog or from the upstream, as raw JSON; the rest falls
through to FastMCP. A middleware that answers without ``call_next`` owns the whole result, so the envelope of the modern
era (``resultType``, ``serverInfo``, caching hints) is put on here (docs/decisions/0004).
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from mcp.shared.exceptions import MCPError
from pydantic import BaseModel

from proxy.agents import rewrite
from proxy.agents.view import View
from proxy.bridge.convert import Crossing, error_for, result_for
from proxy.bridge.revisions import for_version
from proxy.errors import INVALID_PARAMS, ManifoldError, Rejected, UpstreamError
from proxy.gateway import seams
from proxy.gateway.answers import failed_call, wire_error
from proxy.gateway.backchannel import RequestBackchannel
from proxy.gateway.downstream import agent_of, caller_of, first_caller, set_log_level
from proxy.gateway.events import Audience, Listener
from proxy.gateway.joining import Joint
from proxy.gateway.listening import Listening
from proxy.gateway.present import capabilities_of, instructions_of
from proxy.gateway.subscriptions import Subscription, Subscriptions
from proxy.model import Caller, Era, Kind, Params
from proxy.router import COMPLETION, ROUTED, Request, Routed
from proxy.runtime import Runtime
from proxy.upstream.session import LEVELS

Context = ServerRequestContext[Any, Any]
Handler = Callable[[Context, Caller], Awaitable[dict[str, Any]]]

LISTS: Final = {
    "tools/list": (Kind.TOOL, "tools"),
    "resources/list": (Kind.RESOURCE, "resources"),
    "resources/templates/list": (Kind.TEMPLATE, "resourceTemplates"),
    "prompts/list": (Kind.PROMPT, "prompts"),
}
"""List method -> what it lists, and the key of its result."""

_SUBSCRIBED: Final = "manifold.subscriptions"


class Relay:
    """The server middleware.

    Args:
        runtime: the upstreams, the views, the router.
        joint: sends what is routed, across the eras.
        audience: who hears of list changes.
        subscriptions: who hears of which resource.
        server_info: how Manifold signs modern results.
    """

    def __init__(
        self, runtime: Runtime, joint: Joint, audience: Audience, subscriptions: Subscriptions, server_info: Params
    ) -> None:
        self._runtime = runtime
        self._joint = joint
        self._audience = audience
        self._subscriptions = subscriptions
        self._server_info = server_info
        self._listening = Listening(runtime, audience, subscriptions)
        self.default_agent: str | None = None
        """The agent of a door without URLs (stdio)."""
        self.on_first: Callable[[Caller], None] | None = None
        """On a door for one downstream: called once, as soon as that has said what it can do."""
        self._handlers: dict[str, Handler] = {
            **dict.fromkeys(LISTS, self._list),
            **dict.fromkeys((*ROUTED, COMPLETION), self._relay),
        }
        self._handshake: dict[str, Handler] = {
            "resources/subscribe": self._subscribe,
            "resources/unsubscribe": self._unsubscribe,
            "logging/setLevel": self._set_level,
        }
        self._modern: dict[str, Handler] = {"subscriptions/listen": self._listen}

    async def __call__(self, ctx: Context, call_next: CallNext) -> HandlerResult:
        """Answer what is ours; everything else goes on to FastMCP."""
        if ctx.request_id is None:
            return await self._notification(ctx, call_next)
        if self.on_first is not None and (first := first_caller(ctx, self.default_agent)) is not None:
            tell, self.on_first = self.on_first, None
            tell(first)
        if ctx.method in ("initialize", "server/discover"):
            return await self._introduce(ctx, call_next)
        handler = self._handler(ctx)
        if handler is None or not seams.connection(ctx).initialize_accepted:
            return await call_next(ctx)  # also what comes before the handshake: the SDK refuses it as it always does
        try:
            return await handler(ctx, caller_of(ctx, agent_of(ctx, self.default_agent)))
        except ManifoldError as error:
            raise wire_error(error) from error

    def _handler(self, ctx: Context) -> Handler | None:
        own = self._modern if Era.of(ctx.protocol_version) is Era.MODERN else self._handshake
        return self._handlers.get(ctx.method) or own.get(ctx.method)

    # -- introductions -------------------------------------------------------------------------------------------------

    async def _introduce(self, ctx: Context, call_next: CallNext) -> dict[str, Any]:
        result = _plain(await call_next(ctx))
        view = self._runtime.view(agent_of(ctx, self.default_agent))
        era = Era.HANDSHAKE if ctx.method == "initialize" else Era.MODERN
        result["capabilities"] = capabilities_of(view, era)
        instructions = instructions_of(view, self._runtime.config.server.instructions)
        result.pop("instructions", None)
        if instructions:
            result["instructions"] = instructions
        return result

    async def _notification(self, ctx: Context, call_next: CallNext) -> HandlerResult:
        if ctx.method == "notifications/initialized":
            self._enlist(ctx)
        elif ctx.method == "notifications/roots/list_changed":
            await self._roots_changed(ctx)
        return await call_next(ctx)

    def _enlist(self, ctx: Context) -> None:
        """From now on this handshake connection is told of list changes."""
        connection = seams.connection(ctx)
        listener = Listener(agent_of(ctx, self.default_agent), connection.notify)
        connection.exit_stack.callback(self._audience.add(listener))

    async def _roots_changed(self, ctx: Context) -> None:
        caller = caller_of(ctx, agent_of(ctx, self.default_agent))
        await self._runtime.roots_changed(caller)

    # -- lists: from memory --------------------------------------------------------------------------------------------

    async def _list(self, ctx: Context, caller: Caller) -> dict[str, Any]:
        if (ctx.params or {}).get("cursor") is not None:
            # Everything fits on one page, so no cursor was ever given out (spec, pagination: invalid cursors).
            raise Rejected(INVALID_PARAMS, "Invalid cursor")
        await self._runtime.ready(caller.agent)
        view = self._runtime.view(caller.agent)
        kind, key = LISTS[ctx.method]
        result: dict[str, Any] = {key: list(view.listing(kind))}
        if caller.era is Era.MODERN:
            result |= _hints(view, caller)
        return self._finished(Crossing(caller.era, caller.era), ctx, caller, result)

    # -- requests: to one upstream -------------------------------------------------------------------------------------

    async def _relay(self, ctx: Context, caller: Caller) -> dict[str, Any]:
        back = RequestBackchannel(ctx, caller)
        request = Request(ctx.method, ctx.params or {}, caller, back)
        routed = await self._runtime.router.route(request)
        back.view, back.upstream = routed.view, routed.route.upstream
        try:
            joined = await self._joint.send(request, routed, back)
        except Rejected as error:
            raise self._refusal(request, routed, error) from error
        except UpstreamError as error:
            if ctx.method != "tools/call":
                raise
            return self._finished(Crossing(caller.era, caller.era), ctx, caller, failed_call(error))
        result = rewrite.result(routed.view, routed.route.upstream, ctx.method, joined.result)
        return self._finished(Crossing(joined.era, caller.era), ctx, caller, result)

    def _finished(self, crossing: Crossing, ctx: Context, caller: Caller, result: Any) -> dict[str, Any]:
        shaped = result_for(crossing, ctx.method, result, self._server_info)
        return shaped if caller.era is Era.MODERN else for_version(caller.version, ctx.method, shaped)

    def _refusal(self, request: Request, routed: Routed, error: Rejected) -> MCPError:
        uri = request.params.get("uri")
        crossing = Crossing(error.era or request.caller.era, request.caller.era)
        told = error_for(crossing, request.method, error, uri if isinstance(uri, str) else None)
        data = told.data
        if isinstance(data, Mapping) and isinstance(own := data.get("uri"), str) and own != uri:
            data = {**data, "uri": routed.view.export(routed.route.upstream, own)}
        return MCPError(code=told.jsonrpc, message=told.message, data=data)

    # -- what one connection asks for ----------------------------------------------------------------------------------

    async def _set_level(self, ctx: Context, caller: Caller) -> dict[str, Any]:
        level = (ctx.params or {}).get("level")
        if level not in LEVELS:
            raise Rejected(INVALID_PARAMS, f"logging/setLevel: params.level must be one of {', '.join(LEVELS)}")
        set_log_level(ctx, caller, str(level))
        return {}

    async def _subscribe(self, ctx: Context, caller: Caller) -> dict[str, Any]:
        uri = self._uri(ctx)
        connection = seams.connection(ctx)
        subscribed: dict[str, Subscription] = connection.state.setdefault(_SUBSCRIBED, {})
        if uri not in subscribed:
            await self._runtime.ready(caller.agent)
            route = self._runtime.view(caller.agent).resource(uri)
            made = await self._subscriptions.add(route, lambda: self._runtime.view(caller.agent), connection.notify)
            subscribed[uri] = made
            connection.exit_stack.callback(self._subscriptions.forget, made)
        return {}

    async def _unsubscribe(self, ctx: Context, caller: Caller) -> dict[str, Any]:
        del caller
        subscribed: dict[str, Subscription] = seams.connection(ctx).state.get(_SUBSCRIBED, {})
        found = subscribed.pop(self._uri(ctx), None)
        if found is not None:
            await self._subscriptions.remove(found)
        return {}

    async def _listen(self, ctx: Context, caller: Caller) -> dict[str, Any]:
        wanted = (ctx.params or {}).get("notifications")
        if not isinstance(wanted, Mapping):
            raise Rejected(INVALID_PARAMS, "subscriptions/listen: params.notifications must be an object")
        await self._listening.serve(ctx, caller, wanted)
        raise AssertionError  # pragma: no cover - only cancellation ends the wait

    @staticmethod
    def _uri(ctx: Context) -> str:
        uri = (ctx.params or {}).get("uri")
        if not isinstance(uri, str):
            raise Rejected(INVALID_PARAMS, f"{ctx.method}: params.uri must be a string")
        return uri


def _hints(view: View, caller: Caller) -> dict[str, Any]:
    """Caching hints of a merged list: the shortest time, and private if any part of it is (SEP-2549)."""
    parts = list(view.listings.values())
    ttls = [part.ttl_ms for part in parts if part.ttl_ms is not None]
    whole = bool(ttls) and len(ttls) == len(parts)
    shared = whole and caller.agent is None and not any(part.private for part in parts)
    return {"ttlMs": min(ttls) if whole else 0, "cacheScope": "public" if shared else "private"}


def _plain(result: HandlerResult) -> dict[str, Any]:
    if isinstance(result, BaseModel):
        return result.model_dump(by_alias=True, mode="json", exclude_none=True)
    return dict(result or {})


def input_schema(view: View, name: str) -> Params | None:
    """The input schema behind a tool's name, for the SDK's check of ``Mcp-Param`` headers; None if there is none."""
    entry = view.entries(Kind.TOOL).get(name)
    schema = entry.raw.get("inputSchema") if entry is not None else None
    return schema if isinstance(schema, Mapping) else None
