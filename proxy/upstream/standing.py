"""How an upstream stands: everything that is true of it now, and telling those who want to know.

Written by its supervisor's task and by the calls that pass through; read by everybody.
"""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Final

import anyio
import structlog

from proxy.config.model import UpstreamConfig
from proxy.credentials.wallet import EVERYBODY, NOTHING, Held, Wallet
from proxy.errors import Draining, UpstreamError
from proxy.model import Caller, Era, Listing, Params, StatusEvent, UpstreamState
from proxy.service.clock import Clock
from proxy.service.health import HealthStatus
from proxy.telemetry.ration import Ration
from proxy.upstream.attempt import Attempt, unavailable
from proxy.upstream.demand import Demand
from proxy.upstream.fair import whose
from proxy.upstream.fresh import Freshness, Pace
from proxy.upstream.lifecycle import SERVING, Event, step
from proxy.upstream.pool import SessionKey
from proxy.upstream.session import Session
from proxy.upstream.watching import Watched

log = structlog.get_logger(__name__)

NEVER: Final = -1e9
"""Before any time that the clock tells."""

FAST_FAIL: Final = 1.0
"""Seconds after a failed attempt in which calls fail at once instead of starting another one."""

FREE: Final = 3
"""Links in a row that may be lost before those who want another one have to wait for it ..."""
AGAIN: Final = 0.25
"""... so many seconds, or for as long as its next attempt takes to come in any case."""

_LOUD: Final = frozenset({UpstreamState.BACKING_OFF, UpstreamState.ERROR, UpstreamState.AUTH_REQUIRED})

_LOSSES: Final = (1.0, 10)
"""Losses of a link of which the log hears at information level and above: a second in the long run, and at once."""

_JUDGED: Final = {
    HealthStatus.ACTIVE: Event.HEALTHY,
    HealthStatus.DEGRADED: Event.WARN,
    HealthStatus.ERROR: Event.CRITICAL,
}


async def _nothing(_name: str, _listing: Listing, /) -> None:
    """Nobody has to prepare for a listing."""


@dataclass(frozen=True, slots=True)
class Hooks:
    """Who hears what becomes of an upstream. Each is called on the event loop and must not block."""

    status: Callable[[StatusEvent], None] = lambda _event: None
    listing: Callable[[str, Listing], None] = lambda _name, _listing: None
    notification: Callable[[str, str, Params | None], None] = lambda _name, _method, _params: None
    prepare: Callable[[str, Listing], Awaitable[None]] = _nothing
    """Gets ready for a listing before it is published, and may take its time."""


@dataclass(slots=True)
class Tally:
    """What is counted of an upstream."""

    failures: int = 0
    """Links in a row that failed or did not last."""
    failed_at: float = NEVER
    """When the last attempt failed; NEVER if it did not, or if a link was lost since."""
    in_flight: int = 0
    last_used: float = 0.0
    idle: anyio.Event | None = None
    """Set when the last call in flight ends, for those who wait for it."""
    demand: Demand = field(default_factory=Demand)
    """Of the event loop: the supervisor says which, when it runs."""

    def ended(self, who: str, now: float) -> None:
        """A call has ended."""
        self.in_flight -= 1
        self.last_used = now
        self.demand.noted(who, now)
        if self.idle is not None and not self.in_flight:
            self.idle.set()

    @property
    def least(self) -> float:
        """Seconds to rest before another link even if somebody wants it now.

        A link that does not last costs more than all calls on it, so those who want another one wait for it together.
        """
        return AGAIN if self.failures > FREE and self.failed_at == NEVER else 0.0


class Standing:
    """One upstream's state. ``expire`` and ``move`` change it; everything else is plain data."""

    def __init__(
        self, name: str, config: UpstreamConfig, hooks: Hooks, clock: Clock, wallet: Wallet | None = None
    ) -> None:
        self.name = name
        self.who = whose(name)
        """By what name it wants the event loop."""
        self.config = config
        self.scope = config.session
        """Who shares a session. Kept, as each call asks for it, and a model's field is slow to find."""
        self.clock = clock
        self._wallet = wallet
        self.state = UpstreamState.IDLE
        self.reason = "not started"
        self.since = time.time()
        """When it got into that state, in seconds since the epoch."""
        self.listing: Listing | None = None
        self.error: UpstreamError | None = None
        self.session: Session | None = None
        self.first_key = SessionKey(Era.MODERN)
        """What ``session`` is for."""
        self.attempt = Attempt()
        self.wanted = anyio.Event()
        self.over = anyio.Event()
        self.over_reason = ""
        self.settled = anyio.Event()
        self.tally = Tally()
        self.fresh = Freshness()
        self.pace = Pace(clock)
        self.watched = Watched()
        self._hooks = hooks
        self._told: tuple[UpstreamState, str] | None = None
        self._losses = Ration(*_LOSSES, clock.now)
        self._hushed = False
        """Whether the log does not hear of the last loss, nor of what came of it."""

    @property
    def held(self) -> Held:
        """What its own session shows to it; extra ones may show something else."""
        return NOTHING if self._wallet is None else self._wallet.held()

    def whose(self, caller: Caller) -> str:
        """With whose credential a caller's requests are sent."""
        return EVERYBODY if self._wallet is None else self._wallet.whose(caller)

    def retune(self, config: UpstreamConfig) -> None:
        """Go by another configuration, which needs no other link, from now on."""
        self.config, self.scope = config, config.session
        self.pace.changed()

    def want(self) -> None:
        """Wake the supervisor: connect now if not connected. Never blocks."""
        if self.session is None:  # a wish that is fulfilled must not spare a later loss its wait
            self.wanted.set()

    def expire(self, reason: str) -> None:
        """Give up the current session; the supervisor makes a new one at once."""
        if self.session is not None:
            self.session = None
            self.attempt = Attempt()
            self.over_reason = reason
            self.over.set()

    async def listed(self, session: Session) -> Listing:
        """List what the upstream offers, ready to be published. Raises UpstreamError."""
        listing = await session.list_all(self.listing)
        try:
            await self._hooks.prepare(self.name, listing)
        except Exception:
            log.exception("upstream.hook.failed", upstream=self.name)  # as in ``_tell``
        return listing

    def publish(self, listing: Listing) -> None:
        """Take in what the upstream offers now; the listing that was known already, if nothing differs (``Lister``)."""
        self.listing = listing
        self.fresh.listed(self.clock.now())
        self._tell(lambda: self._hooks.listing(self.name, listing))

    def heard(self, method: str, params: Params | None) -> None:
        """The upstream said something that belongs to no call."""
        if method.endswith("/list_changed"):
            self.fresh.changed()
        self._tell(lambda: self._hooks.notification(self.name, method, params))

    def move(self, event: Event, reason: str) -> None:
        """Something happened: take the step that the lifecycle's table says, and tell of it."""
        old, self.state = self.state, step(self.state, event)
        if old is self.state:
            return
        self.reason, self.since = reason, time.time()
        self._log(old, reason)
        status = StatusEvent(self.name, old, self.state, reason, self.since)
        self._tell(lambda: self._hooks.status(status))

    def judged(self, status: HealthStatus, reason: str) -> None:
        """Its calls say how it is. Without a session that is the supervisor's to say."""
        if self.session is not None:
            self.move(_JUDGED[status], reason)

    def refuse(self) -> None:
        """Fail a call at once where waiting for a session would be in vain.

        Raises:
            UpstreamError: why.
        """
        if self.state in (UpstreamState.DRAINING, UpstreamState.STOPPED):
            raise Draining("is being stopped", upstream=self.name)
        resting = self.state in (UpstreamState.BACKING_OFF, UpstreamState.ERROR)
        just_failed = self.clock.now() - self.tally.failed_at < FAST_FAIL
        if self.state is UpstreamState.AUTH_REQUIRED or (resting and just_failed):
            raise unavailable(self.error)

    def _log(self, old: UpstreamState, reason: str) -> None:
        level = log.warning if self.state in _LOUD else log.info
        if self.state is UpstreamState.CONNECTING and old is not UpstreamState.IDLE:
            level = log.debug  # each attempt; how it ends is what counts
        elif self.state is not UpstreamState.CONNECTING:
            if (self.state, reason) == self._told:
                level = log.debug  # the same as at the last attempt: once is enough for a log
            self._told = (self.state, reason)
        more: dict[str, int] = {}
        if old in SERVING and self.state is UpstreamState.BACKING_OFF:
            before = self._losses.take()
            self._hushed = before is None
            more = {"suppressed": before} if before else {}
        if self._hushed and (old is not UpstreamState.CONNECTING or self.state is UpstreamState.READY):
            level = log.debug  # one more loss of very many, and that it is back: the log ends with what is true
        level("upstream.state", upstream=self.name, old=old.value, new=self.state.value, reason=reason, **more)

    def _tell(self, hook: Callable[[], None]) -> None:
        try:
            hook()
        except Exception:
            # A listener's fault is not the upstream's: report it and go on.
            log.exception("upstream.hook.failed", upstream=self.name)
