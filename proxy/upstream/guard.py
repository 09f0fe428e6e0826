"""What stands before each single link of an upstream: its breaker, and the watch on its health."""

from collections.abc import Callable
from typing import Any, Final, Protocol, TypeVar

import structlog

from proxy.config.model import UpstreamConfig
from proxy.model import Call, Listing, Reply
from proxy.service.breaker import Breaker
from proxy.service.breaker_state import REFUSED, BreakerPolicy, State
from proxy.service.clock import Clock
from proxy.service.health import HealthStatus
from proxy.service.verdict import Verdict
from proxy.upstream import policies
from proxy.upstream.health import HealthWatch, verdict_on

log = structlog.get_logger(__name__)

_SUCCESS: Final = Verdict.SUCCESS


class Member(Protocol):
    """What a tower stands before: one upstream, or one of several equal ones."""

    @property
    def listing(self) -> Listing | None:
        """What it offers, as last known."""
        ...

    @property
    def is_live(self) -> bool:
        """Whether there is a session."""
        ...

    async def request(self, call: Call, /) -> Reply:
        """Send a call. Raises UpstreamError."""
        ...

    def judged(self, status: HealthStatus, reason: str, /) -> None:
        """Hear what its calls say about it."""
        ...


class Guard:
    """One member with its breaker and its health: they see every request, also a repeated, hedged or failed-over one.

    Args:
        name: what its log lines call it.
        member: what it stands before.
        config: the figures.
        clock: monotonic seconds.
    """

    def __init__(self, name: str, member: Member, config: UpstreamConfig, clock: Clock) -> None:
        self.name = name
        self.member = member
        self.health = HealthWatch(policies.health_of(config), clock, member.judged)
        self.breaker: Breaker | None = None
        self._clock = clock
        self.retune(config)

    def retune(self, config: UpstreamConfig) -> None:
        """Use other figures; counts and states stay."""
        self.health.retune(policies.health_of(config))
        self.breaker = fitted(self.breaker, policies.breaker_of(config), self._breaker)

    async def service(self, call: Call, /) -> Reply:
        """Send a call, unless the breaker is open, and note how it ends. Raises what the member raises, or CircuitOpen.

        One layer, not two: both judge the same outcome. What the breaker refuses says nothing new about the link.
        """
        breaker = self.breaker
        permit = REFUSED if breaker is None else breaker.admit(call)
        verdict = _SUCCESS
        try:
            return await self.member.request(call)
        except BaseException as error:
            verdict = verdict_on(error)
            raise
        finally:
            now = self._clock.now()
            self.health.record(verdict, now)
            if breaker is not None:
                breaker.record(permit, verdict, now)

    def reconnected(self) -> None:
        """There is a new link. That it can be opened is no proof that calls succeed on it, but reason enough to try."""
        self.health.tell()
        if self.breaker is not None:
            self.breaker.probe()

    def _breaker(self, policy: BreakerPolicy) -> Breaker:
        return Breaker(policy, clock=self._clock, changed=self._changed)

    def _changed(self, old: State, new: State, seconds: float) -> None:
        level = log.warning if new is State.OPEN else log.info
        level("upstream.breaker", upstream=self.name, old=old.value, new=new.value, retry_in=round(seconds, 3))
        if new is State.CLOSED:
            self.health.clear()


class Tunable(Protocol):
    """A layer that takes other figures and keeps its state."""

    def retune(self, policy: Any, /) -> None:
        """Use other figures."""
        ...


L = TypeVar("L", bound=Tunable)
P = TypeVar("P")


def fitted(layer: L | None, policy: P | None, make: Callable[[P], L]) -> L | None:
    """The layer for a policy: the one there is, or a new one; None if there is no policy."""
    if policy is None:
        return None
    if layer is None:
        return make(policy)
    layer.retune(policy)
    return layer
