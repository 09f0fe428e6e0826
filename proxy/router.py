"""public name -> route -> tower -> reply. Nothing else."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from proxy.agents.view import View
from proxy.errors import INVALID_PARAMS, Rejected, RoutingError
from proxy.model import Backchannel, Call, Caller, Params, Reply, Route
from proxy.service.base import Layer, stack
from proxy.upstream.registry import Registry
from proxy.wire.headers import ParamMap, annotation_fault, param_headers, param_map

Find = Callable[[View, str], Route]

ROUTED: Final[Mapping[str, tuple[Find, str]]] = {
    "tools/call": (View.tool, "name"),
    "prompts/get": (View.prompt, "name"),
    "resources/read": (View.resource, "uri"),
}
"""Methods that go to one upstream, how their target is found, and which member of the params names it."""

_REFERENCES: Final[Mapping[str, tuple[Find, str]]] = {
    "ref/prompt": (View.prompt, "name"),
    "ref/resource": (View.template, "uri"),
}
"""The same for what a completion refers to."""

COMPLETION: Final = "completion/complete"

MAX_MAPS: Final = 4096
"""Tools whose header maps are kept; more than a catalog has, unless its lists change all the time."""


@dataclass(frozen=True, slots=True)
class Request:
    """What a downstream asks: its own params, untouched."""

    method: str
    params: Params
    caller: Caller
    back: Backchannel | None = None


@dataclass(frozen=True, slots=True)
class Routed:
    """Where a request goes, and as what call."""

    view: View
    route: Route
    call: Call


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
        self._view = view
        self._ready = ready
        self._service = stack(*layers)(self._tower)
        self._maps: dict[int, tuple[Params, ParamMap | None]] = {}

    async def route(self, request: Request) -> Routed:
        """Find where a request goes. A name that nobody knows waits once for upstreams that are still starting.

        Raises:
            RoutingError: it leads nowhere that this caller may see.
            Rejected: the params do not name a target.
        """
        agent = request.caller.agent
        try:
            return self._find(request, self._view(agent))
        except RoutingError:
            await self._ready(agent)
            return self._find(request, self._view(agent))

    async def send(self, routed: Routed) -> Reply:
        """Send a routed request through its upstream's tower.

        Raises:
            UpstreamError: as the tower does.
        """
        return await self._service(routed.call)

    async def _tower(self, call: Call, /) -> Reply:
        return await self._registry.service(call.upstream)(call)

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
        return Routed(view, route, self._call(request, view, route, own))

    def _call(self, request: Request, view: View, route: Route, params: dict[str, Any]) -> Call:
        tool = view.raw(route) if request.method == "tools/call" else None
        return Call(
            upstream=route.upstream,
            method=request.method,
            params=params,
            target=route.name,
            caller=request.caller,
            back=request.back,
            safe=request.method != "tools/call" or (tool is not None and repeatable(tool)),
            headers=None if tool is None else self._param_headers(tool, params),
        )

    def _param_headers(self, tool: Params, params: Params) -> Mapping[str, str] | None:
        """The ``Mcp-Param-*`` headers, computed anew: a renaming proxy must never copy them (SEP-2243)."""
        schema = tool.get("inputSchema")
        places = self.param_map(schema) if isinstance(schema, Mapping) else None
        arguments = params.get("arguments")
        return param_headers(places, arguments) if places and isinstance(arguments, Mapping) else None

    def param_map(self, schema: Params) -> ParamMap | None:
        """Which arguments of a tool travel in headers; None if none do. Looked up once for each schema."""
        known = self._maps.get(id(schema))
        if known is None or known[0] is not schema:
            if len(self._maps) >= MAX_MAPS:
                self._maps.clear()
            places = None if annotation_fault(schema) else param_map(schema) or None
            known = self._maps[id(schema)] = (schema, places)
        return known[1]


def repeatable(tool: Params) -> bool:
    """Whether a tool says of itself that running it twice does no harm."""
    notes = tool.get("annotations")
    if not isinstance(notes, Mapping):
        return False
    return notes.get("readOnlyHint") is True or notes.get("idempotentHint") is True


def _text(holder: Mapping[str, Any], member: str, where: str) -> str:
    value = holder.get(member)
    if not isinstance(value, str):
        raise Rejected(INVALID_PARAMS, f"{where} must be a string")
    return value
