"""An upstream as everybody but its supervisor sees it: its state, its last known listing, and ``request``.

A call that finds no session wakes the supervisor and waits for that attempt, so that a restarted server costs time and
no failed call.
"""

from typing import Final

import anyio

from proxy.config.model import UpstreamConfig
from proxy.credentials.source import LoginRequired
from proxy.credentials.wallet import Wallet
from proxy.errors import ConnectFailed, Lost, SessionGone, UpstreamError
from proxy.model import Call, Era, Listing, Reply, Sent, UpstreamState
from proxy.service.clock import SYSTEM, Clock
from proxy.service.notes import NOTES, Notes
from proxy.upstream.choosing import Choice
from proxy.upstream.groups import collapsed
from proxy.upstream.lifecycle import Event
from proxy.upstream.pool import SessionPool
from proxy.upstream.session import Session
from proxy.upstream.standing import Hooks, Standing
from proxy.upstream.supervisor import Means, Supervisor
from proxy.upstream.watching import Watched, tell_of, tell_of_roots, tell_off

_MAYBE: Final = Sent.MAYBE
"""Looked up once: a member of an enum is slow to find."""


class Upstream:
    """One configured server. Run ``run`` in a task group; it ends when that is cancelled.

    Args:
        name: its key in the configuration.
        config: how to reach it. May be replaced while it runs by one that needs no other link.
        hooks: who hears what becomes of it.
        known: its last known listing.
        wallet: what is shown to it.
        clock: monotonic seconds.
        means: what its supervisor works with.
    """

    def __init__(  # noqa: PLR0913 - each is a thing of its own
        self,
        name: str,
        config: UpstreamConfig,
        *,
        hooks: Hooks | None = None,
        known: Listing | None = None,
        wallet: Wallet | None = None,
        clock: Clock = SYSTEM,
        means: Means | None = None,
    ) -> None:
        self._standing = Standing(name, config, hooks or Hooks(), clock, wallet)
        self._standing.listing = known
        self._pool = SessionPool(name, config, self._standing.heard, clock, wallet)
        self._choice = Choice(self._standing, self._pool)
        self._supervisor = Supervisor(self._standing, self._pool, means)
        self._first_wanted: float | None = None
        self.run = self._supervisor.run
        self.introduce = self._supervisor.introduce
        self.judged = self._standing.judged
        self.refuse = self._standing.refuse
        self.live = self._choice.session

    # -- how it stands -------------------------------------------------------------------------------------------------

    @property
    def name(self) -> str:
        """Its key in the configuration."""
        return self._standing.name

    @property
    def config(self) -> UpstreamConfig:
        """How it is reached, and its limits."""
        return self._standing.config

    @config.setter
    def config(self, config: UpstreamConfig) -> None:
        self._standing.retune(config)
        self._pool.retune(config)

    @property
    def state(self) -> UpstreamState:
        """Where it is in its lifecycle."""
        return self._standing.state

    @property
    def reason(self) -> str:
        """Why it is in that state."""
        return self._standing.reason

    @property
    def since(self) -> float:
        """When it got into that state, in seconds since the epoch."""
        return self._standing.since

    @property
    def listing(self) -> Listing | None:
        """What it offers, as last known; None if that was never known."""
        return self._standing.listing

    @property
    def error(self) -> UpstreamError | None:
        """Why the last attempt failed; None while connected."""
        return self._standing.error

    @property
    def session(self) -> Session | None:
        """The live session, if there is one."""
        return self._standing.session

    @property
    def is_live(self) -> bool:
        """Whether there is a session."""
        return self._standing.session is not None

    @property
    def sessions(self) -> int:
        """How many sessions are open with it."""
        return self.is_live + sum(1 for _ in self._pool)

    @property
    def era(self) -> Era | None:
        """The era it speaks, as far as is known: now, or when it was last listed."""
        if self.session is not None:
            return self.session.era
        return Era.of(self.listing.version) if self.listing is not None and self.listing.version else None

    @property
    def watched(self) -> Watched:
        """The resources that somebody is subscribed to."""
        return self._standing.watched

    @watched.setter
    def watched(self, watched: Watched) -> None:
        self._standing.watched = watched

    @property
    def has_settled(self) -> bool:
        """Whether the first attempt has ended."""
        return self._standing.settled.is_set()

    async def settled(self) -> None:
        """Wait until the first attempt has ended, well or badly."""
        await self._standing.settled.wait()

    # -- starting and stopping -----------------------------------------------------------------------------------------

    def start(self) -> None:
        """Wake the supervisor: connect now if not connected. Never blocks."""
        self._standing.want()

    def wanted_since(self, now: float) -> float:
        """When the upstream was first asked for, in seconds of the clock; ``now`` if that is now."""
        self._first_wanted = now if self._first_wanted is None else self._first_wanted
        return self._first_wanted

    def expire(self, reason: str) -> None:
        """Give up the current session; the supervisor makes a new one at once."""
        self._standing.expire(reason)

    async def drain(self, seconds: float) -> None:
        """Take no new calls and wait, at most ``seconds``, until those in flight have ended."""
        self._standing.move(Event.DRAIN, "draining")
        tally = self._standing.tally
        with anyio.move_on_after(seconds):
            while tally.in_flight:
                tally.idle = anyio.Event()
                await tally.idle.wait()

    async def refresh(self) -> None:
        """List the upstream again and wait for it.

        Raises:
            UpstreamError: it cannot be reached.
        """
        session = await self._choice.first()
        with collapsed():
            self._standing.publish(await self._standing.listed(session))

    # -- notifications -------------------------------------------------------------------------------------------------

    async def subscribe(self, uri: str) -> None:
        """Hear of updates of a resource; counted, so that each subscriber may leave on its own.

        Raises:
            UpstreamError: the upstream refuses, or cannot be reached.
        """
        if self._standing.watched.add(uri):
            try:
                await self.tell_of(uri)
            except BaseException:
                self._standing.watched.remove(uri)
                raise

    async def unsubscribe(self, uri: str) -> None:
        """One subscriber has left; with the last one the upstream is told."""
        if self._standing.watched.remove(uri):
            await self.tell_off(uri)

    async def tell_of(self, uri: str) -> None:
        """Tell the upstream about a resource that somebody watches now. Raises UpstreamError."""
        await tell_of(await self._choice.first(), uri)

    async def tell_off(self, uri: str) -> None:
        """Tell it about a resource that nobody watches any more."""
        if self.session is not None:
            await tell_off(self.session, uri)

    async def roots_changed(self, told: str) -> None:
        """Tell the sessions of downstreams with these capabilities that the roots changed."""
        sessions = self._pool.told(told)
        if self.session is not None and self._standing.first_key.capabilities == told != "{}":
            sessions.append(self.session)
        await tell_of_roots(sessions)

    # -- calls ---------------------------------------------------------------------------------------------------------

    async def request(self, call: Call, /, *, replay: bool = True) -> Reply:
        """Send a call; the innermost service of the tower.

        Replayed once on a new session when it provably was not executed. What may have run is the tower's to repeat,
        so that the two do not multiply.

        Raises:
            UpstreamError: it could not be sent, or was not answered.
        """
        standing, notes = self._standing, NOTES.get() or Notes()
        tally = standing.tally
        tally.in_flight += 1
        tally.demand.noted(standing.who, standing.clock.now())
        try:
            session = self._choice.at_hand(call)
            if session is None:
                notes.held()
                session = await self._choice.session(call)
            notes.sent = _MAYBE
            try:
                return await session.request(call)
            except (SessionGone, ConnectFailed, Lost, LoginRequired) as error:
                self._choice.give_up(session, error)
                if error.sent is not Sent.NO or not replay:
                    raise
            return await (await self._choice.session(call)).request(call)
        except UpstreamError as error:
            error.upstream = error.upstream or self.name
            raise
        finally:
            tally.ended(standing.who, standing.clock.now())
