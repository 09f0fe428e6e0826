"""A call whose downstream leaves gives back what it holds, exactly once, whichever layer it stands in just then."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.config.model import UpstreamConfig
from proxy.errors import ConnectFailed, Lost
from proxy.model import Call, Reply
from proxy.service.breaker_state import State
from proxy.service.bulkhead import Bulkhead
from proxy.service.health import HealthStatus
from proxy.telemetry.metrics import Metrics
from proxy.upstream.stack import Shared, Tower
from tests.support.clock import ManualClock, settle
from tests.support.services import Ear, Held, Running, make_call

OPTIONS = {
    "command": "x",
    "concurrency": 2,
    "queue": 2,
    "timeout": 50,
    "attempt_timeout": 20,
    "retry": {"backoff": 8, "max_backoff": 8},
    "breaker": {"min_calls": 2, "open_for": 5, "probes": 1},
}


class Member:
    """The upstream behind the tower: holds each call until the test says how it ends."""

    listing = None
    is_live = True

    def __init__(self) -> None:
        self.held = Held()

    async def request(self, call: Call, /) -> Reply:
        return await self.held(call)

    def judged(self, status: HealthStatus, reason: str, /) -> None:
        """Hear."""


@dataclass
class Site:
    """A tower, and what its layers say about themselves."""

    tower: Tower
    shared: Shared
    clock: ManualClock
    held: Held

    @property
    def bulkhead(self) -> Bulkhead:
        assert self.tower.layers.bulkhead is not None
        return self.tower.layers.bulkhead

    def breaker(self) -> State:
        found = self.tower.guards["up"].breaker
        assert found is not None
        return found.state

    @property
    def taken(self) -> tuple[int, int, int]:
        """Calls under way, slots taken, calls in the queue."""
        return self.tower.observe.running, self.bulkhead.running, self.bulkhead.waiting

    def call(self, *, safe: bool = True) -> Running:
        return Running(self.shared.tasks, self.tower.service, make_call(safe=safe, back=Ear()))

    async def lose(self, number: int) -> None:
        self.held.fail(number, Lost("died"))
        await settle()


@asynccontextmanager
async def site() -> AsyncIterator[Site]:
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            clock, member = ManualClock(), Member()
            shared = Shared(tasks, Metrics(wall=lambda: 0.0), clock)
            tower = Tower(UpstreamConfig.model_validate(OPTIONS), {"up": member}, shared)
            yield Site(tower, shared, clock, member.held)
            tasks.cancel_scope.cancel()


async def under_way(at: Site) -> Running:
    one = at.call()
    await settle()
    assert at.taken == (1, 1, 0)
    return one


async def in_the_queue(at: Site) -> Running:
    at.call()
    at.call()
    one = at.call()
    await settle()
    assert at.taken == (3, 2, 1)
    return one


async def between_two_attempts(at: Site) -> Running:
    one = at.call()
    await settle()
    await at.lose(0)
    assert at.taken == (1, 1, 0)
    assert at.held.running == []
    return one


async def in_its_second_attempt(at: Site) -> Running:
    one = await between_two_attempts(at)
    await at.clock.advance(8.0)
    assert at.held.running == [1]
    return one


async def as_the_probe_of_an_open_breaker(at: Site) -> Running:
    for number in range(2):
        at.call(safe=False)
        await settle()
        await at.lose(number)
    assert at.breaker() is State.OPEN
    await at.clock.advance(5.0)
    one = at.call()
    await settle()
    assert at.breaker() is State.HALF_OPEN
    return one


PHASES: tuple[Callable[[Site], Awaitable[Running]], ...] = (
    under_way,
    in_the_queue,
    between_two_attempts,
    in_its_second_attempt,
    as_the_probe_of_an_open_breaker,
)


@pytest.mark.parametrize("phase", PHASES, ids=lambda phase: phase.__name__)
async def test_a_downstream_that_leaves_gives_everything_back(phase: Callable[[Site], Awaitable[Running]]) -> None:
    async with site() as at:
        one = await phase(at)
        before = at.taken

        one.cancel()
        await settle()

        assert one.cancelled
        holds_slot = phase is not in_the_queue
        assert at.taken == (before[0] - 1, before[1] - holds_slot, 0)
        for number in at.held.running:
            at.held.answer(number)
        await settle()
        assert at.taken == (0, 0, 0)
        await at.clock.advance(100.0)  # no limit of it rings any more, and none is left
        assert at.clock.armed == 0


@pytest.mark.parametrize("phase", PHASES, ids=lambda phase: phase.__name__)
async def test_after_one_has_left_there_is_room_for_as_many_as_ever(
    phase: Callable[[Site], Awaitable[Running]],
) -> None:
    async with site() as at:
        (await phase(at)).cancel()
        await settle()
        for number in at.held.running:
            at.held.answer(number)
        await settle()

        probe = at.call()  # what the breaker may still want to see
        await settle()
        at.held.answer(at.held.running[0])
        await settle()
        assert probe.reply is not None
        begun = len(at.held.calls)
        later = [at.call() for _ in range(4)]
        await settle()
        assert (len(at.held.calls) - begun, at.bulkhead.waiting) == (2, 2)
        while at.held.running:
            at.held.answer(at.held.running[0])
            await settle()
        assert all(one.reply is not None for one in later)
        assert at.taken == (0, 0, 0)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["call", "leave", "answer", "lose", "refuse", "wait"]), st.integers(0, 5))))
async def test_whatever_happens_nothing_stays_taken(steps: list[tuple[str, int]]) -> None:
    async with site() as at:
        calls: list[Running] = []
        for action, number in steps:
            waiting, held = [one for one in calls if not one.done], at.held.running
            if action == "call":
                calls.append(at.call(safe=number % 2 == 0))
            elif action == "leave" and waiting:
                waiting[number % len(waiting)].cancel()
            elif action == "answer" and held:
                at.held.answer(held[number % len(held)])
            elif action in ("lose", "refuse") and held:
                error = Lost("died") if action == "lose" else ConnectFailed("down")
                at.held.fail(held[number % len(held)], error)
            elif action == "wait":
                await at.clock.advance(float(number * 3))
            await settle()
            going = sum(not one.done for one in calls)
            assert at.taken[0] == going
            assert at.taken[1] + at.taken[2] == going
            assert len(at.held.running) <= at.taken[1] <= 2

        for one in calls:
            one.cancel()
        await settle()
        assert at.taken == (0, 0, 0)
        await at.clock.advance(100.0)
        assert at.clock.armed == 0
