"""Health by error rate: active, degraded or error. Pure: the time is a parameter."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from proxy.service.verdict import Verdict
from proxy.service.window import Window

_SUCCESS: Final = Verdict.SUCCESS
"""Looked up once: each call asks for it, and a member of an enum is slow to find."""


class HealthStatus(StrEnum):
    """What an upstream's recent calls say about it."""

    ACTIVE = "active"
    DEGRADED = "degraded"
    ERROR = "error"


@dataclass(frozen=True, slots=True)
class HealthPolicy:
    """When an upstream counts as degraded or broken. ``warning`` and ``critical`` are shares of failures."""

    warning: float = 0.3
    critical: float = 0.5
    min_requests: int = 10
    """No judgement on fewer outcomes than these: the upstream counts as active."""
    window: float = 60.0
    """Seconds over which outcomes are counted."""


class Health:
    """Counts the outcomes of one upstream. Feed it from an observer, with ``verdict.judge`` for errors."""

    __slots__ = ("_policy", "_window")

    def __init__(self, policy: HealthPolicy | None = None) -> None:
        self._policy = policy or HealthPolicy()
        self._window = Window(self._policy.window)

    def record(self, verdict: Verdict, now: float) -> None:
        """Count one outcome."""
        if verdict is _SUCCESS:
            self._window.add_good(now)
        elif verdict is Verdict.FAILURE:
            self._window.add_bad(now)

    def error_rate(self, now: float) -> float:
        """The share of failures in the window."""
        self._window.roll(now)
        return self._window.rate()

    def status(self, now: float) -> HealthStatus:
        """What the window says. Without calls an upstream becomes active again as its failures grow old."""
        rate = self.error_rate(now)
        if self._window.total() < self._policy.min_requests or rate < self._policy.warning:
            return HealthStatus.ACTIVE
        return HealthStatus.ERROR if rate >= self._policy.critical else HealthStatus.DEGRADED

    def clear(self) -> None:
        """Forget everything: the upstream has been restarted or replaced."""
        self._window.clear()

    def retune(self, policy: HealthPolicy, now: float) -> None:
        """Use other thresholds; what was counted stays."""
        if policy.window != self._policy.window:
            self._window = self._window.resized(policy.window, now)
        self._policy = policy
