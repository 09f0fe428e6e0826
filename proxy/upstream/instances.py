"""Several equal instances of one upstream (``urls``), which look like one to everybody else.

Each instance is an upstream of its own, with a supervisor that connects it and a breaker before it; the tower spreads
the calls over those that have a session. What the group offers is the listing of one of them, the *lead*, which stays
the lead for as long as it serves: equal instances offer the same, and if not quite, then at least it does not flicker.
"""

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import anyio

from proxy.config.model import UpstreamConfig
from proxy.credentials.wallet import Wallet
from proxy.errors import ConnectFailed, UpstreamError
from proxy.model import Call, Era, Listing, Params, Reply, StatusEvent, UpstreamState
from proxy.service.health import HealthStatus
from proxy.service.notes import Notes, noted
from proxy.upstream.session import Session
from proxy.upstream.standing import Hooks
from proxy.upstream.upstream import Upstream
from proxy.upstream.watching import Watched

Moved = Callable[[StatusEvent], None]
"""Hears of each member's change of state."""

_RANK: Final = (
    UpstreamState.READY,
    UpstreamState.DEGRADED,
    UpstreamState.CONNECTING,
    UpstreamState.IDLE,
    UpstreamState.BACKING_OFF,
    UpstreamState.ERROR,
    UpstreamState.AUTH_REQUIRED,
    UpstreamState.DRAINING,
    UpstreamState.STOPPED,
)
"""States, the best first: a group is as well as its best instance."""

_SETTLED: Final = frozenset(UpstreamState) - {UpstreamState.IDLE, UpstreamState.CONNECTING}


class Instance:
    """One member as the tower sees it: a call that finds it without a session goes to another one that has one."""

    def __init__(self, upstream: Upstream, group: "Group") -> None:
        self.upstream = upstream
        self._group = group
        self.judged: Callable[[HealthStatus, str], None] = upstream.judged

    @property
    def listing(self) -> Listing | None:
        """What the instance offers."""
        return self.upstream.listing

    @property
    def is_live(self) -> bool:
        """Whether it has a session."""
        return self.upstream.is_live

    async def request(self, call: Call, /) -> Reply:
        """Send a call. Waits for a session only if no other instance has one.

        Raises:
            UpstreamError: as ``Upstream.request`` does.
        """
        try:
            if not self._group.is_live:
                await self._group.reached(self.upstream)
            if not any(one.is_live for one in self._group.upstreams if one is not self.upstream):
                return await self.upstream.request(call)
            if not self.is_live:
                self.upstream.start()
                raise ConnectFailed("is not connected; the other instances are")
            return await self.upstream.request(call, replay=False)
        except UpstreamError as error:
            error.upstream = self._group.name
            raise


class Group:
    """An upstream made of equal ones. Has the face of ``Upstream``; run ``run`` in a task group.

    Args:
        name: its key in the configuration.
        wallet: how to reach it and what to show to it; ``urls`` has two or more.
        hooks: who hears what becomes of the group.
        known: its last known listing.
        moved: hears what becomes of each member.
    """

    def __init__(self, name: str, wallet: Wallet, hooks: Hooks, known: Listing | None, moved: Moved) -> None:
        self._config = config = wallet.config
        self.name = name
        self.state = UpstreamState.IDLE
        self.reason = "not started"
        self.since = time.time()
        self._hooks = hooks
        self._moved = moved
        self._watched = Watched()
        self._first_wanted: float | None = None
        self._settled = anyio.Event()
        self._news = anyio.Event()
        own = Hooks(self._member_moved, self._member_listed, self._member_heard, self._member_prepares)
        self.upstreams = tuple(
            Upstream(f"{name}#{number}", _single(config, url), hooks=own, known=known, wallet=wallet)
            for number, url in enumerate(config.endpoints, 1)
        )
        self.instances = tuple(Instance(one, self) for one in self.upstreams)
        self.watched = self._watched
        self._lead = self.upstreams[0]

    # -- how it stands -------------------------------------------------------------------------------------------------

    @property
    def config(self) -> UpstreamConfig:
        """How it is reached, and its limits."""
        return self._config

    @config.setter
    def config(self, config: UpstreamConfig) -> None:
        self._config = config
        for one, url in zip(self.upstreams, config.endpoints, strict=True):
            one.config = _single(config, url)

    @property
    def listing(self) -> Listing | None:
        """What the lead offers, as last known."""
        return self._lead.listing

    @property
    def error(self) -> UpstreamError | None:
        """Why none is connected; None while one is."""
        return None if self.is_live else self._lead.error

    @property
    def session(self) -> Session | None:
        """The lead's session, or that of another instance."""
        sessions = (one.session for one in (self._lead, *self.upstreams))
        return next((session for session in sessions if session is not None), None)

    @property
    def is_live(self) -> bool:
        """Whether any instance has a session."""
        return self.session is not None

    @property
    def sessions(self) -> int:
        """How many sessions are open with its instances."""
        return sum(one.sessions for one in self.upstreams)

    @property
    def era(self) -> Era | None:
        """The era it speaks, as far as is known."""
        return self._lead.era

    @property
    def watched(self) -> Watched:
        """The resources that somebody is subscribed to; all instances have the same."""
        return self._watched

    @watched.setter
    def watched(self, watched: Watched) -> None:
        self._watched = watched
        for one in self.upstreams:
            one.watched = watched

    @property
    def has_settled(self) -> bool:
        """Whether one instance serves, or the first attempts of all have ended."""
        return self._settled.is_set()

    async def settled(self) -> None:
        """Wait until it is known how the start went."""
        await self._settled.wait()

    # -- starting and stopping -----------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run the instances' supervisors until cancelled."""
        async with anyio.create_task_group() as tasks:
            for one in self.upstreams:
                tasks.start_soon(one.run, name=f"upstream {one.name}")

    def start(self) -> None:
        """Wake the supervisors. Never blocks."""
        for one in self.upstreams:
            one.start()

    def introduce(self, told: str, prefers: Era) -> None:
        """There is one downstream only; see ``Supervisor.introduce``."""
        for one in self.upstreams:
            one.introduce(told, prefers)

    def wanted_since(self, now: float) -> float:
        """When it was first asked for, in seconds of the clock; ``now`` if that is now."""
        self._first_wanted = now if self._first_wanted is None else self._first_wanted
        return self._first_wanted

    def expire(self, reason: str) -> None:
        """Give up the current sessions; the supervisors make new ones at once."""
        for one in self.upstreams:
            one.expire(reason)

    async def drain(self, seconds: float) -> None:
        """Take no new calls and wait, at most ``seconds``, until those in flight have ended."""
        async with anyio.create_task_group() as tasks:
            for one in self.upstreams:
                tasks.start_soon(one.drain, seconds)

    async def refresh(self) -> None:
        """List the lead again and wait for it.

        Raises:
            UpstreamError: it cannot be reached.
        """
        await self._lead.refresh()

    # -- notifications -------------------------------------------------------------------------------------------------

    async def subscribe(self, uri: str) -> None:
        """Hear of updates of a resource from all instances that can be reached.

        Raises:
            UpstreamError: none can be reached, or the lead refuses.
        """
        if self._watched.add(uri):
            try:
                await self._lead.tell_of(uri)
            except BaseException:
                self._watched.remove(uri)
                raise
            for one in self._others():
                with suppress(UpstreamError):  # whoever cannot be told now is told when it is connected again
                    await one.tell_of(uri)

    async def unsubscribe(self, uri: str) -> None:
        """One subscriber has left; with the last one the instances are told."""
        if self._watched.remove(uri):
            for one in (self._lead, *self._others()):
                await one.tell_off(uri)

    async def roots_changed(self, told: str) -> None:
        """Tell the sessions of downstreams with these capabilities that the roots changed."""
        for one in self.upstreams:
            await one.roots_changed(told)

    def _others(self) -> list[Upstream]:
        return [one for one in self.upstreams if one is not self._lead and one.is_live]

    # -- what the members report ---------------------------------------------------------------------------------------

    async def reached(self, wanted: Upstream) -> None:
        """Wait for the first instance with a session, until the wanted one fails. Raises UpstreamError if in vain."""
        wanted.refuse()
        (noted() or Notes()).held()
        self.start()
        tried = False
        with anyio.move_on_after(self._config.timeout):
            while not self.is_live and not (tried and wanted.state is not UpstreamState.CONNECTING):
                tried = tried or wanted.state is UpstreamState.CONNECTING
                await self._news.wait()

    def _member_moved(self, event: StatusEvent) -> None:
        news, self._news = self._news, anyio.Event()
        news.set()
        if not self._lead.is_live and (other := next((one for one in self.upstreams if one.is_live), None)) is not None:
            self._follow(other)
        self._moved(event)
        best = min(self.upstreams, key=lambda one: _RANK.index(one.state))
        if best.is_live or all(one.state in _SETTLED for one in self.upstreams):
            self._settled.set()
        old, self.state = self.state, best.state
        if old is not self.state:
            self.reason, self.since = f"{best.name}: {best.reason}", event.at
            self._hooks.status(StatusEvent(self.name, old, self.state, self.reason, event.at))

    def _follow(self, lead: Upstream) -> None:
        self._lead = lead
        if lead.listing is not None:
            self._hooks.listing(self.name, lead.listing)

    def _member_listed(self, name: str, listing: Listing) -> None:
        if name == self._lead.name:
            self._hooks.listing(self.name, listing)
        elif not self._lead.is_live:
            self._follow(next(one for one in self.upstreams if one.name == name))

    async def _member_prepares(self, name: str, listing: Listing) -> None:
        if name == self._lead.name:
            await self._hooks.prepare(self.name, listing)

    def _member_heard(self, _name: str, method: str, params: Params | None) -> None:
        self._hooks.notification(self.name, method, params)


def _single(config: UpstreamConfig, url: str) -> UpstreamConfig:
    return config.model_copy(update={"url": url, "urls": ()})
