"""The supervisor of one upstream: the only task that opens, serves and closes its link.

It drives the lifecycle's table with what happens: connect, serve, reconnect with backoff, rest when nobody needs the
upstream. Everybody else talks to ``Upstream`` and waits for attempts; nobody else opens or closes anything.

Each life of a link is a task of its own. Usually the next one begins when it has ended. Where a remote server takes
nothing more (it is being replaced, or has forgotten the session), the next one begins at once, and the calls that were
sent still get their answers in the old one.
"""

import math
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Final

import anyio
import structlog
from anyio.abc import TaskGroup

from proxy.config.model import Transport
from proxy.errors import AuthRequired, ConnectFailed, Draining, UpstreamError
from proxy.model import Era, Listing, UpstreamState
from proxy.service.backoff import BackoffPolicy, full_jitter
from proxy.upstream.attempt import Attempt
from proxy.upstream.connect import Connect, Way, connected, start_limit
from proxy.upstream.fair import here
from proxy.upstream.fresh import keep_fresh, keep_healthy
from proxy.upstream.groups import collapsed
from proxy.upstream.lifecycle import Event
from proxy.upstream.negotiate import Offer
from proxy.upstream.pool import SessionKey, SessionPool
from proxy.upstream.session import Session
from proxy.upstream.standing import NEVER, Standing
from proxy.upstream.watching import follow

log = structlog.get_logger(__name__)

BACKOFF: Final = BackoffPolicy(base=1.0, cap=60.0)
STABLE: Final = 10.0
"""Seconds a link must live for its loss to count as the first, not as the next of a crash loop."""
CRASH_LOOP: Final = 5
"""Failures and short lives in a row after which the state says error. Attempts go on, ever more slowly."""

_LOOK: Final = 0.05
"""Seconds after which an upstream is looked at again that would have been unused for too long, but for a call."""

IDLE: Final = "idle"
"""The reason of an end that is no loss: nobody used the upstream."""


@dataclass(frozen=True, slots=True)
class Means:
    """What a supervisor works with."""

    connect: Connect = connected
    """Opens a session."""
    rng: Callable[[], float] = random.random
    """Numbers in [0, 1), for the jitter of waits."""


@dataclass(slots=True)
class _Life:
    """What became of one link."""

    ready: float | None = None
    """When there was a session, by the clock."""
    lasted: float = 0.0
    """For how many seconds there was one; 0 if it ended by an error."""
    over: anyio.Event = field(default_factory=anyio.Event)
    """Set when the next one may begin; calls that were sent may still go on in this one."""


class Supervisor:
    """The owner task of one upstream.

    Args:
        standing: what it keeps true.
        pool: the sessions besides the first; no new ones are opened without that, but they may outlive it.
        means: what it works with.
    """

    def __init__(self, standing: Standing, pool: SessionPool, means: Means | None = None) -> None:
        self._standing = standing
        self._pool = pool
        self._means = means or Means()
        self._told = "{}"
        self._prefers: Era | None = None
        self._remembered: Era | None = None

    def introduce(self, told: str, prefers: Era) -> None:
        """There is one downstream only, of this era and with these capabilities (canonical JSON): links are for it."""
        self._told = told
        self._prefers = prefers

    async def run(self) -> None:
        """Own the link until cancelled: connect, serve, reconnect."""
        at = self._standing
        at.tally.demand = here().demand
        if at.state is UpstreamState.STOPPED:
            self._revive()
        if not at.config.lazy:
            at.wanted.set()
        try:
            async with anyio.create_task_group() as lives:
                while True:
                    await at.wanted.wait()
                    if at.state is UpstreamState.DRAINING:
                        await anyio.sleep_forever()  # a link for nobody
                    lives.start_soon(self._live, life := _Life(), lives)
                    await life.over.wait()
                    await self._pause()
        finally:
            at.session = None
            at.attempt.fail(Draining("was stopped", upstream=at.name))
            at.settled.set()
            at.move(Event.STOP, "stopped")

    def _revive(self) -> None:
        """Begin again after an end, as if there had been nothing before."""
        at = self._standing
        at.attempt, at.wanted, at.over_reason = Attempt(), anyio.Event(), ""
        at.tally.failures, at.tally.failed_at, at.error = 0, NEVER, None
        at.move(Event.IDLE, "not started")

    async def _live(self, life: _Life, lives: TaskGroup) -> None:
        """One life of a link, from opening to its end."""
        at = self._standing
        at.move(Event.START, "connecting")
        try:
            with collapsed():
                async with self._opened() as session:
                    life.ready = at.clock.now()
                    await self._serve(session, lives)
                    life.lasted = at.clock.now() - life.ready
                    self._lost()
                    if session.in_flight and at.config.type is not Transport.STDIO:
                        self._ended(life, at.over_reason)
                        await session.finish()
            reason, failed = at.over_reason, None
        except UpstreamError as error:
            reason, failed = error.text(), error
        except Exception as error:
            # A fault of ours: report it and try again, for the calls and for the other upstreams.
            log.exception("upstream.fault", upstream=at.name)
            reason, failed = f"internal fault: {type(error).__name__}", None
        if not life.over.is_set():
            self._ended(life, reason, failed)

    def _lost(self) -> None:
        """There is no session from now on; that its process or connection has ended may take a moment."""
        at = self._standing
        at.expire(at.over_reason)
        if at.over_reason != IDLE:
            at.move(Event.LOST, at.over_reason)

    def _ended(self, life: _Life, reason: str, error: UpstreamError | None = None) -> None:
        at = self._standing
        event = Event.FAILED if life.ready is None else Event.LOST
        event = Event.AUTH if isinstance(error, AuthRequired) else event
        at.session = None
        at.error = error or ConnectFailed(reason, upstream=at.name)
        at.error.upstream = at.name
        at.tally.failures += 1
        at.tally.failed_at = NEVER if event is Event.LOST else at.clock.now()
        if event is Event.FAILED and at.tally.failures >= CRASH_LOOP:
            event = Event.CRASHING
        if at.over_reason != IDLE:
            at.move(event, reason)
        attempt, at.attempt = at.attempt, Attempt()
        if event is not Event.LOST:
            attempt.fail(at.error)
        elif not attempt.settled:
            at.attempt = attempt  # whoever waits since the loss waits for the next session
        at.settled.set()
        if life.lasted >= STABLE:
            at.tally.failures = 0
        elif life.ready is not None and at.tally.failures >= CRASH_LOOP:
            at.move(Event.CRASHING, f"is lost again and again: {at.reason}")
        life.over.set()

    @asynccontextmanager
    async def _opened(self) -> AsyncIterator[Session]:
        at = self._standing
        offer = Offer(at.config.era, self._remembered, self._prefers, self._told)
        async with self._means.connect(at.name, at.config, at.heard, offer, way=Way(held=at.held)) as session:
            with start_limit(at.config):
                await session.open()
                listing = await at.listed(session)
            self._connected(session, listing)
            yield session

    def _connected(self, session: Session, listing: Listing) -> None:
        at = self._standing
        self._remembered = session.era
        at.over, at.over_reason = anyio.Event(), ""
        at.wanted = anyio.Event()
        at.session, at.error = session, None
        at.first_key = SessionKey(session.era, None, "{}" if session.era is Era.MODERN else self._told)
        at.tally.failed_at = NEVER
        at.publish(listing)
        at.move(Event.CONNECTED, f"{session.era} {session.version}")
        if at.attempt.settled:
            at.attempt = Attempt()
        at.attempt.succeed(session)
        at.settled.set()

    async def _serve(self, session: Session, lives: TaskGroup) -> None:
        at = self._standing
        async with anyio.create_task_group() as tasks:
            forget = self._pool.open(lives)
            tasks.start_soon(keep_fresh, at.fresh, at.pace, lambda: at.config.refresh, self._relist)
            tasks.start_soon(follow, session, at.watched, at.heard, at.clock)
            tasks.start_soon(keep_healthy, session, at.pace, lambda: at.config, self._unwell)
            tasks.start_soon(self._watch_idle)
            tasks.start_soon(self._watch_link, session)
            await at.over.wait()
            forget()
            tasks.cancel_scope.cancel()

    async def _watch_link(self, session: Session) -> None:
        reason = await session.link.wait_closed()
        self._standing.over_reason = self._standing.over_reason or reason
        self._standing.over.set()

    async def _watch_idle(self) -> None:
        at = self._standing
        at.tally.last_used = at.clock.now()
        await at.pace.until(self._idle_at)
        at.wanted = anyio.Event()  # calls from now on want it back
        at.expire(IDLE)
        at.move(Event.IDLE, f"unused for {at.config.idle_timeout:g} s")

    def _idle_at(self) -> float:
        """When it will have been unused for too long, as far as can be told now."""
        at = self._standing
        if at.config.idle_timeout is None:
            return math.inf
        due = at.tally.last_used + at.config.idle_timeout
        return max(due, at.clock.now() + _LOOK) if at.tally.in_flight else due

    async def _relist(self) -> int:
        at = self._standing
        if (session := at.session) is None:
            return 0
        try:
            with collapsed(), anyio.fail_after(at.config.timeout):
                at.publish(await at.listed(session))
        except (UpstreamError, TimeoutError) as error:
            # The old listing stays: what was true a moment ago serves better than nothing.
            log.warning("upstream.refresh.failed", upstream=at.name, error=str(error) or "took too long")
        return session.pages

    def _unwell(self, reason: str) -> None:
        self._standing.expire(f"health check failed: {reason}")

    async def _pause(self) -> None:
        """Rest until the next attempt is due or somebody needs the upstream."""
        at = self._standing
        if at.tally.failed_at != NEVER:
            # Those who waited for the attempt that failed know it. Whoever came since a loss is still waiting.
            at.wanted = anyio.Event()
        if at.over_reason == IDLE:
            at.over_reason = ""
            at.tally.failures = 0
            return
        if at.state is UpstreamState.AUTH_REQUIRED:
            await self._until_renewed()
            return
        first_loss = at.tally.failures <= 1 and at.tally.failed_at == NEVER
        delay = 0.0 if first_loss else full_jitter(at.tally.failures, BACKOFF, self._means.rng)
        if (least := min(delay, at.tally.least)) > 0.0:
            await at.clock.sleep(least)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._wake_after, delay - least)
            await at.wanted.wait()
            tasks.cancel_scope.cancel()

    async def _until_renewed(self) -> None:
        """Rest until somebody has logged in, or somebody wants another attempt in any case."""
        source = self._standing.held.source
        if source is None:
            return  # another credential is another configuration

        async def watch() -> None:
            await source.renewed()
            self._standing.wanted.set()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(watch)
            await self._standing.wanted.wait()
            tasks.cancel_scope.cancel()

    async def _wake_after(self, delay: float) -> None:
        await self._standing.clock.sleep(delay)
        self._standing.wanted.set()
