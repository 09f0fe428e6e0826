"""A storm of list_changed costs few listings, and a single one is heard at once (proxy/upstream/fresh.py)."""

import math
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from proxy.upstream.fresh import CALM, LONGEST, PAGE_REST, Freshness, Pace, keep_fresh
from tests.support.clock import ManualClock, settle


class Upstream:
    """Notes when it was listed."""

    def __init__(self) -> None:
        self.clock = ManualClock(0.0)
        self.fresh = Freshness()
        self.listed: list[float] = []
        self.pages = 1

    async def relist(self) -> int:
        self.listed.append(self.clock.now())
        return self.pages

    async def change(self, *, every: float, until: float) -> None:
        """It says that its lists changed, again and again."""
        while self.clock.now() < until:
            self.fresh.changed()
            await settle()
            await self.clock.advance(every)


@asynccontextmanager
async def kept() -> AsyncIterator[Upstream]:
    async with anyio.create_task_group() as tasks:
        one = Upstream()
        tasks.start_soon(keep_fresh, one.fresh, Pace(one.clock), lambda: math.inf, one.relist)
        await settle()
        yield one
        tasks.cancel_scope.cancel()


async def test_a_change_after_a_quiet_time_is_listed_at_once() -> None:
    async with kept() as one:
        await one.change(every=10.0, until=35.0)
    assert one.listed == [0.0, 10.0, 20.0, 30.0]


async def test_a_storm_is_listed_more_and_more_rarely_and_to_its_end() -> None:
    async with kept() as one:
        await one.change(every=0.05, until=20.0)
        await one.clock.advance(LONGEST)
        await settle()
    pauses = [after - before for before, after in zip(one.listed, one.listed[1:], strict=False)]
    assert pauses[0] < 2 * CALM
    assert all(pause <= LONGEST + 0.05 for pause in pauses)
    assert len(one.listed) < 20.0 / LONGEST + 5
    assert one.listed[-1] >= 20.0 - 0.05


async def test_after_a_storm_the_next_change_is_listed_at_once() -> None:
    async with kept() as one:
        await one.change(every=0.05, until=20.0)
        await one.clock.advance(60.0)
        await settle()
        one.fresh.changed()
        await settle()
        now = one.clock.now()
    assert one.listed[-1] == now


async def test_the_longer_a_list_is_the_more_rarely_a_storm_has_it_listed() -> None:
    async with kept() as one:
        one.pages = 1000
        await one.change(every=0.25, until=2.5 * 1000 * PAGE_REST)
    assert one.listed == [0.0, 1000 * PAGE_REST, 2000 * PAGE_REST]


async def test_a_long_list_is_listed_at_once_when_the_first_change_comes() -> None:
    async with kept() as one:
        one.pages = 1000
        await one.clock.advance(5.0)
        await one.change(every=1.0, until=6.0)
    assert one.listed == [5.0]
