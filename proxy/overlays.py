"""The catalog as the owner of a credential sees it, where an upstream offers each of them something else.

An upstream whose requests are sent with different credentials may mark its lists as private: then they are for whose
credential fetched them, and for nobody else (spec 2026-07-28, caching: ``cacheScope``). The operator's listing of such
an upstream is left out of the views of all others; each of them gets the listing that their own credential fetches.
"""

from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

import anyio
import structlog

from proxy.agents.selection import parts
from proxy.agents.view import View
from proxy.agents.views import Views
from proxy.catalog.holder import CatalogHolder
from proxy.catalog.merge import merge
from proxy.catalog.snapshot import Catalog
from proxy.config.model import AgentConfig
from proxy.credentials.source import again
from proxy.errors import Unavailable, UpstreamError
from proxy.model import Caller, Listing
from proxy.service.clock import SYSTEM, Clock
from proxy.upstream.personal import listing_for
from proxy.upstream.registry import Registry

log = structlog.get_logger(__name__)

MOST: Final = 256
"""Owners whose catalogs are kept; of more, the one that was asked for longest ago is made again."""
PATIENCE: Final = 5.0
"""Seconds that somebody's first list waits for what an upstream offers to them."""
RETRY: Final = 10.0
"""Seconds after a failed attempt in which nobody tries again."""

Sight = Callable[[str | None], View]
Wait = Callable[[str | None], Awaitable[None]]
Key = tuple[tuple[str, str], ...]
"""Upstream and owner, for each upstream that tells them something of their own."""


@dataclass(slots=True)
class _Own:
    """What one upstream offers to one owner."""

    listing: Listing | None = None
    error: UpstreamError | None = None
    """Why it is not known."""
    until: float = 0.0
    """When it is to be fetched again, in seconds of the clock."""
    lock: anyio.Lock = field(default_factory=anyio.Lock)


@dataclass(slots=True)
class _Made:
    """One owner's catalog, and what it was made of."""

    base: Catalog
    own: Mapping[str, Listing | None]
    catalog: Catalog
    views: Views


class Overlays:
    """Makes views for callers. For nearly all of them that is the agent's own view.

    Args:
        registry: the upstreams.
        holder: has the catalog that everybody shares.
        agents: the configured agents.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        registry: Registry,
        holder: CatalogHolder,
        agents: Callable[[], Mapping[str, AgentConfig]],
        clock: Clock = SYSTEM,
    ) -> None:
        self._registry = registry
        self._holder = holder
        self._agents = agents
        self._clock = clock
        self._private: tuple[Catalog | None, tuple[str, ...]] = (None, ())
        self._plain: Catalog | None = None
        """The last catalog, if nothing in it is private."""
        self._own: OrderedDict[tuple[str, str], _Own] = OrderedDict()
        self._made: OrderedDict[Key, _Made] = OrderedDict()

    def over(self, view: Sight, ready: Wait) -> tuple[Callable[[Caller], View], Callable[[Caller], Awaitable[None]]]:
        """Views and waits for callers, made of those for agents."""

        def seen_by(caller: Caller) -> View:
            if self._holder.current is self._plain or not (key := self._key(caller)):
                return view(caller.agent)
            made = self._catalog(key)
            return made.views.of(made.catalog, *(parts(caller.agent) if caller.agent is not None else ()))

        async def ready_for(caller: Caller) -> None:
            await ready(caller.agent)
            await self._complete(caller)

        return seen_by, ready_for

    def error(self, caller: Caller, upstream: str) -> UpstreamError | None:
        """Why a caller does not see what an upstream offers to it alone; None if it does, or need not."""
        own = next((self._kept(one) for one in self._key(caller) if one[0] == upstream), None)
        return None if own is None or own.listing is not None or own.error is None else again(own.error)

    async def _complete(self, caller: Caller) -> None:
        """Fetch what upstreams offer to a caller alone, as far as it is not known; bounded, and never a failure."""
        missing = [one for one in self._key(caller) if self._kept(one).until <= self._clock.now()]
        if missing:
            with anyio.move_on_after(PATIENCE):
                async with anyio.create_task_group() as tasks:
                    for one in missing:
                        tasks.start_soon(self._fetch, one, caller)

    def _key(self, caller: Caller) -> Key:
        catalog = self._holder.current
        if self._private[0] is not catalog:
            self._private = (catalog, tuple(name for name, one in catalog.listings.items() if one.private))
            self._plain = None if self._private[1] else catalog
        if not self._private[1]:
            return ()
        owners = ((name, self._registry.whose(name, caller)) for name in self._private[1])
        return tuple(one for one in owners if one[1])

    def _kept(self, one: tuple[str, str]) -> _Own:
        own = self._own.get(one)
        if own is None:
            own = self._own[one] = _Own(until=self._clock.now())
            if len(self._own) > MOST:
                self._own.popitem(last=False)
        self._own.move_to_end(one)
        return own

    async def _fetch(self, one: tuple[str, str], caller: Caller) -> None:
        own, (name, whose) = self._kept(one), one
        async with own.lock:
            if own.until > self._clock.now() or name not in self._registry:
                return  # somebody else has just done it
            upstream = self._registry[name]
            try:
                own.listing, own.error = await listing_for(upstream, caller), None
                own.until = self._clock.now() + upstream.config.refresh
            except UpstreamError as error:
                fit = isinstance(error, Unavailable)
                own.error = error if fit else Unavailable(error.message, upstream=name, hint=error.hint)
                own.until = self._clock.now() + RETRY
                log.info("overlay.not_listed", upstream=name, whose=whose, reason=error.message)

    def _catalog(self, key: Key) -> _Made:
        base, own = self._holder.current, {one[0]: self._kept(one).listing for one in key}
        made = self._made.get(key)
        if made is None or made.base is not base or any(made.own[name] is not own[name] for name in own):
            listings = {name: own.get(name, known) for name, known in base.listings.items()}
            shown = {name: listing for name, listing in listings.items() if listing is not None}
            before = made.catalog if made else base
            renamed = {old: one.name for old, one in base.moves.items() if old in before.listings}
            catalog = merge(shown, base.policy, previous=before, now=self._clock.now(), renamed=renamed)
            views = made.views if made is not None else Views(self._agents())
            made = self._made[key] = _Made(base, own, catalog, views)
            if len(self._made) > MOST:
                self._made.popitem(last=False)
        self._made.move_to_end(key)
        made.views.configure(self._agents())
        return made
