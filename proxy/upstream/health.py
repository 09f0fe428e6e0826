"""Watches how the calls of one link go, and says when that makes it degraded, or well again."""

from collections.abc import Callable
from typing import Final

from proxy.errors import ConnectFailed
from proxy.service.clock import Clock
from proxy.service.health import Health, HealthPolicy, HealthStatus
from proxy.service.verdict import Verdict, judge

STEPS: Final = 10
"""How often within its window the health of an upstream that is not well is looked at, when nobody calls it."""

Changed = Callable[[HealthStatus, str], None]
"""Hears what the calls say now, and why. Runs on the path of a call: it must neither block nor raise."""


_FAILURE: Final = Verdict.FAILURE


def verdict_on(error: BaseException) -> Verdict:
    """What a failure counts for. That there is no connection is the supervisor's affair, who paces and reports it."""
    return Verdict.NEITHER if isinstance(error, ConnectFailed) else judge(error)


class HealthWatch:
    """Counts outcomes. Mutable state: the counts, what was said last, and one timer while it is unwell."""

    def __init__(self, policy: HealthPolicy, clock: Clock, changed: Changed) -> None:
        self._policy = policy
        self._clock = clock
        self._changed = changed
        self._health = Health(policy)
        self._told = HealthStatus.ACTIVE
        self._suspicious = False
        self._looking = False

    @property
    def error_rate(self) -> float:
        """The share of failures now."""
        return self._health.error_rate(self._clock.now())

    def record(self, verdict: Verdict, now: float) -> None:
        """A call has ended."""
        self._health.record(verdict, now)
        if self._suspicious or verdict is _FAILURE:
            self._look()

    def retune(self, policy: HealthPolicy) -> None:
        """Use other thresholds at once; what was counted stays."""
        self._policy = policy
        self._health.retune(policy, self._clock.now())
        self._look()

    def clear(self) -> None:
        """Forget what was counted: it has proved that it is well."""
        self._health.clear()
        self._look()

    def tell(self) -> None:
        """Say again what there is to say: there is a new link, and the calls on it are still the same upstream's."""
        self._told = HealthStatus.ACTIVE
        self._look()

    def _look(self) -> None:
        rate = self.error_rate
        self._suspicious = rate > 0.0
        status = self._health.status(self._clock.now())
        if status is not self._told:
            self._told = status
            self._changed(status, f"{rate:.0%} of its calls failed within {self._policy.window:g} s")
        if status is not HealthStatus.ACTIVE and not self._looking:
            self._looking = True
            self._clock.call_at(self._clock.now() + self._policy.window / STEPS, self._look_again)

    def _look_again(self) -> None:
        self._looking = False
        self._look()
