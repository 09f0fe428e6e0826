"""Keeping what we know of an upstream true: re-listing, and signs of life."""

from collections.abc import Awaitable, Callable
from typing import Final

import anyio
import structlog

from proxy.errors import UpstreamError
from proxy.service.clock import Clock
from proxy.upstream.session import Session

log = structlog.get_logger(__name__)

CALM: Final = 0.25
"""Seconds between two listings of one upstream: a storm of list_changed costs four listings a second, not more."""
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

    async def stale(self) -> None:
        """Wait for the next change, and take it."""
        await self._stale.wait()
        self._stale = anyio.Event()


async def keep_fresh(fresh: Freshness, ttl: float, clock: Clock, relist: Callable[[], Awaitable[None]]) -> None:
    """List again whenever the upstream says that something changed, and every ``ttl`` seconds in any case."""
    while True:
        async with anyio.create_task_group() as tasks:

            async def expire() -> None:
                await clock.sleep(ttl)
                fresh.changed()

            tasks.start_soon(expire)
            await fresh.stale()
            tasks.cancel_scope.cancel()
        await relist()
        await clock.sleep(CALM)


async def keep_healthy(session: Session, every: float, clock: Clock, unwell: Callable[[str], None]) -> None:
    """Ask for a sign of life every ``every`` seconds; 0 switches it off.

    It goes over the existing session: a health check that opens connections of its own finds other things healthy
    than the calls do.
    """
    while every > 0:
        await clock.sleep(every)
        try:
            with anyio.fail_after(HEALTH_PATIENCE):
                await session.check()
        except UpstreamError as error:
            unwell(error.message)
            return
        except TimeoutError:
            unwell(f"no sign of life within {HEALTH_PATIENCE:g} s")
            return
