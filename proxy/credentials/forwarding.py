"""Headers of a client's request that its call takes along to an upstream: those that the configuration names, no more.

A door notes what came (``INBOUND``), the router asks what of it a certain upstream gets. Whatever proves who somebody
is to Manifold ends here (spec, authorization: no token passthrough): the configuration cannot even name it.
"""

from collections.abc import Iterable, Mapping, Sequence
from contextvars import ContextVar
from typing import Final

from proxy.config.outbound import forward_fault

INBOUND: Final[ContextVar[Mapping[str, str] | None]] = ContextVar("manifold_forwardable", default=None)
"""Lower-case names and values of the headers of the request under way that some upstream may get; None for most."""


def forwardable(headers: Iterable[tuple[bytes, bytes]], names: frozenset[str]) -> Mapping[str, str] | None:
    """What of a request's headers may travel on. A header that came twice is nobody's: who knows which one counts."""
    found: dict[str, str] = {}
    doubled = set()
    for raw, value in headers:
        name = raw.decode("latin-1").lower()
        if name in names and not forward_fault(name):
            if name in found:
                doubled.add(name)
            found[name] = value.decode("latin-1")
    return {name: value for name, value in found.items() if name not in doubled} or None


def forwarded(names: Sequence[str], headers: Mapping[str, str] | None) -> Mapping[str, str] | None:
    """What an upstream with these names gets on top of a call's own headers, which count more."""
    inbound = INBOUND.get() if names else None
    if inbound is None:
        return headers
    along = {name: inbound[name.lower()] for name in names if name.lower() in inbound}
    return {**along, **(headers or {})} if along else headers
