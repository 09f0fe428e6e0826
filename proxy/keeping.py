"""Last-known listings: loaded at the start and for newcomers, saved when they change; never a reason to fail."""

import os
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import anyio.to_thread
import structlog

from proxy.catalog.store import ListingKeeper, ListingStore
from proxy.config.model import UpstreamConfig
from proxy.model import Listing
from proxy.upstream.identity import identity_of

log = structlog.get_logger(__name__)


def users_state() -> Path:
    """The user's state folder, or what stands for it (XDG base directories)."""
    base = os.environ.get("XDG_STATE_HOME", "")
    root = Path(base) if Path(base).is_absolute() else Path.home() / ".local" / "state"
    return root / "mcp-manifold"


class Keeping:
    """Loads and saves in a thread.

    Args:
        place: a directory, a keeper, or None to keep nothing.
    """

    def __init__(self, place: Path | ListingKeeper | None) -> None:
        self._keeper = ListingStore(place / "listings") if isinstance(place, Path) else place

    async def load(self, upstreams: Mapping[str, UpstreamConfig]) -> dict[str, Listing]:
        """The last-known listings of upstreams; what cannot be used is left out and reported in the log."""
        if self._keeper is None:
            return {}
        return await anyio.to_thread.run_sync(self._load, self._keeper, upstreams)

    async def save(self, upstream: str, config: UpstreamConfig, listing: Listing) -> None:
        """Save a listing; the log says if that fails."""
        if self._keeper is None:
            return
        save = partial(self._keeper.save, upstream, identity_of(config), listing, at=time.time())
        if reason := await anyio.to_thread.run_sync(save):
            log.warning("catalog.not_saved", upstream=upstream, reason=reason)

    @staticmethod
    def _load(keeper: ListingKeeper, upstreams: Mapping[str, UpstreamConfig]) -> dict[str, Listing]:
        found: dict[str, Listing] = {}
        for name, config in upstreams.items():
            loaded = keeper.load(name, identity_of(config))
            if loaded.listing is not None:
                found[name] = loaded.listing
            elif loaded.reason:
                log.warning("catalog.file_ignored", upstream=name, reason=loaded.reason)
        return found
