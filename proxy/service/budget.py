"""The retry budget: how many repetitions an upstream's callers may cause altogether. Pure: the time is a parameter.

A bound per call does not help an upstream that is down: three attempts each are three times the load, just then. The
budget bounds repetitions to a share of the calls, plus a little for upstreams that are rarely called.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BudgetPolicy:
    """How many repetitions there may be."""

    ratio: float = 0.2
    """Repetitions per call, in the long run."""
    per_second: float = 0.5
    """Repetitions per second on top, for upstreams that are rarely called."""
    burst: float = 10.0
    """The most that can be saved up."""


class Budget:
    """Every call deposits a little, every repetition withdraws one. It begins full.

    Mutable state: the balance, and when it was true.
    """

    __slots__ = ("_at", "_balance", "_policy")

    def __init__(self, policy: BudgetPolicy, now: float) -> None:
        self._policy = policy
        self._balance = policy.burst
        self._at = now

    def deposit(self) -> None:
        """A call begins."""
        policy = self._policy
        balance = self._balance + policy.ratio
        self._balance = balance if balance < policy.burst else policy.burst  # noqa: FURB136 - min costs three times this

    def withdraw(self, now: float) -> bool:
        """Whether one repetition may begin; if so, it is paid."""
        if self.balance(now) < 1.0:
            return False
        self._balance -= 1.0
        return True

    def balance(self, now: float) -> float:
        """How many repetitions are left."""
        if now > self._at:
            self._balance = min(self._policy.burst, self._balance + (now - self._at) * self._policy.per_second)
            self._at = now
        return self._balance

    def retune(self, policy: BudgetPolicy, now: float) -> None:
        """Use other figures from now on. The balance stays, as far as the new burst has room for it."""
        self._balance = min(self.balance(now), policy.burst)
        self._policy = policy
