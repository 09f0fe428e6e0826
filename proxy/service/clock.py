"""Time as the tower sees it: monotonic seconds, injected, so that tests own it."""

import asyncio
import time
from collections.abc import Callable
from typing import Final, Protocol

import anyio


class Timer(Protocol):
    """A callback that waits for its time."""

    def cancel(self) -> None:
        """Forget the callback. Harmless when it has run."""
        ...


class Clock(Protocol):
    """Where layers get the time and wait for it."""

    def now(self) -> float:
        """Seconds since some fixed moment; never goes back."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait that long."""
        ...

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        """Run ``callback`` in the event loop when ``now()`` has reached ``when``; it must neither block nor raise."""
        ...


class SystemClock:
    """The machine's monotonic clock and the running event loop (asyncio or uvloop)."""

    now = staticmethod(time.monotonic)

    async def sleep(self, seconds: float) -> None:
        """Wait that long; zero lets others run."""
        await anyio.sleep(seconds)

    def call_at(self, when: float, callback: Callable[[], object]) -> Timer:
        """Run ``callback`` at ``when``. uvloop rounds to milliseconds: check ``now()`` in the callback."""
        return asyncio.get_running_loop().call_later(max(0.0, when - time.monotonic()), callback)


SYSTEM: Final[Clock] = SystemClock()
"""The clock of everything that is not a test."""
