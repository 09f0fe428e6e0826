"""Keeping what we know of an upstream true: re-listing, and signs of life."""

import math
from collections.abc import Awaitable, Callable
from typing import Final

import anyio
import structlog

from proxy.config.model import UpstreamConfig
from proxy.errors import Lost, UpstreamError
from proxy.service.clock import Clock
from proxy.upstream.session import Session

log = structlog.get_logger(__name__)

CALM: Final = 0.25
"""Seconds between two listings of one upstream, twice as many each time that there was news again meanwhile ..."""
LONGEST: Final = 2.0
"""... up to so many: a storm of list_changed costs a listing every other second, however long the list is."""
PAGE_REST: Final = 0.05
"""Seconds before the next listing for each page of this one: one that has no end costs as much as a thousand calls."""
HEALTH_PATIENCE: Final = 10.0
"""Seconds an upstream may take for a sign of life."""


class Freshness:
    """Whether an upstream's listing is out of date, and when it was made."""

    def __init__(self) -> None:
        self.listed_at: float | None = None
        self.listings = 0
        self._stale = anyio.Event()

    def changed(self) -> None:
        """The upstream says that its lists changed."""
        self._stale.set()

    def listed(self, now: float) -> None:
        """A listing was made."""
        self.listed_at = now
        self.listings += 1

    @property
    def outdated(self) -> bool:
        """Whether there was a change that nobody took yet."""
        return self._stale.is_set()

    async def stale(self) -> None:
        """Wait for the next change, and take it."""
        await self._stale.wait()
        self._stale = anyio.Event()


class Pace:
    """Waits by figures of a configuration that may change meanwhile; then the new ones count from the same moment."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self._changed = anyio.Event()

    def changed(self) -> None:
        """The figures may be others now."""
        self._changed.set()
        self._changed = anyio.Event()

    async def until(self, due: Callable[[], float]) -> None:
        """Wait until the clock says what ``due`` says, which may move; infinity is never."""
        while (left := due() - self.clock.now()) > 0.0:
            async with anyio.create_task_group() as tasks:
                if left < math.inf:
                    tasks.start_soon(self._wake, left, tasks.cancel_scope)
                await self._changed.wait()
                tasks.cancel_scope.cancel()

    async def after(self, seconds: Callable[[], float]) -> None:
        """Wait so many seconds from now."""
        began = self.clock.now()
        await self.until(lambda: began + seconds())

    async def _wake(self, seconds: float, waiting: anyio.CancelScope) -> None:
        await self.clock.sleep(seconds)
        waiting.cancel()


async def keep_fresh(
    fresh: Freshness, pace: Pace, ttl: Callable[[], float], relist: Callable[[], Awaitable[int]]
) -> None:
    """List again whenever the upstream says that something changed, and every ``ttl`` seconds in any case.

    ``relist`` says how many pages it took.
    """
    pause = CALM
    while True:
        async with anyio.create_task_group() as tasks:

            async def expire() -> None:
                await pace.after(ttl)
                fresh.changed()

            tasks.start_soon(expire)
            await fresh.stale()
            tasks.cancel_scope.cancel()
        pages = await relist()
        await pace.clock.sleep(max(pause, pages * PAGE_REST))
        pause = min(2 * pause, LONGEST) if fresh.outdated else CALM


async def keep_healthy(
    session: Session, pace: Pace, figures: Callable[[], UpstreamConfig], unwell: Callable[[str], None]
) -> None:
    """Ask for a sign of life every ``health`` seconds; 0 switches it off.

    It goes over the existing session: a health check that opens connections of its own finds other things healthy
    than the calls do.
    """
    while True:
        await pace.after(lambda: figures().health or math.inf)
        try:
            await _sign_of_life(session, pace.clock, figures())
        except UpstreamError as error:
            unwell(error.message)
            return


async def _sign_of_life(session: Session, clock: Clock, config: UpstreamConfig) -> None:
    """Ask for one, and wait.

    While calls are under way it may take as long as the longest of them: a server that works on one thing at a time
    answers when it is done, and to restart it would cost the work.

    Raises:
        UpstreamError: there was none.
    """
    began = clock.now()
    at_work = max(config.timeout, *config.timeouts.values(), 0.0) + HEALTH_PATIENCE
    failed: UpstreamError | None = None
    async with anyio.create_task_group() as tasks:

        async def lose_patience() -> None:
            nonlocal failed
            await clock.sleep(HEALTH_PATIENCE)
            while session.busy and clock.now() - began < at_work:
                await clock.sleep(HEALTH_PATIENCE)
            failed = Lost(f"no sign of life within {clock.now() - began:g} s")
            tasks.cancel_scope.cancel()

        tasks.start_soon(lose_patience)
        try:
            await session.check()
        except UpstreamError as error:
            failed = error
        tasks.cancel_scope.cancel()
    if failed is not None:
        raise failed
