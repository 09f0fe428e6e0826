"""A steady stream of calls, measured apart in calm phases and beside a fault."""

import math
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import anyio
from anyio.abc import TaskGroup

from proxy.runtime import background
from tests.support.manifold import PATIENCE

EVERY: Final = 0.004
"""Seconds from the beginning of one call of the stream to the next, however long they take."""
ROUNDS: Final = (5, 15)
"""Calm phases and phases beside the fault, one after the other, so that both meet the same noise: at least, at most."""
SAMPLES: Final = 125
"""Calls of the stream in each phase, at least."""
FACTOR: Final = 1.5
"""How much higher the 99th percentile may be beside the fault."""
FLOOR: Final = 0.004
"""Seconds below which a difference does not count: what one collection of garbage costs on a small machine."""

Call = Callable[[], Coroutine[Any, Any, object]]


@dataclass
class Phase:
    """What was measured in one kind of phase."""

    seconds: list[float] = field(default_factory=list)
    enough: anyio.Event = field(default_factory=anyio.Event)
    wanted: int = 0

    def note(self, seconds: float) -> None:
        self.seconds.append(seconds)
        if len(self.seconds) >= self.wanted:
            self.enough.set()

    async def more(self, samples: int) -> None:
        """Wait for so many samples more."""
        self.wanted, self.enough = len(self.seconds) + samples, anyio.Event()
        with anyio.fail_after(PATIENCE):
            await self.enough.wait()

    @property
    def p99(self) -> float:
        return quantile(self.seconds, 0.99)

    def p99_since(self, begin: int) -> float:
        """The 99th percentile of what was measured after the first ``begin`` calls."""
        return quantile(self.seconds[begin:], 0.99)


@dataclass
class Measured:
    """One whole measurement."""

    calm: Phase = field(default_factory=Phase)
    beside: Phase = field(default_factory=Phase)

    rounds: list[tuple[float, float]] = field(default_factory=list)
    """The 99th percentile of the calm phase, and of the one beside the fault, of each round."""

    @property
    def undisturbed(self) -> bool:
        """Whether the fault costs the healthy one nothing that counts, in a third of the rounds at least.

        The machine has moments of its own, of which the phases beside a fault get more where they are longer. A real
        disturbance is there in each round.
        """
        over = sorted(beside / max(calm * FACTOR, calm + FLOOR) for calm, beside in self.rounds)
        return over[(len(over) - 1) // 3] <= 1.0

    def __str__(self) -> str:
        calm, beside = self.calm, self.beside
        return (
            f"p99 calm {calm.p99 * 1000:.1f} ms of {len(calm.seconds)}, "
            f"beside the fault {beside.p99 * 1000:.1f} ms of {len(beside.seconds)}; rounds: "
            + ", ".join(f"{one * 1000:.1f}/{other * 1000:.1f}" for one, other in self.rounds)
        )


def quantile(values: Sequence[float], part: float) -> float:
    """The smallest value that at least this part of the values does not exceed."""
    return sorted(values)[math.ceil(part * len(values)) - 1]


async def measure(healthy: Call, fault: Call, rounds: tuple[int, int] = ROUNDS) -> Measured:
    """Call the healthy one steadily, and beside it do the fault in every second phase.

    A call counts from the moment it was due, so that one that holds all others up is seen in all of them. The first
    call that fails ends the measurement. While the outcome is not good it goes on, to a limit; no round is thrown
    away, so noise of the machine evens out, and a real disturbance does not.
    """
    measured = Measured()
    async with background() as tasks:
        stream = _Stream(tasks, healthy, measured.calm)
        tasks.start_soon(stream.run)
        await measured.calm.more(SAMPLES // 2)
        measured.calm.seconds.clear()  # the first calls open connections
        least, most = rounds
        for number in range(most):
            if number >= least and measured.undisturbed:
                break
            begins = len(measured.calm.seconds), len(measured.beside.seconds)
            stream.phase = measured.calm
            await measured.calm.more(SAMPLES)
            stream.phase = measured.beside
            async with anyio.create_task_group() as faults:
                faults.start_soon(fault)
                faults.start_soon(measured.beside.more, SAMPLES)
            measured.rounds.append((measured.calm.p99_since(begins[0]), measured.beside.p99_since(begins[1])))
        stream.phase = Phase()
        await stream.phase.more(1)
    return measured


class _Stream:
    def __init__(self, tasks: TaskGroup, call: Call, phase: Phase) -> None:
        self.phase = phase
        self._tasks = tasks
        self._call = call

    async def run(self) -> None:
        due = anyio.current_time()
        while True:
            due += EVERY
            await anyio.sleep(max(0.0, due - anyio.current_time()))  # the pace, not a wait for anything
            self._tasks.start_soon(self._one, due, self.phase)

    async def _one(self, due: float, phase: Phase) -> None:
        await self._call()
        phase.note(anyio.current_time() - due)
