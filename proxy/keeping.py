"""Last-known listings: loaded at the start and for newcomers, saved when they change; never a reason to fail."""

import os
import time
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
import structlog

from proxy.catalog.store import ListingKeeper, ListingStore
from proxy.config.model import UpstreamConfig
from proxy.model import Listing
from proxy.upstream.identity import identity_of

log = structlog.get_logger(__name__)

_PATIENCE: Final = 5.0
"""Seconds that saving the last news of everything may take at the end."""
_FORGOTTEN: Final = 90 * 86400.0
"""Seconds after which a listing that nobody has used or saved is removed: its upstream is gone, or is another now."""


def users_state() -> Path:
    """The user's state folder, or what stands for it (XDG base directories)."""
    base = os.environ.get("XDG_STATE_HOME", "")
    root = Path(base) if Path(base).is_absolute() else Path.home() / ".local" / "state"
    return root / "mcp-manifold"


class Keeping:
    """Loads and saves in a thread. ``run`` in a task group.

    Args:
        place: a directory, a keeper, or None to keep nothing.
    """

    def __init__(self, place: Path | ListingKeeper | None) -> None:
        self._keeper = ListingStore(place / "listings") if isinstance(place, Path) else place
        self._pending: dict[str, tuple[UpstreamConfig, Listing]] = {}
        self._news = anyio.Event()

    async def load(self, upstreams: Mapping[str, UpstreamConfig]) -> dict[str, Listing]:
        """The last-known listings of upstreams; what cannot be used is left out and reported in the log."""
        if self._keeper is None:
            return {}
        return await anyio.to_thread.run_sync(self._load, self._keeper, upstreams)

    def save(self, upstream: str, config: UpstreamConfig, listing: Listing) -> None:
        """Have a listing saved soon, in the place of an older one; the log says if that fails."""
        if self._keeper is not None:
            self._pending[upstream] = config, listing
            self._news.set()

    async def run(self) -> None:
        """Save what there is to save, one after the other, until cancelled; and then the rest, bounded."""
        if self._keeper is None:
            return
        try:
            if isinstance(self._keeper, ListingStore):
                await anyio.to_thread.run_sync(partial(self._keeper.prune, before=time.time() - _FORGOTTEN))
            while True:
                await self._news.wait()
                self._news = anyio.Event()
                await self._save(self._keeper)
        finally:
            with anyio.move_on_after(_PATIENCE, shield=True):
                await self._save(self._keeper)

    async def _save(self, keeper: ListingKeeper) -> None:
        while self._pending:
            upstream, news = next(iter(self._pending.items()))
            config, listing = news
            save = partial(keeper.save, upstream, identity_of(config), listing, at=time.time())
            reason = f"it took longer than {_PATIENCE:g} s"
            with anyio.move_on_after(_PATIENCE):
                reason = await anyio.to_thread.run_sync(save)
            if self._pending[upstream] is news:  # if cancelled before, it is still to be saved
                del self._pending[upstream]
            if reason:
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
