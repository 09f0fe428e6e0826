"""Long use: sessions that come and go, upstreams that die, calls that are given up. Nothing of it stays behind.

Memory is the resident set of Manifold's process, and the number of blocks that Python has allocated in it, both read
after a collection of garbage; a slope is the least-squares line through the samples of the second half, when everything
that is made once has been made. What grows to a bound by design is at its bound from the beginning: the last 10 000
events for clients that resume their streams, and the sessions that may be open at once. Nothing else may grow.

CI does a part of the numbers, so that it takes two minutes; ``make soak`` (``MANIFOLD_SOAK=full``) does them all:
10 000 sessions that are ended and 10 000 that are abandoned, 1 000 restarts, 100 000 calls with 1 % cancellations.
"""

import itertools
import os
import random
import signal
import statistics
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Final

import anyio
import anyio.to_thread
import psutil
import pytest

from tests.chaos.calling import Caller, calling, web
from tests.support import scripted
from tests.support.faulty import faulty_site
from tests.support.manifold import PATIENCE, ROOT, Home, Json, Manifold, started

FULL: Final = os.environ.get("MANIFOLD_SOAK") == "full"
SESSIONS: Final = 10_000 if FULL else 1_200
ABANDONED: Final = 10_000 if FULL else 1_600
MOST: Final = 500 if FULL else 100
"""Sessions that may be open at once in the soak of abandoned ones."""
RESTARTS: Final = 1_000 if FULL else 100
CALLS: Final = 100_000 if FULL else 10_000
CANCELLED: Final = 100
"""One call of so many is given up."""
SAMPLES: Final = 20
AT_ONCE: Final = 8
GROWTH: Final = 2**20
"""Bytes by which memory may grow from the middle to the end: allocators breathe."""
BLOCKS: Final = (600, 0.02)
"""Blocks by which it may grow meanwhile, at all and for each time: counters, caches that fill, what is under way."""
EACH: Final = 200
"""Blocks of one session that is open."""

pytestmark = pytest.mark.timeout(3600 if FULL else 180)


@dataclass(frozen=True)
class Alive:
    """What is alive in Manifold's process."""

    tasks: int
    files: int
    memory: int
    blocks: int
    children: int


class Soaked:
    """A Manifold, its load, and what it looked like meanwhile."""

    def __init__(self, manifold: Manifold) -> None:
        self.manifold = manifold
        self.process = psutil.Process(manifold.pid)
        self.url = manifold.url
        self._seen = 0

    async def look(self) -> Alive:
        """Look into the process."""
        self.manifold.process.send_signal(signal.SIGUSR1)
        self._seen += 1
        found = await self.manifold.until(self._reported)
        children = len(self.process.children(recursive=True))
        return Alive(found["tasks"], found["files"], found["memory"], found["blocks"], children)

    def _reported(self) -> Json | None:
        reports = [one for one in self.manifold.events if one["event"] == "inspected"]
        return reports[self._seen - 1] if len(reports) >= self._seen else None

    async def fill(self) -> None:
        """Let there be as much for clients that resume their streams as is ever kept."""
        self.manifold.process.send_signal(signal.SIGUSR2)
        await self.manifold.event("filled")

    async def settled(self, before: Alive) -> Alive:
        """Wait until no more is alive than before; what is alive then."""
        now = before
        with anyio.move_on_after(PATIENCE):
            while True:
                now = await self.look()
                if now.tasks <= before.tasks and now.files <= before.files and now.children <= before.children:
                    break
                await anyio.sleep(0.2)  # between two looks: nothing tells when a connection of the kernel is over
        return now

    async def soak(self, name: str, count: int, some: Callable[[int], Awaitable[None]], *, spare: int = 0) -> None:
        """Do something ``count`` times, ``some`` at a time, and look at the memory in between.

        ``spare`` sessions more may be there at the end than when it was warm.
        """
        share = count // (SAMPLES + 1)
        await self.fill()
        await some(share)  # warms up
        before = await self.look()
        before = replace(before, tasks=before.tasks + 2 * spare)
        looks = []
        for _ in range(SAMPLES):
            await some(share)
            looks.append(await self.look())
        after = await self.settled(before)
        times = share * SAMPLES // 2
        memory, blocks = slope([one.memory for one in looks], share), slope([one.blocks for one in looks], share)
        print(
            f"{name}: {count} times, memory {looks[0].memory / 2**20:.1f} -> {looks[-1].memory / 2**20:.1f} MiB, "
            f"slope {memory:+.1f} bytes and {blocks:+.3f} blocks each, {before} -> {after}"
        )
        assert after.tasks <= before.tasks
        assert after.files <= before.files
        assert after.children <= before.children
        assert memory * times <= GROWTH
        assert blocks * times <= BLOCKS[0] + BLOCKS[1] * times + EACH * spare


def slope(values: list[int], share: int) -> float:
    """By how much values grow each time, in the second half of samples that are so many times apart."""
    half = values[len(values) // 2 :]
    return statistics.linear_regression([float(number * share) for number in range(len(half))], half).slope


@asynccontextmanager
async def soaked(folder: Path, server: Json | None = None, **more: Json) -> AsyncIterator[Soaked]:
    upstreams = {"a": scripted.upstream("a", "work", breaker={"enabled": False}), **more}
    home = Home(folder).write(upstreams, server=server or {})
    command = [sys.executable, "-m", "tests.chaos.inspected", *home.command("serve", "--http", "--port", "0")[3:]]
    async with started(command, ROOT, home.env(), stdin=None) as manifold:
        manifold.url = (await manifold.event("manifold.listening"))["url"]
        for name in ("a", *more):
            await manifold.event("upstream.state", upstream=name, new="ready")
        yield Soaked(manifold)
    assert await anyio.to_thread.run_sync(lambda: psutil.pid_exists(manifold.pid)) is False


async def spread(count: int, one: Callable[[], Awaitable[None]]) -> None:
    """Do something so many times, some at once."""

    async def worker(times: int) -> None:
        for _ in range(times):
            await one()

    async with anyio.create_task_group() as tasks:
        for number in range(AT_ONCE):
            tasks.start_soon(worker, len(range(number, count, AT_ONCE)))


async def test_sessions_that_come_and_go_leave_nothing(tmp_path: Path) -> None:
    async with soaked(tmp_path) as there, web() as http:

        async def one() -> None:
            caller = Caller(http, there.url)
            await caller.open()
            await caller.timed("mcp_a_work")
            await caller.close()

        await there.soak("sessions", SESSIONS, partial(spread, one=one))


async def test_sessions_that_nobody_ends_are_bounded(tmp_path: Path) -> None:
    async with soaked(tmp_path, {"max_sessions": MOST}) as there, web() as http, calling(there.url) as steady:
        numbers = itertools.count(1)

        async def one() -> None:
            await Caller(http, there.url).open()
            if next(numbers) % (MOST // 4) == 0:
                await steady.timed("mcp_a_work")  # whoever uses a session keeps it

        async def some(count: int) -> None:
            await spread(max(count, MOST + MOST // 10), one)  # from the first time on it is full
            for _ in range(AT_ONCE):
                await one()  # where several come at once, a few too many make room for them

        await there.soak("abandoned sessions", ABANDONED, some, spare=AT_ONCE)


async def test_upstreams_that_die_leave_nothing(tmp_path: Path) -> None:
    async with soaked(tmp_path) as there, calling(there.url) as caller:

        async def some(count: int) -> None:
            for _ in range(count):
                await caller.call("mcp_a_work", do="die")
                await caller.timed("mcp_a_work")

        await there.soak("restarts", RESTARTS, some)


async def test_calls_that_are_given_up_leave_nothing(tmp_path: Path) -> None:
    dice = random.Random(4)  # noqa: S311 - nothing secret, and the same in each run
    async with faulty_site("hang") as url, soaked(tmp_path, hangs={"url": url}) as there, calling(there.url) as caller:

        async def one() -> None:
            if dice.randrange(CANCELLED):
                await caller.timed("mcp_a_work")
            else:
                assert (await caller.given_up("mcp_hangs_act"))["error"]["message"] == "Request cancelled"

        await there.soak("calls", CALLS, partial(spread, one=one))
