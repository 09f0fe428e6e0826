"""Exponential backoff with full jitter. Pure: the randomness is a parameter.

Full jitter (a wait anywhere between nothing and the ceiling) spreads callers that failed together better than a
ceiling with a little noise, and it does so at the cap too.
"""

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class BackoffPolicy:
    """How waits grow."""

    base: float = 0.1
    """The ceiling of the first wait, in seconds."""
    cap: float = 2.0
    """The highest ceiling, in seconds."""
    factor: float = 2.0
    """How much higher each ceiling is than the one before; at least 1."""


def ceiling(failures: int, policy: BackoffPolicy) -> float:
    """The longest wait after so many failures in a row (1, 2, …), in seconds. Never above the cap."""
    if policy.base <= 0.0:
        return 0.0
    try:
        return min(policy.cap, policy.base * policy.factor ** max(0, failures - 1))
    except OverflowError:  # a crash loop that has been going on for long
        return policy.cap


def full_jitter(failures: int, policy: BackoffPolicy, rng: Callable[[], float]) -> float:
    """A wait in seconds, evenly between zero and the ceiling. ``rng`` returns numbers in [0, 1)."""
    return rng() * ceiling(failures, policy)
