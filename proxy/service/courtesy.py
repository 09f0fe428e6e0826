"""Between the turns of work that is long, the processor too is left to others, not only the event loop.

An answer that was written is of use to its client when that runs. Where it shares a core with us (a small machine, a
container with one processor), the system lets us go on for up to 4 ms before it looks who else wants to run: we were
short each time, but we never slept. So whoever does much in little turns gives way after each of them.

The other process may be one that never has enough. Giving way has then cost us a time slice, and for just as long we
give way no more.
"""

import os
import time
from collections.abc import Callable
from typing import Final

EVERY: Final = 0.00005
"""Seconds from giving way to doing so again, at least: asking the system costs about one hundredth of that."""


class Courtesy:
    """Gives way to other processes, for at most as long as we run ourselves.

    Mutable state: when it may be done again.

    Args:
        clock: monotonic seconds.
        yields: lets the system run somebody else, if anybody waits for the processor.
    """

    __slots__ = ("_clock", "_not_before", "_yields")

    def __init__(self, clock: Callable[[], float], yields: Callable[[], object]) -> None:
        self._clock = clock
        self._yields = yields
        self._not_before = clock()

    def give(self) -> None:
        """Let others run, unless they have just had as much as we have."""
        if (began := self._clock()) < self._not_before:
            return
        self._yields()
        ended = self._clock()
        self._not_before = ended + max(EVERY, ended - began)


give_way: Final = Courtesy(time.monotonic, getattr(os, "sched_yield", lambda: None)).give
"""Let other processes run now, between two turns of long work (``sched_yield(2)``; nothing where there is none)."""
