"""Who wants the event loop: the upstreams that were called a moment ago.

What is rationed is rationed for the sake of others. A call wants the loop when it begins and when it ends, and in
between it waits; so what counts is when calls of others last began or ended, and not how many hang somewhere.
"""

from typing import Final

MOMENT: Final = 0.05
"""Seconds for which a call of others counts after its beginning, and after its end."""
_NEVER: Final = -1e9


class Demand:
    """When calls were last seen: of the upstream that was called last, and of all others. Pure.

    Mutable state: that upstream, the time of its last call, and that of the last call of another one.
    """

    __slots__ = ("_at", "_before", "_who")

    def __init__(self) -> None:
        self._who = ""
        self._at = self._before = _NEVER

    def noted(self, who: str, now: float) -> None:
        """A call of an upstream begins or ends; ``now`` in monotonic seconds."""
        if who != self._who:
            self._before, self._who = self._at, who
        self._at = now

    def of_others(self, who: str, now: float) -> bool:
        """Whether somebody calls other upstreams than this one."""
        return now - (self._before if who == self._who else self._at) < MOMENT
