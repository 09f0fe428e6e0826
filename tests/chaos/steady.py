"""A steady stream of calls, measured apart in calm phases and beside a fault.

How much a fault costs others is a difference of two figures, each of which the machine shakes. So:

* Calm phases and phases beside the fault alternate, so that both meet the same machine. Each gives the 99th percentile
  of its own calls, and what counts is the **median** of these over all rounds: a burst of something else in one phase
  moves it no more than any other outlier, a disturbance that is there in most rounds moves it by all it is.
* Beside the fault it may be ``FACTOR`` times as high as the calm phases may be, which is as high as they are, and the
  **noise**. That comes from the same run: twice the median distance between one calm phase and the next, for nothing
  differs between these but the machine's mood. The distance is about the standard deviation of one such percentile, and
  so is the error of the comparison of medians; twice that is what chance reaches now and then. There is no other floor.
  On a quiet machine of two cores it is 0.2 or 0.3 ms beside a percentile of 2 ms, on a busy one as much as it takes.
* What is measured (Manifold, the healthy upstream, the caller) has one core, and what is faulty another one, where
  there are two: a process that starts or ends beside it would otherwise take its time away, whatever Manifold does.
* A call counts from the moment it was due, not from when it was sent, so that one that holds all up is seen in all.
* The first call that fails ends the measurement. While the outcome is not good it goes on, to a limit; no round is
  thrown away, so noise evens out, and a real disturbance does not.
"""

import math
from collections.abc import Callable, Coroutine, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from statistics import median
from typing import Any, Final

import anyio
from anyio.abc import TaskGroup

from proxy.runtime import background
from tests.support.manifold import PATIENCE

EVERY: Final = 0.004
"""Seconds from the beginning of one call of the stream to the next, however long they take."""
ROUNDS: Final = (5, 20)
"""Rounds of a calm phase and one beside the fault: at least, at most."""
SAMPLES: Final = 125
"""Calls of the stream in each phase, at least."""
FACTOR: Final = 1.5
"""How much higher the 99th percentile may be beside the fault; most faults are below 1.3 (docs/performance.md)."""

Call = Callable[[], Coroutine[Any, Any, object]]


@dataclass
class Phase:
    """One phase: how long each call took, in seconds."""

    seconds: list[float] = field(default_factory=list)
    enough: anyio.Event = field(default_factory=anyio.Event)

    def note(self, seconds: float) -> None:
        self.seconds.append(seconds)
        if len(self.seconds) >= SAMPLES:
            self.enough.set()

    async def full(self) -> None:
        """Wait until there is enough to tell a percentile."""
        with anyio.fail_after(PATIENCE):
            await self.enough.wait()

    @property
    def p99(self) -> float:
        return quantile(self.seconds, 0.99)


@dataclass
class Measured:
    """One whole measurement: calm phases, and between each two of them one beside the fault."""

    calm: list[Phase] = field(default_factory=list)
    beside: list[Phase] = field(default_factory=list)

    @property
    def undisturbed(self) -> bool:
        """Whether the fault costs the healthy one no more than it may."""
        return self.p99_beside <= FACTOR * (self.p99_calm + self.noise)

    @property
    def p99_calm(self) -> float:
        return median(phase.p99 for phase in self.calm)

    @property
    def p99_beside(self) -> float:
        return median(phase.p99 for phase in self.beside)

    @property
    def noise(self) -> float:
        """Twice that by which the 99th percentiles of two calm phases differ that follow one another."""
        return 2 * median(abs(one.p99 - other.p99) for one, other in pairwise(self.calm))

    def __str__(self) -> str:
        return (
            f"p99 calm {self.p99_calm * 1000:.2f} ms, beside {self.p99_beside * 1000:.2f} ms "
            f"({self.p99_beside / self.p99_calm:.2f} x), noise {self.noise * 1000:.2f} ms; in turn: {_shown(self)}"
        )


def _shown(measured: Measured) -> str:
    def alternating() -> Iterator[str]:
        for calm, beside in zip(measured.calm, [*measured.beside, None], strict=True):
            yield f"{calm.p99 * 1000:.1f}"
            if beside is not None:
                yield f"/{beside.p99 * 1000:.1f} of {len(beside.seconds)}, "

    return "".join(alternating())


def quantile(values: Sequence[float], part: float) -> float:
    """The smallest value that at least this part of the values does not exceed."""
    return sorted(values)[math.ceil(part * len(values)) - 1]


async def measure(healthy: Call, fault: Call) -> Measured:
    """Call the healthy one steadily, and beside it do the fault in every second phase, again and again."""
    measured = Measured()
    async with background() as tasks:
        stream = _Stream(tasks, healthy)
        tasks.start_soon(stream.run)
        await stream.begin().full()  # the first calls open connections
        await _calm(stream, measured)
        least, most = ROUNDS
        while len(measured.beside) < least or (len(measured.beside) < most and not measured.undisturbed):
            measured.beside.append(phase := stream.begin())
            while not phase.enough.is_set():
                await fault()
            await _calm(stream, measured)
        await stream.begin().full()
    return measured


async def _calm(stream: "_Stream", measured: Measured) -> None:
    measured.calm.append(phase := stream.begin())
    await phase.full()


class _Stream:
    def __init__(self, tasks: TaskGroup, call: Call) -> None:
        self._phase = Phase()
        self._tasks = tasks
        self._call = call

    def begin(self) -> Phase:
        """From now on calls belong to another phase."""
        self._phase = Phase()
        return self._phase

    async def run(self) -> None:
        due = anyio.current_time()
        while True:
            due += EVERY
            await anyio.sleep(max(0.0, due - anyio.current_time()))  # the pace, not a wait for anything
            self._tasks.start_soon(self._one, due, self._phase)

    async def _one(self, due: float, phase: Phase) -> None:
        await self._call()
        phase.note(anyio.current_time() - due)
