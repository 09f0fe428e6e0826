"""The retry layer: repeats what was certainly not executed, or does no harm when it runs twice. Nothing else."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from proxy.errors import (
    AuthRequired,
    CircuitOpen,
    Draining,
    QueueFull,
    RateLimited,
    Rejected,
    SessionGone,
    UpstreamError,
)
from proxy.model import Call, Reply, Sent
from proxy.service.backoff import BackoffPolicy, full_jitter
from proxy.service.base import Service
from proxy.service.budget import Budget, BudgetPolicy
from proxy.service.clock import SYSTEM, Clock
from proxy.service.notes import noted
from proxy.service.pulse import watched


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often and how long to try."""

    attempts: int = 3
    """Tries altogether, the first included."""
    give_up: float = 30.0
    """Seconds after the call's arrival at this layer; no further attempt begins later than that."""
    backoff: BackoffPolicy = field(default_factory=BackoffPolicy)
    budget: BudgetPolicy = field(default_factory=BudgetPolicy)


_FINAL = (Rejected, AuthRequired, CircuitOpen, Draining, QueueFull, SessionGone)
"""Answers (the upstream's, or our own) which do not change within a moment. What says that the session is gone was said
of a new one too: the upstream, or another instance of it, was asked again already (``Upstream.request``)."""


class Retry:
    """Repeats failed calls where that is safe. ``rng`` returns numbers in [0, 1).

    A call is repeated only if its error says that it was not sent, or if it is safe; never after an answer of the
    upstream, never once it has put a question to the downstream, and only as the budget allows. Otherwise the error
    of the last attempt goes out unchanged.
    """

    def __init__(
        self, policy: RetryPolicy | None = None, *, clock: Clock = SYSTEM, rng: Callable[[], float] = random.random
    ) -> None:
        self._policy = policy or RetryPolicy()
        self._clock = clock
        self._rng = rng
        self._budget = Budget(self._policy.budget, clock.now())

    def retune(self, policy: RetryPolicy) -> None:
        """Use other figures from the next decision on; what was spent of the budget stays spent."""
        self._policy = policy
        self._budget.retune(policy.budget, self._clock.now())

    def __call__(self, service: Service) -> Service:
        """Wrap a service."""
        now = self._clock.now

        async def run(call: Call) -> Reply:
            self._budget.deposit()
            call, pulse = watched(call)
            began, failures = now(), 0
            while True:
                try:
                    return await service(call)
                except UpstreamError as error:
                    failures += 1
                    if (pulse is not None and pulse.asked) or not may_repeat(call, error):
                        raise
                    wait = self._wait(error, failures, now() - began)
                    if wait is None:
                        raise
                if (notes := noted()) is not None:
                    notes.attempts += 1
                if pulse is not None:
                    pulse.again()
                await self._clock.sleep(wait)

        return run

    def _wait(self, error: UpstreamError, failures: int, elapsed: float) -> float | None:
        """Seconds until the next attempt; None if there is to be none."""
        policy = self._policy
        if failures >= policy.attempts:
            return None
        wait = full_jitter(failures, policy.backoff, self._rng)
        if isinstance(error, RateLimited):
            wait += error.retry_after
        if elapsed + wait > policy.give_up or not self._budget.withdraw(self._clock.now()):
            return None
        return wait


def may_repeat(call: Call, error: UpstreamError) -> bool:
    """Whether running the call again after this error can neither do harm nor is certain to be in vain."""
    if isinstance(error, _FINAL) or (isinstance(error, RateLimited) and error.retry_after <= 0.0):
        return False
    return call.safe or error.sent is Sent.NO
