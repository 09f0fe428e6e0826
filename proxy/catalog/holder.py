"""Holds the current catalog, replaces it when an upstream's listing changes, and tells who wants to know."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from time import time
from types import MappingProxyType
from typing import Final, TypeAlias

import anyio
import structlog

from proxy.catalog.merge import changed, merge, merging
from proxy.catalog.policy import CatalogPolicy
from proxy.catalog.snapshot import Catalog
from proxy.model import Kind, Listing
from proxy.service.steps import Steps

log = structlog.get_logger(__name__)

_REPORTED: Final = 20
"""How many entries that were left out are logged one by one after a change."""
_NAME_LENGTH: Final = 200
"""How much of a name goes into the log, in characters."""


@dataclass(frozen=True, slots=True)
class Change:
    """One catalog followed another."""

    old: Catalog
    new: Catalog
    kinds: frozenset[Kind]
    """The kinds whose lists differ; empty if only capabilities, instructions or cache hints did."""


@dataclass(frozen=True, slots=True)
class _Ahead:
    """A catalog that may follow on another one."""

    old: Catalog
    listings: Mapping[str, Listing]
    new: Catalog

    def fits(self, old: Catalog, listings: Mapping[str, Listing], policy: CatalogPolicy) -> bool:
        """Whether it is the catalog of just these listings under this policy."""
        same = self.old is old and self.listings.keys() == listings.keys() and self.new.policy == policy
        return same and all(listings[name] is one for name, one in self.listings.items())


Subscriber: TypeAlias = Callable[[Change], None]


class CatalogHolder:
    """The one place where the catalog changes. To be used from one event loop, or one thread without any.

    Args:
        policy: names, order and filters.
        clock: the time in seconds; it only has to advance.
    """

    def __init__(self, policy: CatalogPolicy, *, clock: Callable[[], float] = time) -> None:
        self._clock = clock
        self.current = merge({}, policy, now=clock())
        """The catalog as it is now, changed by ``update`` alone. Plain, since every request asks for it."""
        self._subscribers: dict[object, Subscriber] = {}
        self._next: anyio.Event | None = None
        self._ahead: _Ahead | None = None

    def replace(self, upstream: str, listing: Listing | None) -> Change | None:
        """Take in what an upstream offers now; None means that it is gone.

        Returns:
            What changed; None if the listing is the one already known, so that the catalog stays as it is.
        """
        listings = {name: known for name, known in self.current.listings.items() if name != upstream}
        return self.update(listings if listing is None else {**listings, upstream: listing})

    def update(
        self,
        listings: Mapping[str, Listing],
        policy: CatalogPolicy | None = None,
        *,
        renamed: Mapping[str, str] = MappingProxyType({}),
    ) -> Change | None:
        """Replace all listings, and the policy if one is given, in one step. Returns the same as ``replace``.

        Args:
            listings: what every upstream offers now.
            policy: names, order and filters from now on.
            renamed: upstreams that have another name from now on: old -> new.
        """
        old = self.current
        policy = policy or old.policy
        ahead, self._ahead = self._ahead, None
        if ahead is not None and not renamed and ahead.fits(old, listings, policy):
            new = ahead.new
        elif policy == old.policy and _same(listings, old.listings):
            return None
        else:
            new = merge(listings, policy, previous=old, now=self._clock(), renamed=renamed)
        change = Change(old, new, changed(old, new))
        self.current = new
        self._report(change)
        self._announce(change)
        return change

    def preparing(self, listings: Mapping[str, Listing], policy: CatalogPolicy) -> Steps[Catalog | None]:
        """Make the catalog for an ``update`` with just these arguments, in steps, so that it has little left to do.

        Returns:
            The catalog; None if it stays as it is.
        """
        old = self.current
        if policy == old.policy and all(old.listings.get(name) is one for name, one in listings.items()):
            return None
        new = yield from merging(listings, policy, previous=old, now=self._clock())
        yield from new.indexing()
        self._ahead = _Ahead(old, listings, new)
        return new

    def subscribe(self, subscriber: Subscriber) -> Callable[[], None]:
        """Call somebody after every change, in the order of subscription. Returns how to end that.

        A subscriber runs where the change was made, so it must neither block nor change the catalog itself.
        """
        ticket = object()
        self._subscribers[ticket] = subscriber
        return lambda: self._remove(ticket)

    async def newer(self, version: int) -> Catalog:
        """Wait for a catalog newer than a version, and return the newest. Versions in between may be skipped."""
        while self.current.version <= version:
            if self._next is None:
                self._next = anyio.Event()
            await self._next.wait()
        return self.current

    def _remove(self, ticket: object) -> None:
        self._subscribers.pop(ticket, None)

    def _announce(self, change: Change) -> None:
        waiting, self._next = self._next, None
        if waiting is not None:
            waiting.set()
        for subscriber in list(self._subscribers.values()):
            try:
                subscriber(change)
            except Exception:  # one who fails must not keep the news from the others
                log.exception("catalog.subscriber_failed", version=change.new.version)

    def _report(self, change: Change) -> None:
        known = set(change.old.conflicts)
        fresh = [conflict for conflict in change.new.conflicts if conflict not in known]
        for conflict in fresh[:_REPORTED]:
            log.warning(
                "catalog.entry_left_out",
                upstream=conflict.upstream,
                kind=str(conflict.kind),
                name=conflict.name[:_NAME_LENGTH],
                index=conflict.index,
                reason=conflict.reason,
            )
        if len(fresh) > _REPORTED:
            log.warning("catalog.more_entries_left_out", count=len(fresh) - _REPORTED)


def _same(listings: Mapping[str, Listing], others: Mapping[str, Listing]) -> bool:
    try:
        return dict(listings) == dict(others)
    except RecursionError:  # nested more deeply than can be compared; the merge leaves such entries out
        return False
