"""What makes two calls the same, for the cache and for shared flights."""

from collections.abc import Callable, Hashable
from typing import Final

import msgspec

from proxy.model import Call

Isolate = Callable[[Call], Hashable | None]
"""Whom a result may be shared with: calls share only if this gives the same for both. None: with nobody."""

Key = tuple[Hashable, ...]

_PERSONAL: Final = frozenset({"progressToken", "traceparent", "tracestate", "baggage"})
"""``_meta`` keys which differ from call to call without changing the result (spec: progress, trace context)."""

_ENCODER: Final = msgspec.json.Encoder(order="deterministic")


def by_session(call: Call) -> Hashable | None:
    """Share within one downstream session; a downstream without a session shares with nobody."""
    caller = call.caller
    return None if caller.session is None else (caller.agent, caller.session)


def by_agent(call: Call) -> Hashable | None:
    """Share among all downstreams of one agent, and in the store among all. Only for tools without personal results."""
    return (call.caller.agent,)


def key_of(call: Call, isolate: Isolate) -> Key | None:
    """What identifies the call's result; None if it may not be shared."""
    owner = isolate(call)
    if owner is None:
        return None
    params = call.params
    if params and (meta := params.get("_meta")):
        params = {**params, "_meta": {name: meta[name] for name in meta if name not in _PERSONAL}}
        if not params["_meta"]:
            del params["_meta"]
    headers = tuple(sorted(call.headers.items())) if call.headers else ()
    caller = call.caller
    body = _ENCODER.encode((params or {}, caller.capabilities))
    return (call.upstream, call.method, body, headers, caller.era, owner)
