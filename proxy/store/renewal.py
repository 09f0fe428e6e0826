"""The automatic refresh: everything is listed anew now and then, whatever the upstreams say of changes."""

from collections.abc import Awaitable, Callable
from typing import Final

import structlog

from proxy.service.clock import Clock

log = structlog.get_logger(__name__)

EVERY: Final = 7200.0
"""Seconds between two automatic refreshes, unless a program says otherwise."""


async def renewed(refresh: Callable[[], Awaitable[object]], every: float, clock: Clock) -> None:
    """Refresh at intervals, until cancelled. One refresh that fails is logged, and the next one comes in its turn.

    Args:
        refresh: lists everything anew.
        every: seconds from the end of one refresh to the next.
        clock: what the seconds are measured by.
    """
    while True:
        await clock.sleep(every)
        log.debug("catalog.renewing")
        try:
            await refresh()
        except Exception:
            log.exception("catalog.not_renewed")
