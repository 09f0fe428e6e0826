"""Manifolds behind Manifolds: how one knows another, and what stands behind it. Pure."""

from collections.abc import Mapping
from typing import Final

from proxy.model import Listing, Params

CHAIN_KEY: Final = "mcp-manifold"
"""The experimental capability by which one Manifold knows another (docs/guide/chaining.md). Its ``chain`` names the
Manifold itself and all that stand behind it, so that a loop is seen."""

MAX_CHAIN: Final = 64
"""Manifolds that a chain names."""


def chain_of(capabilities: Params) -> list[str]:
    """The Manifolds behind a server, itself included, by what it says of its capabilities; empty if it is none."""
    experimental = capabilities.get("experimental")
    ours = experimental.get(CHAIN_KEY) if isinstance(experimental, Mapping) else None
    chain = ours.get("chain") if isinstance(ours, Mapping) else None
    return [one for one in chain if isinstance(one, str)] if isinstance(chain, list) else []


def chained(listings: Mapping[str, Listing]) -> frozenset[str]:
    """The upstreams that are Manifolds themselves."""
    found = set()
    for name, listing in listings.items():
        experimental = listing.capabilities.get("experimental")
        if isinstance(experimental, Mapping) and CHAIN_KEY in experimental:
            found.add(name)
    return frozenset(found)
