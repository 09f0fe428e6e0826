"""What runs behind every door: the upstreams, the catalog they make, the views on it, and the router.

``Runtime`` has no transport of its own. The gateway serves it, the command asks it, a Python program may embed it.
"""

import secrets
from collections import Counter
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import anyio
import structlog
from anyio.abc import TaskGroup

from proxy.agents.misfits import Misfits
from proxy.agents.selection import parts
from proxy.agents.view import View
from proxy.agents.views import Views
from proxy.ahead import Ahead
from proxy.auditing import Auditor, refusals
from proxy.catalog.chain import MAX_CHAIN, chain_of
from proxy.catalog.holder import CatalogHolder, Change
from proxy.catalog.policy import CatalogPolicy
from proxy.catalog.store import ListingKeeper
from proxy.config.diff import Plan, diff, running
from proxy.config.model import Config
from proxy.config.secrets import secrets_of
from proxy.credentials.vault import vault_in
from proxy.keeping import Keeping
from proxy.masking import learn
from proxy.model import Caller, Listing, Params, StatusEvent
from proxy.overlays import Overlays
from proxy.router import Router
from proxy.service.allowance import Allowances, limits_of
from proxy.service.base import Layer
from proxy.service.clock import SYSTEM, Clock
from proxy.trust import Trust
from proxy.upstream.kinds import AnyUpstream
from proxy.upstream.registry import Registry
from proxy.upstream.running import Running
from proxy.upstream.standing import Hooks

log = structlog.get_logger(__name__)

Heard = Callable[[str, str, Params | None], None]
"""Hears an upstream's notifications: upstream, method, params."""


class Runtime:
    """Everything behind the doors, as an async context manager.

    Args:
        config: what to run.
        state: where last-known listings are kept, a directory or a keeper; None keeps nothing.
        layers: what goes around all towers, the outermost first.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        config: Config,
        *,
        state: Path | ListingKeeper | None = None,
        layers: Sequence[Layer] = (),
        clock: Clock = SYSTEM,
    ) -> None:
        learn(secrets_of(config))
        self.config = config
        self.clock = clock
        self.audit = Auditor(config.audit)
        self.instance = secrets.token_hex(8)
        """Which Manifold this is, for chains of them."""
        self.holder = CatalogHolder(CatalogPolicy.of(config))
        self.trust = Trust(state if isinstance(state, Path) else None, self._decided)
        self.trust.decided = self.audit.decided
        self.views = Views(config.agents)
        ahead = Ahead(self.holder, self.trust, self.views, config=lambda: self.config, instance=self.instance)
        hooks = Hooks(self._status, self._listed, self._heard, ahead.prepare)
        self.registry = Registry(hooks, lambda name, _: self._loaded.get(name))
        self.registry.vault = vault_in(state)
        self.registry.access.configure(config.log.access.value)
        self._allowances = Allowances(parts, limits_of(config), clock=clock)
        self._misfits = Misfits(lambda: self.config.agents, self.view)
        self.router = Router(self.registry, self.view, self.ready, [*self.audit.layers, self._allowances, *layers])
        self.router.beside = [*self.audit.layers, self._allowances]
        overlays = Overlays(self.registry, self.holder, lambda: self.config.agents, clock)
        self.router.seen_by, self.router.ready_for = overlays.over(self.view, self.ready)
        self.router.kept_from = overlays.error
        self.router.refused = refusals(self.audit, self.registry.access)
        self.router.failed = self.registry.access.failed
        self.on_status: list[Callable[[StatusEvent], None]] = []
        self.on_notification: list[Heard] = []
        self._keeping = Keeping(state)
        self._loaded: dict[str, Listing] = {}
        self._started: float | None = None
        self._stack = AsyncExitStack()
        self._tasks: TaskGroup | None = None
        self._applying = anyio.Lock()

    async def __aenter__(self) -> Self:
        self._stack.enter_context(self.audit)
        upstreams = running(self.config)
        self._tasks = await self._stack.enter_async_context(background())
        self._loaded = await self._keeping.load(upstreams)
        await self.trust.load(self.config)
        self.holder.update(self._loaded, self.trust.policy(self.config, self._loaded))
        self._tasks.start_soon(self.trust.run)
        self._tasks.start_soon(self._keeping.run)
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
            if self._tasks is not None:
                self._tasks.start_soon(self._misfits.begin, tuple(self.registry), self._grace)

    # -- another configuration -----------------------------------------------------------------------------------------

    async def apply(self, config: Config) -> Plan:
        """Go over to another configuration: provision, swap, drain. Returns what that meant.

        First everything is got ready: upstreams that are new or need another link get one, beside the one they have,
        and have their grace to be listed. Then all changes at one moment, and downstreams are told once. Calls under
        way finish where they are, in the background.
        """
        learn(secrets_of(config))
        async with self._applying:
            plan = diff(self.config, config)
            places = plan.places()
            comers = {name: config.upstreams[name] for name in (*plan.added, *places)}
            loaded = await self._keeping.load(comers)
            self._loaded = {name: one for name, one in self._loaded.items() if name not in comers} | loaded
            await self.trust.load(config, plan.renamed)
            async with self.registry.provisioned(comers, places) as ready:
                self._swap(plan, config, ready)
        self._misfits.look()
        return plan

    def _swap(self, plan: Plan, config: Config, ready: Mapping[str, Running]) -> None:
        """The moment of the change. No await in here: nobody sees one half of it."""
        self.config = config
        self.registry.access.configure(config.log.access.value)
        places = plan.places()
        for name in plan.removed:
            self.registry.retire(name)
        for name, comer in ready.items():
            self.registry.admit(comer, places.get(name))
        for name, upstream in plan.retuned.items():
            self.registry.retune(name, upstream)
        self.registry.arrange(config.upstreams)
        self.views.configure(config.agents)
        self._allowances.configure(limits_of(config))
        self._relist(plan, {name: one.upstream.listing for name, one in ready.items() if one.listed.is_set()})

    def _relist(self, plan: Plan, fresh: Mapping[str, Listing | None]) -> None:
        """Bring the catalog in line. What has not been listed under its new configuration keeps its last listing."""
        before = {plan.renamed.get(name, name): one for name, one in self.holder.current.listings.items()}
        kept = {name: one for name, one in before.items() if name not in plan.removed}
        news = {name: one for name, one in fresh.items() if one is not None}
        listings = kept | {name: one for name, one in self._loaded.items() if name in plan.added} | news
        policy = self.trust.policy(self.config, listings)
        self.holder.update(listings, policy, renamed=plan.renamed)
        for name, listing in news.items():
            self._keep(name, listing)

    # -- views ---------------------------------------------------------------------------------------------------

    def view(self, agent: str | None) -> View:
        """The catalog as an agent sees it, or as all of several joined ones do; None is the store: everything.

        Raises:
            UnknownServer: there is no such agent.
        """
        catalog = self.holder.current
        return self.views.of(catalog) if agent is None else self.views.of(catalog, *parts(agent))

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

    async def _grace(self, upstream: AnyUpstream) -> None:
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
        if self.instance in chain_of(listing.capabilities):
            # What it offers is what we offer: taking it in would list everything again and again, and call in circles.
            log.error("upstream.loop", upstream=upstream, hint="It leads back to this Manifold; remove it on one side.")
            self.holder.replace(upstream, None)
            return
        listings = {**self.holder.current.listings, upstream: listing}
        self.holder.update(listings, self.trust.policy(self.config, listings))
        if listing != known:
            self._keep(upstream, listing)
            self._misfits.look()

    def _decided(self) -> None:
        listings = self.holder.current.listings
        self.holder.update(listings, self.trust.policy(self.config, listings))

    async def roots_changed(self, caller: Caller) -> None:
        """A downstream's roots changed: tell every session that was told of such roots."""
        for upstream in tuple(self.registry):
            await upstream.roots_changed(caller.told)

    def chain(self) -> list[str]:
        """Itself, and all Manifolds that stand behind it."""
        listings = self.holder.current.listings.values()
        behind = {one for listing in listings for one in chain_of(listing.capabilities)}
        return [self.instance, *sorted(behind)[:MAX_CHAIN]]

    def forget(self, upstream: str) -> Change | None:
        """Take an upstream's entries out of the catalog; exactly its own."""
        return self.holder.replace(upstream, None)

    # -- last-known listings -----------------------------------------------------------------------------------------

    def _keep(self, upstream: str, listing: Listing) -> None:
        if config := self.config.upstreams.get(upstream):
            self._keeping.save(upstream, config, listing)


@asynccontextmanager
async def background() -> AsyncIterator[TaskGroup]:
    """A task group that is cancelled when its block ends; the block's own error goes on as it is, in no group."""
    tasks = await anyio.create_task_group().__aenter__()
    try:
        yield tasks
    finally:
        tasks.cancel_scope.cancel()
        await tasks.__aexit__(None, None, None)


def _harmless(callback: Callable[[], None]) -> None:
    try:
        callback()
    except Exception:
        # A listener's fault is its own.
        log.exception("runtime.listener.failed")
