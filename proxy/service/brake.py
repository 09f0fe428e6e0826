"""The brake: failures of one upstream are told no faster than so many a second.

A call that fails at once costs the event loop as much as one that goes well, and those who repeat it as fast as they
can would take it away from the callers of other upstreams, for nothing. So the errors of an upstream that come faster
than any use of them wait for each other. A person or a model does not notice; a loop is slowed down.
"""

from typing import Final

RATE: Final = 50.0
"""Failures of one upstream that are told in a second, in the long run."""
BURST: Final = 20
"""Failures that are told at once after a quiet time."""
LONGEST: Final = 2.0
"""Seconds that one error waits at most, however many come."""


class Brake:
    """How long the next error of one upstream waits. Pure.

    Mutable state: the moment for which the next one is due, as if there were no burst.
    """

    __slots__ = ("_due",)

    def __init__(self) -> None:
        self._due = 0.0

    def wait(self, now: float) -> float:
        """Seconds for which the error that has come now is to wait. ``now`` is in seconds of a monotonic clock."""
        self._due = min(max(self._due, now - BURST / RATE) + 1 / RATE, now + LONGEST)
        return max(0.0, self._due - now)
