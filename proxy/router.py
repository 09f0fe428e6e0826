"""public name -> route -> tower -> reply. Nothing else."""

import secrets
from collections.abc import Awaitable, Callable, Coroutine, Mapping, Sequence
from itertools import count
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from proxy.agents.target import CALL, Target, Targets
from proxy.agents.unlisted import never_listed
from proxy.agents.view import View
from proxy.credentials.forwarding import INBOUND, forwarded
from proxy.errors import (
    INVALID_PARAMS,
    InvalidArguments,
    ManifoldError,
    Rejected,
    RoutingError,
    UnknownTarget,
    UpstreamError,
)
from proxy.model import Backchannel, Call, Caller, Kind, Params, Reply, Route
from proxy.service.base import Layer, Service, stack
from proxy.traces import traceless
from proxy.upstream.kinds import unreachable
from proxy.upstream.registry import Registry
from proxy.wire.headers import param_headers

Find = Callable[[View, str], Route]

ROUTED: Final[Mapping[str, tuple[Find, str]]] = {
    "tools/call": (View.tool, "name"),
    "prompts/get": (View.prompt, "name"),
    "resources/read": (View.resource, "uri"),
}
"""Methods that go to one upstream, how their target is found, and which member of the params names it."""

_NAMED: Final = {"tools/call": Kind.TOOL, "prompts/get": Kind.PROMPT}

_REFERENCES: Final[Mapping[str, tuple[Find, str]]] = {
    "ref/prompt": (View.prompt, "name"),
    "ref/resource": (View.template, "uri"),
}
"""The same for what a completion refers to."""

COMPLETION: Final = "completion/complete"

_INSTANCE: Final = secrets.token_hex(4)
_EXCHANGES: Final = count(1)


class Request(msgspec.Struct, frozen=True):
    """What a downstream asks: its own params, untouched."""

    method: str
    params: Params
    caller: Caller
    back: Backchannel | None = None
    number: str | int | float | None = None
    """The id under which it asks."""


class Routed(msgspec.Struct, frozen=True):
    """Where a request goes, and as what call."""

    view: View
    route: Route
    call: Call
    fault: ManifoldError | None = None
    """Why it cannot get there: its upstream has never been listed, or an argument cannot be given."""


class Router:
    """Finds the upstream that a request means, and sends it there.

    Args:
        registry: the towers.
        view: the catalog as an agent sees it.
        ready: waits until it is worth looking for a name that is not there.
        layers: what goes around all towers, the outermost first: the extensions of an operator or of a program.
    """

    def __init__(
        self,
        registry: Registry,
        view: Callable[[str | None], View],
        ready: Callable[[str | None], Awaitable[None]],
        layers: Sequence[Layer] = (),
    ) -> None:
        self._registry = registry
        self.seen_by: Callable[[Caller], View] = lambda caller: view(caller.agent)
        """The catalog as a caller sees it; mostly that of its agent."""
        self.ready_for: Callable[[Caller], Awaitable[None]] = lambda caller: ready(caller.agent)
        """The same for the wait."""
        self.kept_from: Callable[[Caller, str], UpstreamError | None] = lambda _caller, _upstream: None
        """Why a caller alone does not see what an upstream offers."""
        self._service = stack(*layers)(registry.call)
        self.refused: Callable[[Request, ManifoldError], None] = lambda _request, _error: None
        """Called with every request that leads nowhere, before its sender hears of it."""
        self.failed: Callable[[Call, ManifoldError], None] = lambda _call, _error: None
        """Called with every call that ends in an error, whoever raised it."""
        self.beside: Sequence[Layer] = ()
        """What goes around that which takes no tower, the outermost first."""
        self._targets = Targets()
        self.param_map = self._targets.param_map

    async def route(self, request: Request) -> Routed:
        """Find where a request goes. A name that nobody knows waits once for upstreams that are still starting.

        Raises:
            RoutingError: it leads nowhere that this caller may see.
            Rejected: the params do not name a target.
        """
        caller = request.caller
        try:
            try:
                routed = self._find(request, self.seen_by(caller))
            except RoutingError:
                await self.ready_for(caller)
                routed = self._found(request)
        except ManifoldError as error:
            self.refused(request, error)
            raise
        if routed.fault is not None:
            self.refused(request, routed.fault)
        return routed

    def known(self, request: Request) -> Routed | None:
        """Where a call of a tool goes that is listed by its name; None for all else, which takes ``route``."""
        name = request.params.get("name")
        if request.method != CALL or type(name) is not str:
            return None
        view = self.seen_by(request.caller)
        target: Target | None = view.targets.get(name)
        if target is None:
            if view.overridden or name not in view.entries(Kind.TOOL):
                return None
            target = view.targets[name] = self._targets.of(view, view.tool(name), CALL)
        own = {**request.params, "name": target.route.name}
        return Routed(view, target.route, self._call(request, target, own))

    def _found(self, request: Request) -> Routed:
        try:
            return self._find(request, self.seen_by(request.caller))
        except UnknownTarget:
            if (away := self.out_of_reach(request)) is None:
                raise
            return away

    def resource(self, request: Request) -> Route:
        """Where the URI leads of which a request wants to hear.

        Raises:
            RoutingError: it leads nowhere that this caller may see.
            Rejected: there is no URI.
        """
        try:
            return self.seen_by(request.caller).resource(_text(request.params, "uri", f"{request.method}: params.uri"))
        except ManifoldError as error:
            self.refused(request, error)
            raise

    def send(self, routed: Routed) -> Coroutine[Any, Any, Reply]:
        """Send a routed request through its upstream's tower.

        Raises:
            UpstreamError: as the tower does.
            InvalidArguments: an argument cannot be given, by an override of the caller's agent.
        """
        if routed.fault is not None:
            raise routed.fault
        return self.dispatch(routed.call)

    async def dispatch(self, call: Call) -> Reply:
        """Send a call through the tower of the upstream that it names. Raises as the tower does, and not too often."""
        try:
            return await self._service(call)
        except ManifoldError as error:
            self.failed(call, traceless(error))
            await self._registry.braked(call.upstream, error)
            raise

    async def aside(self, call: Call, service: Service) -> Reply:
        """Do for a caller what takes no tower, like a subscription: it is audited, and counts for its agent's limits.

        Raises:
            ManifoldError: as the service does, or it is over a limit.
        """
        try:
            return await stack(*self.beside)(service)(call)
        except ManifoldError as error:
            self.failed(call, error)
            raise

    def out_of_reach(self, request: Request) -> Routed | None:
        """Where a name must lead of an upstream of which nobody knows yet what it offers; with the fault."""
        view = self.seen_by(request.caller)
        kind, name = _NAMED.get(request.method), request.params.get("name")
        upstream = never_listed(view, kind, name) if kind is not None and isinstance(name, str) else None
        if kind is None or upstream is None or upstream not in self._registry:
            return None
        call = Call(upstream, request.method, request.params, str(name), request.caller, request.back)
        fault = self.kept_from(request.caller, upstream) or unreachable(self._registry[upstream])
        return Routed(view, Route(kind, str(name), upstream, str(name)), call, fault)

    def _find(self, request: Request, view: View) -> Routed:
        params = request.params
        if request.method == COMPLETION:
            ref = params.get("ref")
            found = _REFERENCES.get(str(ref.get("type"))) if isinstance(ref, Mapping) else None
            if not isinstance(ref, Mapping) or found is None:
                raise Rejected(INVALID_PARAMS, f"{COMPLETION}: params.ref must be a ref/prompt or a ref/resource")
            find, member = found
            route = find(view, _text(ref, member, f"{COMPLETION}: params.ref.{member}"))
            own: dict[str, Any] = {**params, "ref": {**ref, member: route.name}}
        else:
            find, member = ROUTED[request.method]
            route = find(view, _text(params, member, f"{request.method}: params.{member}"))
            own = {**params, member: route.name}
            if view.overridden and route.kind is Kind.TOOL:
                try:
                    own = _with_arguments(view, route, own, params[member])
                except InvalidArguments as error:
                    return Routed(view, route, self._call(request, self._targets.of(view, route, CALL), own), error)
        return Routed(view, route, self._call(request, self._targets.of(view, route, request.method), own))

    def _call(self, request: Request, target: Target, params: dict[str, Any]) -> Call:
        headers: Mapping[str, str] | None = None
        if target.places is not None and isinstance(arguments := params.get("arguments"), Mapping):
            headers = param_headers(target.places, arguments)  # a renaming proxy must never copy them (SEP-2243)
        if INBOUND.get() is not None:
            headers = forwarded(self._registry.forwards(target.route.upstream), headers)
        caller, back, exchange = request.caller, request.back, f"{_INSTANCE}-{next(_EXCHANGES):x}"
        return replace(
            target.call,
            params=params,
            caller=caller,
            back=back,
            headers=headers,
            number=request.number,
            exchange=exchange,
        )


def _with_arguments(view: View, route: Route, params: dict[str, Any], name: str) -> dict[str, Any]:
    """The params with the arguments that the tool's upstream gets, where an agent's overrides change them."""
    given = params.get("arguments")
    arguments = view.arguments(route, given, name)
    return params if arguments is given else {**params, "arguments": arguments}


def _text(holder: Mapping[str, Any], member: str, where: str) -> str:
    value = holder.get(member)
    if not isinstance(value, str):
        raise Rejected(INVALID_PARAMS, f"{where} must be a string")
    return value
