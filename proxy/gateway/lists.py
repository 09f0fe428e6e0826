"""Lists as they go out: from memory, and as bytes that are encoded once per view, era and revision."""

from typing import Any, Final
from weakref import WeakKeyDictionary

import msgspec

from proxy.agents.view import View
from proxy.errors import INVALID_PARAMS, Rejected
from proxy.gateway.finish import Finish
from proxy.model import Caller, Era, Kind, Params
from proxy.runtime import Runtime


class Lists:
    """Answers list requests.

    Args:
        runtime: the views.
        finish: the last touch.
    """

    METHODS: Final = {
        "tools/list": (Kind.TOOL, "tools"),
        "resources/list": (Kind.RESOURCE, "resources"),
        "resources/templates/list": (Kind.TEMPLATE, "resourceTemplates"),
        "prompts/list": (Kind.PROMPT, "prompts"),
    }
    """List method -> what it lists, and the key of its result."""

    def __init__(self, runtime: Runtime, finish: Finish) -> None:
        self._runtime = runtime
        self._finish = finish
        self._encoded: WeakKeyDictionary[View, dict[tuple[str, str, bool], bytes]] = WeakKeyDictionary()

    def __contains__(self, method: str) -> bool:
        return method in self.METHODS

    async def result(self, caller: Caller, method: str, params: Params) -> dict[str, Any]:
        """A list, as a value.

        Raises:
            Rejected: the cursor is none of ours.
        """
        return self._made(await self._view(caller, params), caller, method)

    async def encoded(self, caller: Caller, method: str, params: Params) -> bytes:
        """A list, as bytes.

        Raises:
            Rejected: the cursor is none of ours.
        """
        view = await self._view(caller, params)
        known = self._encoded.setdefault(view, {})
        key = (method, caller.version, bool(caller.owner))
        if key not in known:
            known[key] = msgspec.json.encode(self._made(view, caller, method))
        return known[key]

    async def _view(self, caller: Caller, params: Params) -> View:
        if params.get("cursor") is not None:
            # Everything fits on one page, so no cursor was ever given out (spec, pagination: invalid cursors).
            raise Rejected(INVALID_PARAMS, "Invalid cursor")
        await self._runtime.router.ready_for(caller)
        return self._runtime.router.seen_by(caller)

    def _made(self, view: View, caller: Caller, method: str) -> dict[str, Any]:
        kind, key = self.METHODS[method]
        result: dict[str, Any] = {key: list(view.listing(kind))}
        if caller.era is Era.MODERN:
            result |= _hints(view, caller)
        return self._finish.own(caller, method, result)


def _hints(view: View, caller: Caller) -> dict[str, Any]:
    """Caching hints of a merged list: the shortest time, and private if any part of it is (SEP-2549)."""
    parts = list(view.listings.values())
    ttls = [part.ttl_ms for part in parts if part.ttl_ms is not None]
    whole = bool(ttls) and len(ttls) == len(parts)
    shared = whole and not caller.owner and not any(part.private for part in parts)
    return {"ttlMs": min(ttls) if whole else 0, "cacheScope": "public" if shared else "private"}
