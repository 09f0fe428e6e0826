"""The relay: one middleware of the SDK's server, before FastMCP's own chain.

It answers everything that concerns upstreams, from the catalog or from the upstream, as raw JSON; the rest falls
through to FastMCP. A middleware that answers without ``call_next`` owns the whole result, so the envelope of the modern
era (``resultType``, ``serverInfo``, caching hints) is put on here (docs/decisions/0004).
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from mcp.server.connection import Connection
from mcp.server.context import CallNext, HandlerResult, ServerRequestContext
from pydantic import BaseModel

from proxy.agents.view import View
from proxy.bridge.failed import failed_call
from proxy.errors import INVALID_PARAMS, InvalidArguments, ManifoldError, Rejected, UpstreamError
from proxy.gateway import seams, tasks
from proxy.gateway.answers import refusal, wire_error
from proxy.gateway.backchannel import RequestBackchannel
from proxy.gateway.downstream import caller_of, first_caller, set_log_level, who_of
from proxy.gateway.events import Audience, Listener
from proxy.gateway.finish import Finish
from proxy.gateway.joining import Joint
from proxy.gateway.listening import Listening
from proxy.gateway.lists import Lists
from proxy.gateway.present import introduced
from proxy.gateway.subscriptions import Subscription, Subscriptions
from proxy.gateway.tasks import Tasks
from proxy.gateway.writable import writable
from proxy.model import Caller, Era, Params, owner_of
from proxy.router import COMPLETION, ROUTED, Request
from proxy.runtime import Runtime

Context = ServerRequestContext[Any, Any]
Handler = Callable[[Context, Caller], Awaitable[dict[str, Any]]]

_SUBSCRIBED: Final = "manifold.subscriptions"


class Relay:
    """The server middleware.

    Args:
        runtime: the upstreams, the views, the router.
        joint: sends what is routed, across the eras.
        audience: who hears of list changes.
        subscriptions: who hears of which resource.
        finish: the last touch on a result.
    """

    def __init__(
        self, runtime: Runtime, joint: Joint, audience: Audience, subscriptions: Subscriptions, finish: Finish
    ) -> None:
        self._runtime = runtime
        self._joint = joint
        self._audience = audience
        self._subscriptions = subscriptions
        self._finish = finish
        self._lists = Lists(runtime, finish)
        self.on_opened: Callable[[Connection, str], None] = lambda _connection, _owner: None
        """Called when a handshake downstream has been introduced, with whom it belongs to."""
        self.on_enlisted: Callable[[Connection], None] = lambda _connection: None
        """Called when one is told of list changes from now on."""
        self._tasks = Tasks(runtime, joint.sealer)
        self._listening = Listening(runtime, audience, subscriptions, self._tasks)
        self.default_agent: str | None = None
        """The agent of a door without URLs (stdio)."""
        self.on_first: Callable[[Caller], None] | None = None
        """On a door for one downstream: called once, as soon as that has said what it can do."""
        self.versions: dict[str, str] = {}
        """Session id -> negotiated version, of every handshake session over streamable HTTP."""
        self._handlers: dict[str, Handler] = {
            **dict.fromkeys(Lists.METHODS, self._list),
            **dict.fromkeys((*ROUTED, COMPLETION), self._relay),
        }
        self._handshake: dict[str, Handler] = {
            "resources/subscribe": self._subscribe,
            "resources/unsubscribe": self._unsubscribe,
            "logging/setLevel": self._set_level,
        }
        self._modern: dict[str, Handler] = {
            "subscriptions/listen": self._listen,
            **dict.fromkeys(tasks.METHODS, self._about_task),
        }

    async def __call__(self, ctx: Context, call_next: CallNext) -> HandlerResult:
        """Answer what is ours; everything else goes on to FastMCP."""
        if ctx.request_id is None:
            return await self._notification(ctx, call_next)
        if self.on_first is not None and (first := first_caller(ctx, who_of(ctx, self.default_agent))) is not None:
            tell, self.on_first = self.on_first, None
            tell(first)
        if ctx.method in ("initialize", "server/discover"):
            return await self._introduce(ctx, call_next)
        handler = self._handler(ctx)
        if handler is None or not seams.connection(ctx).initialize_accepted:
            return await call_next(ctx)  # also what comes before the handshake: the SDK refuses it as it always does
        try:
            return await handler(ctx, caller_of(ctx, who_of(ctx, self.default_agent)))
        except (ManifoldError, RecursionError) as error:
            raise wire_error(error) from error

    def _handler(self, ctx: Context) -> Handler | None:
        own = self._modern if Era.of(ctx.protocol_version) is Era.MODERN else self._handshake
        return self._handlers.get(ctx.method) or own.get(ctx.method)

    # -- introductions -------------------------------------------------------------------------------------------------

    async def _introduce(self, ctx: Context, call_next: CallNext) -> dict[str, Any]:
        result = _plain(await call_next(ctx))
        who = who_of(ctx, self.default_agent)
        era = Era.HANDSHAKE if ctx.method == "initialize" else Era.MODERN
        result = introduced(result, self._runtime, era, who.agent)
        if era is Era.HANDSHAKE:
            self._note_version(seams.connection(ctx), str(result["protocolVersion"]))
            self.on_opened(seams.connection(ctx), owner_of(*who))
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
        listener = Listener(who_of(ctx, self.default_agent).agent, connection.notify)
        connection.exit_stack.callback(self._audience.add(listener))
        self.on_enlisted(connection)

    def _note_version(self, connection: Connection, version: str) -> None:
        """Which revision a session speaks: known with the answer to ``initialize``; the next request may need it."""
        if connection.session_id is not None:
            self.versions[connection.session_id] = version
            connection.exit_stack.callback(self.versions.pop, connection.session_id, None)

    async def _roots_changed(self, ctx: Context) -> None:
        caller = caller_of(ctx, who_of(ctx, self.default_agent))
        await self._runtime.roots_changed(caller)

    # -- lists: from memory --------------------------------------------------------------------------------------------

    async def _list(self, ctx: Context, caller: Caller) -> dict[str, Any]:
        return await self._lists.result(caller, ctx.method, ctx.params or {})

    # -- requests: to one upstream -------------------------------------------------------------------------------------

    async def _relay(self, ctx: Context, caller: Caller) -> dict[str, Any]:
        back = RequestBackchannel(ctx, caller)
        request = Request(ctx.method, ctx.params or {}, caller, back, ctx.request_id)
        routed = await self._runtime.router.route(request)
        back.view, back.upstream = routed.view, routed.route.upstream
        try:
            reply = writable(await self._joint.send(request, routed, back), routed.route.upstream)
        except Rejected as error:
            raise refusal(request, routed, error) from error
        except (UpstreamError, InvalidArguments) as error:
            if ctx.method != "tools/call":
                raise
            return self._finish.own(caller, ctx.method, failed_call(error, safe=routed.call.safe))
        result = self._finish.reply(caller, ctx.method, routed, reply)
        return self._tasks.exported(caller, routed.route.upstream, result)

    async def _about_task(self, ctx: Context, caller: Caller) -> dict[str, Any]:
        return self._finish.own(caller, ctx.method, await self._tasks.serve(ctx, caller))

    # -- what one connection asks for ----------------------------------------------------------------------------------

    async def _set_level(self, ctx: Context, caller: Caller) -> dict[str, Any]:
        set_log_level(ctx, caller)
        return {}

    async def _subscribe(self, ctx: Context, caller: Caller) -> dict[str, Any]:
        uri = self._uri(ctx)
        connection = seams.connection(ctx)
        subscribed: dict[str, Subscription] = connection.state.setdefault(_SUBSCRIBED, {})
        if uri not in subscribed:
            made = await self._subscriptions.make(_request(ctx, caller), connection.notify)
            subscribed[uri] = made
            connection.exit_stack.callback(self._subscriptions.forget, made)
        return {}

    async def _unsubscribe(self, ctx: Context, caller: Caller) -> dict[str, Any]:
        subscribed: dict[str, Subscription] = seams.connection(ctx).state.get(_SUBSCRIBED, {})
        await self._subscriptions.end(_request(ctx, caller), subscribed.pop(self._uri(ctx), None))
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


def _request(ctx: Context, caller: Caller) -> Request:
    return Request(ctx.method, ctx.params or {}, caller, None, ctx.request_id)


def _plain(result: HandlerResult) -> dict[str, Any]:
    if isinstance(result, BaseModel):
        return result.model_dump(by_alias=True, mode="json", exclude_none=True)
    return dict(result or {})


def input_schema(view: View, name: str) -> Params | None:
    """The input schema behind a tool's name, for the SDK's check of ``Mcp-Param`` headers; None if there is none."""
    return view.schema(name)
