"""What there is to know of something that can be called before it is called."""

from collections.abc import Mapping
from typing import Final

import msgspec

from proxy.agents.view import View
from proxy.model import Call, Params, Route
from proxy.wire.headers import ParamMap, annotation_fault, param_map

CALL: Final = "tools/call"

MAX_MAPS: Final = 4096
"""Tools whose header maps are kept; more than a catalog has, unless its lists change all the time."""


class Target(msgspec.Struct, frozen=True):
    """Where a name leads."""

    route: Route
    call: Call
    """What all calls of it have in common."""
    places: ParamMap | None = None
    """Which arguments travel in ``Mcp-Param-*`` headers."""


class Targets:
    """Finds out what there is to know. Mutable state: the header maps, by the identity of their schemas."""

    def __init__(self) -> None:
        self._maps: dict[int, tuple[Params, ParamMap | None]] = {}

    def of(self, view: View, route: Route, method: str) -> Target:
        """What is known of a route of a view, for a method."""
        tool = view.raw(route) if method == CALL else None
        schema = None if tool is None else tool.get("inputSchema")
        call = Call(
            upstream=route.upstream,
            method=method,
            target=route.name,
            safe=method != CALL or (tool is not None and repeatable(tool)),
            public=route.public,
            fixed=view.fixed(route) if view.overridden else frozenset(),
        )
        return Target(route, call, self.param_map(schema) if isinstance(schema, Mapping) else None)

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
