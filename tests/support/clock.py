"""A clock that tests move by hand. Implements ``proxy.service.clock.Clock``."""

import asyncio
import heapq
import itertools
from collections.abc import Callable

from anyio.lowlevel import checkpoint


async def settle() -> None:
    """Let every task run until it waits for something that only the test, or the network, can bring about."""
    for _ in range(60):
        await checkpoint()


class ManualTimer:
    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback: Callable[[], object] | None = callback

    def cancel(self) -> None:
        self.callback = None


class ManualClock:
    """Time stands still until ``advance`` moves it; whatever is due then happens in order, each at its own time."""

    def __init__(self, start: float = 1000.0) -> None:
        self._now = start
        self._order = itertools.count()
        self._due: list[tuple[float, int, ManualTimer]] = []

    @property
    def armed(self) -> int:
        """How many timers wait."""
        return sum(timer.callback is not None for _, _, timer in self._due)

    def now(self) -> float:
        return self._now

    async def sleep(self, seconds: float) -> None:
        if seconds <= 0.0:
            await checkpoint()
            return
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def wake() -> None:
            if not done.done():
                done.set_result(None)

        timer = self.call_at(self._now + seconds, wake)
        try:
            await done
        finally:
            timer.cancel()

    def call_at(self, when: float, callback: Callable[[], object]) -> ManualTimer:
        timer = ManualTimer(callback)
        heapq.heappush(self._due, (when, next(self._order), timer))
        return timer

    def next_due(self) -> float | None:
        """Seconds until the next timer; None when none waits."""
        while self._due and self._due[0][2].callback is None:
            heapq.heappop(self._due)
        return max(0.0, self._due[0][0] - self._now) if self._due else None

    async def advance(self, seconds: float) -> None:
        """Move time; tasks get to run after everything that falls due."""
        await settle()
        end = self._now + seconds
        while (wait := self.next_due()) is not None and self._now + wait <= end:
            when, _, timer = heapq.heappop(self._due)
            self._now = max(self._now, when)
            if timer.callback is not None:
                timer.callback()
            await settle()
        self._now = end
        await settle()
