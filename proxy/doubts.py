"""What is suspicious in the texts of the upstreams: worked out in the background, told once, and kept for reports."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

import anyio
import anyio.to_thread
import structlog

from proxy.catalog.pinning import definitions
from proxy.catalog.showing import on_one_line
from proxy.model import Listing

if TYPE_CHECKING:
    from proxy.catalog.suspicion import Remark

log = structlog.get_logger(__name__)

_REPORTED: Final = 20
"""How many remarks about one listing are logged one by one."""
_LENGTH: Final = 200
"""How much of a name goes into the log, in characters."""


class Doubts:
    """Remarks about the listings that were seen last. ``run`` in a task group."""

    def __init__(self) -> None:
        self._listings: dict[str, Listing] = {}
        self._remarks: dict[str, tuple[Remark, ...]] = {}
        self._unread: dict[str, None] = {}
        self._news = anyio.Event()
        self._reading = anyio.Lock()

    def see(self, listings: Mapping[str, Listing]) -> None:
        """These are the listings now."""
        for name, listing in listings.items():
            if self._listings.get(name) is not listing:
                self._unread[name] = None
        self._unread |= dict.fromkeys(self._listings.keys() - listings.keys())
        self._listings = dict(listings)
        if self._unread:
            self._news.set()

    async def run(self) -> None:
        """Read what is new, until cancelled."""
        while True:
            await self._news.wait()
            self._news = anyio.Event()
            await self.read()

    async def read(self) -> None:
        """Read everything that is new, and wait for whoever is reading already."""
        async with self._reading:
            while self._unread:
                await self._read(self._unread.popitem()[0])

    def remarks(self, upstream: str) -> "tuple[Remark, ...]":
        """What is suspicious in an upstream's listing, as far as it was read."""
        return self._remarks.get(upstream, ())

    async def _read(self, upstream: str) -> None:
        listing = self._listings.get(upstream)
        if listing is None:
            self._remarks.pop(upstream, None)
            return
        others = {name: _tools(one) for name, one in self._listings.items() if name != upstream}
        try:
            # In a thread, because a server decides how much there is to be read.
            remarks = await anyio.to_thread.run_sync(_looked_at, listing, others)
        except Exception:  # a fault of ours costs nobody more than these remarks
            log.exception("pinning.not_read", upstream=upstream)
            return
        known = frozenset(self._remarks.get(upstream, ()))
        self._remarks[upstream] = remarks
        self._report(upstream, [one for one in remarks if one not in known])

    def _report(self, upstream: str, fresh: "list[Remark]") -> None:
        for one in fresh[:_REPORTED]:
            log.warning(
                "pinning.suspicious",
                upstream=upstream,
                kind=one.part.kind,
                name=on_one_line(one.part.name[:_LENGTH]),
                place=on_one_line(one.place[:_LENGTH]),
                what=one.what.value,
                excerpt=one.excerpt,
            )
        if len(fresh) > _REPORTED:
            log.warning("pinning.more_suspicious", upstream=upstream, count=len(fresh) - _REPORTED)


def _looked_at(listing: Listing, others: Mapping[str, list[str]]) -> "tuple[Remark, ...]":
    from proxy.catalog.suspicion import suspicions  # noqa: PLC0415 - compiling its patterns would slow down every start

    return suspicions(definitions(listing), others)


def _tools(listing: Listing) -> list[str]:
    return [tool["name"] for tool in listing.tools if isinstance(tool, Mapping) and isinstance(tool.get("name"), str)]
