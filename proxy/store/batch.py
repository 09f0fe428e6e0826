"""Many calls, a few at a time: results in the order of the calls, and none of them harmed by another."""

from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import anyio
import structlog

from proxy.service.clock import SYSTEM, Clock
from proxy.store.result import ToolResult

log = structlog.get_logger(__name__)

Progress = Callable[[int, int, ToolResult], None]
"""Called after each call with: how many are done, how many there are, and the result."""


@dataclass(frozen=True, slots=True)
class Pace:
    """How a batch runs."""

    max_concurrent: int = 2
    """How many calls run at once."""
    pause: float = 0.0
    """Seconds between one group of ``max_concurrent`` calls and the next; 0 starts a call as soon as one ends."""
    progress: Progress | None = None
    clock: Clock = SYSTEM

    def __post_init__(self) -> None:
        if self.max_concurrent < 1:
            raise ValueError(f"max_concurrent must be at least 1, not {self.max_concurrent}")
        if self.pause < 0:
            raise ValueError(f"pause must not be negative, as {self.pause} is")


async def run_batch(calls: Sequence[Any], run: Callable[[Any], Awaitable[ToolResult]], pace: Pace) -> list[ToolResult]:
    """Run calls and return their results in order. ``run`` raises nothing but cancellation."""
    results: dict[int, ToolResult] = {}
    waiting = iter(enumerate(calls))

    async def work(mine: Iterator[tuple[int, Any]]) -> None:
        for index, call in mine:
            results[index] = await run(call)
            _report(pace, len(results), len(calls), results[index])

    while len(results) < len(calls):
        # Workers share one iterator: there are never more tasks than calls that run.
        group = iter(list(islice(waiting, pace.max_concurrent))) if pace.pause else waiting
        async with anyio.create_task_group() as tasks:
            for _ in range(min(pace.max_concurrent, len(calls))):
                tasks.start_soon(work, group)
        if pace.pause and len(results) < len(calls):
            await pace.clock.sleep(pace.pause)
    return [results[index] for index in range(len(calls))]


def _report(pace: Pace, done: int, total: int, result: ToolResult) -> None:
    if pace.progress is None:
        return
    try:
        pace.progress(done, total, result)
    except Exception:
        # Who only looks on must not cost a result.
        log.exception("batch.progress_failed", done=done)
