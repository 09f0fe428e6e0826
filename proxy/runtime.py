"""What runs behind every door: the upstreams, the catalog they make, the views on it, and the router.

``Runtime`` has no transport of its own. The gateway serves it, the command asks it, a Python program may embed it.
"""

import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import anyio
import anyio.to_thread
import structlog
from anyio.abc import TaskGroup

from proxy.agents.view import View, Views
from proxy.catalog.holder import CatalogHolder, Change
from proxy.catalog.naming import sanitise
from proxy.catalog.policy import CatalogPolicy
from proxy.catalog.store import ListingStore
from proxy.config.diff import Plan, diff, running
from proxy.config.model import Config, UpstreamConfig
from proxy.model import Caller, Listing, Params, StatusEvent
from proxy.router import Router
from proxy.service.clock import SYSTEM, Clock
from proxy.upstream.identity import identity_of
from proxy.upstream.registry import Registry
from proxy.upstream.running import Running
from proxy.upstream.standing import Hooks
from proxy.upstream.upstream import Upstream

log = structlog.get_logger(__name__)

CHAIN_KEY: Final = "mcp-manifold"
"""The experimental capability by which one Manifold knows another (docs/guide/chaining.md)."""

Heard = Callable[[str, str, Params | None], None]
"""Hears an upstream's notifications: upstream, method, params."""


class Runtime:
    """Everything behind the doors, as an async context manager.

    Args:
        config: what to run.
        state: the directory for last-known listings; None keeps nothing.
        clock: monotonic seconds.
    """

    def __init__(self, config: Config, *, state: Path | None = None, clock: Clock = SYSTEM) -> None:
        self.config = config
        self.clock = clock
        self.holder = CatalogHolder(CatalogPolicy.of(config))
        self.views = Views(config.agents)
        self.registry = Registry(Hooks(self._status, self._listed, self._heard), self._known)
        self.router = Router(self.registry, self.view, self.ready)
        self.on_status: list[Callable[[StatusEvent], None]] = []
        self.on_notification: list[Heard] = []
        self._store = ListingStore(state / "listings") if state is not None else None
        self._loaded: dict[str, Listing] = {}
        self._started: float | None = None
        self._stack = AsyncExitStack()
        self._tasks: TaskGroup | None = None
        self._applying = anyio.Lock()

    async def __aenter__(self) -> Self:
        upstreams = running(self.config)
        self._loaded = await anyio.to_thread.run_sync(self._load, upstreams)
        self.holder.update(self._loaded)
        self._tasks = await self._stack.enter_async_context(background())
        await self._stack.enter_async_context(self.registry)
        for name, upstream in upstreams.items():
            self.registry.add(name, upstream, start=False)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.__aexit__(kind, error, trace)

    def start(self, only: Caller | None = None) -> None:
        """Start the upstreams; once. Apart from entering, so that a door can find out first who is there.

        Args:
            only: the only downstream that there will be, if that is known: its era and capabilities are used for every
                link from the start, so that no upstream is started twice.
        """
        if self._started is None:
            self._started = self.clock.now()
            if only is not None:
                self.registry.introduce(only.told, only.era)
            self.registry.start_all()

    # -- another configuration -----------------------------------------------------------------------------------------

    async def apply(self, config: Config) -> Plan:
        """Go over to another configuration: provision, swap, drain. Returns what that meant.

        First everything is got ready: upstreams that are new or need another link get one, beside the one they have,
        and have their grace to be listed. Then all changes at one moment, and downstreams are told once. Calls under
        way finish where they are, in the background.
        """
        async with self._applying:
            plan = diff(self.config, config)
            places = plan.places()
            comers = {name: config.upstreams[name] for name in (*plan.added, *places)}
            loaded = await anyio.to_thread.run_sync(self._load, comers)
            self._loaded = {name: one for name, one in self._loaded.items() if name not in comers} | loaded
            async with self.registry.provisioned(comers, places) as ready:
                self._swap(plan, config, ready)
        return plan

    def _swap(self, plan: Plan, config: Config, ready: Mapping[str, Running]) -> None:
        """The moment of the change. No await in here: nobody sees one half of it."""
        self.config = config
        places = plan.places()
        for name in plan.removed:
            self.registry.retire(name)
        for name, comer in ready.items():
            self.registry.admit(comer, places.get(name))
        for name, upstream in plan.retuned.items():
            self.registry.retune(name, upstream)
        self.registry.arrange(config.upstreams)
        self.views.configure(config.agents)
        self._relist(plan, {name: one.upstream.listing for name, one in ready.items() if one.listed.is_set()})

    def _relist(self, plan: Plan, fresh: Mapping[str, Listing | None]) -> None:
        """Bring the catalog in line. What has not been listed under its new configuration keeps its last listing."""
        before = {plan.renamed.get(name, name): one for name, one in self.holder.current.listings.items()}
        kept = {name: one for name, one in before.items() if name not in plan.removed}
        news = {name: one for name, one in fresh.items() if one is not None}
        listings = kept | {name: one for name, one in self._loaded.items() if name in plan.added} | news
        policy = CatalogPolicy.of(self.config, chained=_chained(listings))
        if plan.renamed:
            self.holder.update(kept, _as_before(policy, self.holder.current.policy, plan.renamed))
        self.holder.update(listings, policy)
        for name, listing in news.items():
            self._keep(name, listing)

    # -- views ---------------------------------------------------------------------------------------------------

    def view(self, agent: str | None) -> View:
        """The catalog as an agent sees it; None is the store, which sees everything.

        Raises:
            UnknownServer: there is no such agent.
        """
        catalog = self.holder.current
        return self.views.of(catalog) if agent is None else self.views.of(catalog, agent)

    async def ready(self, agent: str | None) -> None:
        """The smart wait: until every upstream of the agent is listed, or its grace since the start is over.

        An upstream whose last-known listing came from disk is not waited for.
        """
        visible = self.view(agent).upstreams
        for upstream in tuple(self.registry):
            if upstream.listing is None and upstream.name in visible:
                await self._grace(upstream)

    def waiting(self) -> bool:
        """Whether some upstream's first listing may still come within its grace: what ``/readyz`` asks."""
        now = self.clock.now()
        started = now if self._started is None else self._started
        return any(
            one.listing is None and not one.has_settled and now < started + one.config.first_list_grace
            for one in self.registry
            if not one.config.lazy
        )

    def counts(self) -> dict[str, int]:
        """How many upstreams are in which state."""
        return dict(Counter(one.state.value for one in self.registry))

    async def _grace(self, upstream: Upstream) -> None:
        began = self._started if self._started is not None else self.clock.now()
        if upstream.config.lazy:
            # Its first use is this: somebody asks what it offers, and nobody knows.
            upstream.start()
            began = upstream.wanted_since(self.clock.now())
        left = began + upstream.config.first_list_grace - self.clock.now()
        if left > 0:
            with anyio.move_on_after(left):
                await upstream.settled()

    # -- what the upstreams report ---------------------------------------------------------------------------------

    def _status(self, event: StatusEvent) -> None:
        for callback in tuple(self.on_status):
            _harmless(partial(callback, event))

    def _heard(self, upstream: str, method: str, params: Params | None) -> None:
        for callback in tuple(self.on_notification):
            _harmless(partial(callback, upstream, method, params))

    def _listed(self, upstream: str, listing: Listing) -> None:
        if upstream not in self.registry:
            return
        known = self.holder.current.listings.get(upstream)
        self._note_chain(upstream, listing)
        self.holder.replace(upstream, listing)
        if listing != known:
            self._keep(upstream, listing)

    def _note_chain(self, upstream: str, listing: Listing) -> None:
        policy = CatalogPolicy.of(self.config, chained=_chained({**self.holder.current.listings, upstream: listing}))
        if policy != self.holder.current.policy:
            self.holder.update(self.holder.current.listings, policy)

    async def roots_changed(self, caller: Caller) -> None:
        """A downstream's roots changed: tell every session that was told of such roots."""
        for upstream in tuple(self.registry):
            await upstream.roots_changed(caller.told)

    def forget(self, upstream: str) -> Change | None:
        """Take an upstream's entries out of the catalog; exactly its own."""
        return self.holder.replace(upstream, None)

    # -- last-known listings -----------------------------------------------------------------------------------------

    def _known(self, name: str, config: UpstreamConfig) -> Listing | None:
        del config
        return self._loaded.get(name)

    def _load(self, upstreams: Mapping[str, UpstreamConfig]) -> dict[str, Listing]:
        found: dict[str, Listing] = {}
        for name, config in upstreams.items() if self._store is not None else ():
            loaded = self._store.load(name, identity_of(config)) if self._store is not None else None
            if loaded is not None and loaded.listing is not None:
                found[name] = loaded.listing
            elif loaded is not None and loaded.reason:
                log.warning("catalog.file_ignored", upstream=name, reason=loaded.reason)
        return found

    def _keep(self, upstream: str, listing: Listing) -> None:
        if self._store is not None and self._tasks is not None:
            self._tasks.start_soon(self._save, upstream, listing)

    async def _save(self, upstream: str, listing: Listing) -> None:
        config = self.config.upstreams.get(upstream)
        if self._store is None or config is None:
            return
        save = partial(self._store.save, upstream, identity_of(config), listing, at=time.time())
        if reason := await anyio.to_thread.run_sync(save):
            log.warning("catalog.not_saved", upstream=upstream, reason=reason)


@asynccontextmanager
async def background() -> AsyncIterator[TaskGroup]:
    """A task group that is cancelled when its block ends; the block's own error goes on as it is, in no group."""
    tasks = await anyio.create_task_group().__aenter__()
    try:
        yield tasks
    finally:
        tasks.cancel_scope.cancel()
        await tasks.__aexit__(None, None, None)


def _as_before(policy: CatalogPolicy, old: CatalogPolicy, renamed: Mapping[str, str]) -> CatalogPolicy:
    """A policy by which renamed upstreams give their tools the names they had.

    A catalog made by it, just before the one by the new policy, makes the old names aliases. Names with a hash in them
    depend on the upstream's own name, so they are not found again.
    """
    named = {new: old.naming.pattern_of(name).replace("{server}", sanitise(name)) for name, new in renamed.items()}
    return replace(policy, naming=replace(policy.naming, patterns={**policy.naming.patterns, **named}))


def _chained(listings: Mapping[str, Listing]) -> frozenset[str]:
    found = set()
    for name, listing in listings.items():
        experimental = listing.capabilities.get("experimental")
        if isinstance(experimental, Mapping) and CHAIN_KEY in experimental:
            found.add(name)
    return frozenset(found)


def _harmless(callback: Callable[[], None]) -> None:
    try:
        callback()
    except Exception:
        # A listener's fault is its own.
        log.exception("runtime.listener.failed")
