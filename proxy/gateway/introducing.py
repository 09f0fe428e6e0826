"""How Manifold introduces itself before it is up: by the configuration and what is kept on disk, as the relay will.

What the relay (``relay.py``) says at the very first depends on nothing else: upstreams are started when a client has
introduced itself, and it is not kept waiting for them. So the same can be said without the SDK, whose import takes
longer than everything else here. ``tests/e2e/test_cold_start.py`` compares the two.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from proxy import __version__
from proxy.agents.selection import parts
from proxy.agents.view import View
from proxy.agents.views import Views
from proxy.catalog.chain import MAX_CHAIN, chain_of
from proxy.catalog.merge import merge
from proxy.catalog.policy import CatalogPolicy
from proxy.catalog.store import ListingStore
from proxy.config.diff import running
from proxy.config.model import Config
from proxy.front.early import Introduce
from proxy.gateway.present import capabilities_of
from proxy.model import HANDSHAKE_VERSIONS, META_SERVER_INFO, MODERN_VERSIONS, Era
from proxy.upstream.identity import identity_of


def introducing(config: Config, agent: str | None, state: Path, instance: str) -> Introduce | None:
    """Who tells what the first answers say; None if that cannot be known yet.

    Args:
        config: the configuration.
        agent: as which agent it is served.
        state: the state directory, where last-known listings are.
        instance: which Manifold this is.

    Raises:
        UnknownServer: there is no such agent.
    """
    view = _view(config, agent, state)
    own = config.server.instructions
    if own is None and any(listing.instructions for listing in view.listings.values()):
        return None  # what may be told of them is a matter of pins
    behind = {one for listing in view.catalog.listings.values() for one in chain_of(listing.capabilities)}
    chain = [instance, *sorted(behind)[:MAX_CHAIN]]
    info = {"name": config.server.name, "version": __version__}
    told = {"instructions": own} if own else {}

    def introduce(method: str, version: str) -> Mapping[str, Any] | None:
        if method == "initialize":
            known = version if version in HANDSHAKE_VERSIONS else HANDSHAKE_VERSIONS[-1]
            offered = capabilities_of(view, Era.HANDSHAKE, chain)
            return {"protocolVersion": known, "capabilities": offered, "serverInfo": info, **told}
        if version not in MODERN_VERSIONS:
            return None
        found = {"supportedVersions": list(MODERN_VERSIONS), "capabilities": capabilities_of(view, Era.MODERN, chain)}
        stamp = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private", "_meta": {META_SERVER_INFO: info}}
        return {**found, **stamp, **told}

    return introduce


def _view(config: Config, agent: str | None, state: Path) -> View:
    """What the agent will see when the runtime has loaded the last-known listings, and nothing is up yet."""
    store = ListingStore(state / "listings")
    loaded = {name: store.load(name, identity_of(one)).listing for name, one in running(config).items()}
    listings = {name: one for name, one in loaded.items() if one is not None}
    catalog = merge(listings, CatalogPolicy.of(config), now=0.0)
    return Views(config.agents).of(catalog, *parts(agent))
