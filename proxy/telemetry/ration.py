"""How many lines something may have in the log: what anybody can cause at will must not fill it."""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Final

MOST: Final = 256
"""Rations that are kept at once; of more, the one that was used the longest ago begins anew."""


class Ration:
    """A token bucket: ``burst`` at once, ``rate`` a second in the long run."""

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._left = burst
        self._at = clock()
        self.refused = 0
        """How many were refused since the last one that was let through."""

    def take(self) -> int | None:
        """Let one through: how many were refused before it; None when this one is refused."""
        now = self._clock()
        self._left = min(self._burst, self._left + (now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            self.refused += 1
            return None
        self._left -= 1
        refused, self.refused = self.refused, 0
        return refused


class Rations:
    """A ration for each of many, as many as may be."""

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate = rate
        self._burst = burst
        self._clock = clock
        self._of: OrderedDict[Hashable, Ration] = OrderedDict()

    def take(self, whose: Hashable) -> int | None:
        """As ``Ration.take``."""
        ration = self._of.get(whose)
        if ration is None:
            ration = self._of[whose] = Ration(self._rate, self._burst, self._clock)
            if len(self._of) > MOST:
                self._of.popitem(last=False)
        self._of.move_to_end(whose)
        return ration.take()


class Rationed(logging.Filter):
    """Lets so many warnings of one wording through; the next one says how many there were besides (``suppressed``)."""

    def __init__(self, rate: float, burst: float, clock: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._rations = Rations(rate, burst, clock)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record is written."""
        if record.levelno != logging.WARNING:
            return True
        refused = self._rations.take(record.msg if isinstance(record.msg, Hashable) else None)
        if refused:
            record.suppressed = refused
        return refused is not None
