"""The circuit breaker as a pure machine: no clock of its own, no waiting, no calls.

Theory of operation
===================

Rule 1: everything that affects the state lives in this file. ``breaker.py`` only asks and reports.

Rule 2: two things happen to the machine. ``admit(now)`` asks for a permit; ``record(permit, verdict, now)`` reports
how the call ended for which the permit was given. Every permit is reported exactly once.

States. CLOSED admits everyone and counts outcomes in a rolling window. When the window holds at least ``min_calls``
outcomes and the share of failures reaches ``failure_rate``, it TRIPs to OPEN. OPEN admits nobody for a while; the
first to ask after that COOLs it to HALF_OPEN and is its first probe. HALF_OPEN admits ``probes`` calls, not one more.
If all of them succeed it RECOVERs to CLOSED; the first failure RELAPSEs it to OPEN, for longer than the time before,
up to a cap. RESET closes it from anywhere: the upstream has been replaced or reconnected.

Neither. A call that ended without saying anything about the upstream (the downstream left) counts nowhere; in
HALF_OPEN it gives its place back, so that a probe which is cancelled cannot leave the machine stuck.

Epochs. Each transition begins an epoch and each permit carries the number of its epoch. Reports from an earlier epoch
are ignored: a call which began before the trip and ends during the probing is not a probe.

Tables. TRANSITIONS says where an event leads, and is all there is; an event that it does not list cannot happen. The
guards (when an event happens) are the methods below it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Final

from proxy.service.backoff import BackoffPolicy, ceiling
from proxy.service.verdict import Verdict
from proxy.service.window import Window


class State(Enum):
    """What the breaker does with calls."""

    CLOSED = "closed"
    OPEN = "open"
    HALF_OPEN = "half_open"


class Event(Enum):
    """What changes the state."""

    TRIP = "trip"
    COOL = "cool"
    RECOVER = "recover"
    RELAPSE = "relapse"
    RESET = "reset"


TRANSITIONS: Final[Mapping[tuple[State, Event], State]] = MappingProxyType(
    {
        (State.CLOSED, Event.TRIP): State.OPEN,
        (State.OPEN, Event.COOL): State.HALF_OPEN,
        (State.HALF_OPEN, Event.RECOVER): State.CLOSED,
        (State.HALF_OPEN, Event.RELAPSE): State.OPEN,
        (State.CLOSED, Event.RESET): State.CLOSED,
        (State.OPEN, Event.RESET): State.CLOSED,
        (State.HALF_OPEN, Event.RESET): State.CLOSED,
    }
)


@dataclass(frozen=True, slots=True)
class BreakerPolicy:
    """When to stop calling an upstream, and when to try again."""

    failure_rate: float = 0.5
    """The share of failures at which it opens, above 0 and at most 1."""
    window: float = 30.0
    """Seconds over which outcomes are counted."""
    min_calls: int = 10
    """No judgement on fewer outcomes than these."""
    open_for: BackoffPolicy = field(default_factory=lambda: BackoffPolicy(base=5.0, cap=60.0, factor=2.0))
    """Seconds for which it stays open: ``base`` at first, then growing with each relapse up to ``cap``."""
    probes: int = 2
    """Calls let through when half open; all must succeed."""
    faults: frozenset[int] = frozenset()
    """JSON-RPC error codes of the upstream which count as failures; by default none does, for it has answered."""


_CLOSED: Final = State.CLOSED
_SUCCESS: Final = Verdict.SUCCESS
# Looked up once: each call asks for them, and a member of an enum is slow to find.

Permit = int
"""The epoch in which a call was admitted."""

REFUSED: Final[Permit] = 0
"""No permit."""

Changed = Callable[[State, State, float], object]
"""Hears of a change: old state, new state, and the seconds until the first probe if it opened."""


class BreakerState:
    """The machine. Mutable state: state, epoch, the window, the times it opened in a row, and the probes."""

    __slots__ = ("_changed", "_opened", "_out", "_passed", "_policy", "_until", "_window", "epoch", "state")

    def __init__(self, policy: BreakerPolicy, changed: Changed | None = None) -> None:
        self._policy = policy
        self._changed = changed
        self._window = Window(policy.window)
        self.epoch: Permit = 1
        """The permit of those who are admitted now, while it is closed."""
        self._opened = 0
        self._until = 0.0
        self._out = 0
        self._passed = 0
        self.state = State.CLOSED

    @property
    def probing(self) -> int:
        """How many probes are under way."""
        return self._out

    def admit(self, now: float) -> Permit:
        """A permit to call, or REFUSED."""
        if self.state is _CLOSED:
            return self.epoch
        if self.state is State.OPEN and now >= self._until:
            self._go(Event.COOL, now)
        if self.state is State.OPEN or self._out + self._passed >= self._policy.probes:
            return REFUSED
        self._out += 1
        return self.epoch

    def record(self, permit: Permit, verdict: Verdict, now: float) -> None:
        """Report how the call ended that was admitted with ``permit``."""
        if permit != self.epoch:
            return
        if self.state is not _CLOSED:
            self._probed(verdict, now)
        elif verdict is _SUCCESS:
            self._window.add_good(now)
        elif verdict is Verdict.FAILURE:
            self._count_failure(now)

    def retry_in(self, now: float) -> float:
        """Seconds until it will admit a probe; 0.0 when it admits calls, or waits for a probe that is under way."""
        return max(0.0, self._until - now) if self.state is State.OPEN else 0.0

    def probe(self, now: float) -> None:
        """There is something new to try: if it is open, the next call is a probe. Whether it is well, probes say."""
        if self.state is State.OPEN:
            self._until = min(self._until, now)

    def reset(self, now: float) -> None:
        """Close it and forget what was counted."""
        self._go(Event.RESET, now)

    def retune(self, policy: BreakerPolicy, now: float) -> None:
        """Use other figures. The state, what was counted, and the end of an opening that has begun stay."""
        if policy.window != self._policy.window:
            self._window = self._window.resized(policy.window, now)
        self._policy = policy
        if self.state is State.HALF_OPEN and self._passed >= policy.probes:
            self._go(Event.RECOVER, now)

    def _count_failure(self, now: float) -> None:
        self._window.add_bad(now)
        if self._window.total() >= self._policy.min_calls and self._window.rate() >= self._policy.failure_rate:
            self._go(Event.TRIP, now)

    def _probed(self, verdict: Verdict, now: float) -> None:
        self._out -= 1
        if verdict is Verdict.FAILURE:
            self._go(Event.RELAPSE, now)
        elif verdict is Verdict.SUCCESS:
            self._passed += 1
            if self._passed >= self._policy.probes:
                self._go(Event.RECOVER, now)

    def _go(self, event: Event, now: float) -> None:
        old, self.state = self.state, TRANSITIONS[self.state, event]
        self.epoch += 1
        self._out = self._passed = 0
        if self.state is State.OPEN:
            self._opened += 1
            self._until = now + ceiling(self._opened, self._policy.open_for)
        elif self.state is State.CLOSED:
            self._opened = 0
            self._window.clear()
        if self._changed is not None and self.state is not old:
            self._changed(old, self.state, self.retry_in(now))
