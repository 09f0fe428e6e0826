"""What follows from a new listing, got ready before it is published: then all that is left is to swap.

A thousand tools take some ten milliseconds to be compared, checked, named and put into every view. That is done a turn
of the event loop at a time, on the side; nobody sees anything of it before the moment in which all of it counts.
"""

from collections.abc import Callable, Mapping
from typing import Final

import anyio

from proxy.agents.views import Views
from proxy.catalog.chain import chain_of
from proxy.catalog.holder import CatalogHolder
from proxy.config.model import Config
from proxy.model import Listing
from proxy.trust import Trust
from proxy.upstream.slices import in_turns

_TRIES: Final = 3
"""Attempts, where the catalog becomes another one meanwhile. After that the moment of publishing takes longer."""


class Ahead:
    """Prepares listings.

    Args:
        holder: where they will be published.
        trust: who says under which policy.
        views: all views.
        config: the configuration, as it is now.
        instance: which Manifold this is; what leads back to it is not published.
    """

    def __init__(
        self, holder: CatalogHolder, trust: Trust, views: Views, *, config: Callable[[], Config], instance: str
    ) -> None:
        self._holder = holder
        self._trust = trust
        self._views = views
        self._config = config
        self._instance = instance
        self._turn = anyio.Lock()

    async def prepare(self, upstream: str, listing: Listing) -> None:
        """Get ready for a listing that will be published next: without any waiting in between, it is what counts."""
        if self._instance in chain_of(listing.capabilities):
            return
        async with self._turn:  # one after the other, for each builds on the one before
            for _ in range(_TRIES):
                before = self._holder.current
                await self._make({**before.listings, upstream: listing})
                if self._holder.current is before:
                    break

    async def _make(self, listings: Mapping[str, Listing]) -> None:
        policy = self._trust.foreseen(self._config(), listings)
        coming = await in_turns(self._holder.preparing(listings, policy))
        if coming is not None:
            await in_turns(self._views.preparing(coming))
