"""What makes two calls the same, for the cache and for shared flights."""

from collections.abc import Callable, Hashable
from typing import Final

import msgspec

from proxy.model import Call, Caller

Isolate = Callable[[Call], Hashable | None]
"""Whom a result may be shared with: calls share only if this gives the same for both. None: with nobody."""

Whose = Callable[[Caller], str]
"""With whose credential a caller's requests are sent."""

Key = tuple[Hashable, ...]

_PERSONAL: Final = frozenset({"progressToken", "traceparent", "tracestate", "baggage"})
"""``_meta`` keys which differ from call to call without changing the result (spec: progress, trace context)."""

_ENCODER: Final = msgspec.json.Encoder(order="deterministic")


def by_session(call: Call) -> Hashable | None:
    """Share within one downstream session; a downstream without a session shares with nobody."""
    caller = call.caller
    return None if caller.session is None else (caller.owner, caller.session)


def by_agent(call: Call) -> Hashable | None:
    """Share among all downstreams of one principal as one agent; without credentials, among all of one agent.

    Only for tools without personal results: who shares a credential shares what is kept for it.
    """
    return (call.caller.owner,)


def among(isolate: Isolate, whose: Whose | None) -> Isolate:
    """The same, but never across the credentials with which requests are sent, nor across who is asking."""
    if whose is None:
        return isolate

    def owner(call: Call) -> Hashable | None:
        found = isolate(call)
        return None if found is None else (found, whose(call.caller), call.caller.principal.id)

    return owner


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
