"""Batches: order, bounds, groups, progress, cancellation."""

from typing import Any

import anyio
import pytest

from proxy.store.batch import Pace, run_batch
from proxy.store.result import ToolResult
from tests.support.clock import ManualClock, settle


class Workshop:
    """Runs calls that end when the test says so."""

    def __init__(self) -> None:
        self.running: dict[int, anyio.Event] = {}
        self.most = 0
        self.changed = anyio.Event()

    async def run(self, call: Any) -> ToolResult:
        self.running[call] = anyio.Event()
        self.most = max(self.most, len(self.running))
        self._tell()
        try:
            await self.running[call].wait()
        finally:
            del self.running[call]
            self._tell()
        return ToolResult(str(call), {})

    def _tell(self) -> None:
        self.changed.set()
        self.changed = anyio.Event()

    async def until(self, *calls: int) -> None:
        with anyio.fail_after(5):
            while set(self.running) != set(calls):
                await self.changed.wait()


async def at_once(call: Any) -> ToolResult:
    return ToolResult(str(call), {})


async def test_results_come_in_the_order_of_the_calls_whichever_ends_first() -> None:
    shop = Workshop()
    results: list[ToolResult] = []

    async def batch() -> None:
        results.extend(await run_batch([0, 1, 2], shop.run, Pace(max_concurrent=3)))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(batch)
        await shop.until(0, 1, 2)
        for call in (2, 0, 1):
            shop.running[call].set()
    assert [result.tool for result in results] == ["0", "1", "2"]


async def test_a_place_that_is_free_is_taken_at_once_and_no_more_than_allowed_run() -> None:
    shop = Workshop()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run_batch, range(5), shop.run, Pace(max_concurrent=2))
        await shop.until(0, 1)
        shop.running[1].set()
        await shop.until(0, 2)
        shop.running[0].set()
        shop.running[2].set()
        await shop.until(3, 4)
        shop.running[3].set()
        shop.running[4].set()
    assert shop.most == 2


async def test_a_pause_comes_between_groups_and_not_after_the_last() -> None:
    clock = ManualClock()
    began: list[float] = []

    async def run(call: Any) -> ToolResult:
        began.append(clock.now())
        return ToolResult(str(call), {})

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run_batch, range(5), run, Pace(max_concurrent=2, pause=3.0, clock=clock))
        for _ in range(2):
            await settle()
            await clock.advance(3.0)
    start = began[0]
    assert [moment - start for moment in began] == [0, 0, 3, 3, 6]


async def test_progress_is_told_and_a_fault_in_it_costs_nothing() -> None:
    told: list[tuple[int, int, str]] = []

    def progress(done: int, total: int, result: ToolResult) -> None:
        told.append((done, total, result.tool))
        raise RuntimeError("a bug of the caller's")

    results = await run_batch(["a", "b"], at_once, Pace(max_concurrent=1, progress=progress))
    assert told == [(1, 2, "a"), (2, 2, "b")]
    assert len(results) == 2


async def test_a_cancelled_batch_cancels_its_calls_and_starts_no_others() -> None:
    shop = Workshop()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run_batch, range(5), shop.run, Pace(max_concurrent=2))
        await shop.until(0, 1)
        tasks.cancel_scope.cancel()
    assert shop.running == {}
    assert shop.most == 2


async def test_no_calls_have_no_results() -> None:
    assert await run_batch([], at_once, Pace()) == []


@pytest.mark.parametrize("wrong", [{"max_concurrent": 0}, {"pause": -1.0}])
def test_a_pace_that_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must"):
        Pace(**wrong)
