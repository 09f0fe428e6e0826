"""Waiting by figures that may change meanwhile (proxy/upstream/fresh.py)."""

import math

import anyio

from proxy.upstream.fresh import Pace
from tests.support.clock import ManualClock, settle


class Waiting:
    """A wait by a figure that the test changes."""

    def __init__(self, seconds: float) -> None:
        self.clock = ManualClock()
        self.pace = Pace(self.clock)
        self.seconds = seconds
        self.over = False

    async def run(self) -> None:
        await self.pace.after(lambda: self.seconds)
        self.over = True

    async def becomes(self, seconds: float) -> None:
        """Change the figure."""
        self.seconds = seconds
        self.pace.changed()
        await settle()


async def test_a_shorter_time_counts_from_the_moment_when_the_wait_began() -> None:
    waiting = Waiting(1800.0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(waiting.run)
        await waiting.clock.advance(50.0)
        await waiting.becomes(60.0)
        assert not waiting.over
        await waiting.clock.advance(10.0)
        assert waiting.over


async def test_a_time_that_has_passed_already_is_over_at_once() -> None:
    waiting = Waiting(1800.0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(waiting.run)
        await waiting.clock.advance(50.0)
        await waiting.becomes(20.0)
        assert waiting.over


async def test_a_longer_time_or_never_is_waited_for() -> None:
    waiting = Waiting(10.0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(waiting.run)
        await settle()
        await waiting.becomes(math.inf)
        await waiting.clock.advance(100.0)
        assert not waiting.over
        assert waiting.clock.armed == 0
        await waiting.becomes(100.0)
        assert waiting.over
