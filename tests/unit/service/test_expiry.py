"""Time limits that share timers (proxy/service/expiry.py)."""

import asyncio

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.service.expiry import EXPIRED, Lane, Lanes, Limit, is_expiry
from tests.support.clock import ManualClock, settle


class Bell:
    def __init__(self) -> None:
        self.at = 0.0
        self.rang = 0

    def ring(self) -> None:
        self.rang += 1


async def test_many_alarms_share_one_timer() -> None:
    clock = ManualClock()
    lane = Lane(clock, 10.0)

    for _ in range(100):
        lane.start(Bell())

    assert clock.armed == 1


async def test_each_alarm_rings_at_its_own_time() -> None:
    clock = ManualClock()
    lane = Lane(clock, 10.0)
    first, second = Bell(), Bell()
    lane.start(first)
    await clock.advance(4.0)
    lane.start(second)

    await clock.advance(6.0)
    assert (first.rang, second.rang) == (1, 0)
    await clock.advance(4.0)
    assert (first.rang, second.rang) == (1, 1)


async def test_a_stopped_alarm_stays_silent_and_harms_no_other() -> None:
    clock = ManualClock()
    lane = Lane(clock, 10.0)
    stopped, kept = Bell(), Bell()
    lane.start(stopped)
    lane.start(kept)
    lane.stop(stopped)

    await clock.advance(10.0)

    assert (stopped.rang, kept.rang) == (0, 1)


async def test_starting_again_gives_the_full_time() -> None:
    clock = ManualClock()
    lane = Lane(clock, 10.0)
    bell = Bell()
    lane.start(bell)
    await clock.advance(9.0)
    lane.start(bell)

    await clock.advance(9.0)
    assert bell.rang == 0
    await clock.advance(1.0)
    assert bell.rang == 1


async def test_an_empty_lane_leaves_no_timer_behind_for_good() -> None:
    clock = ManualClock()
    lane = Lane(clock, 10.0)
    bell = Bell()
    lane.start(bell)
    lane.stop(bell)

    await clock.advance(10.0)

    assert clock.armed == 0


def test_a_duration_has_one_lane() -> None:
    lanes = Lanes(ManualClock())

    assert lanes.of(1.0) is lanes.of(1.0)
    assert lanes.of(1.0) is not lanes.of(2.0)


@given(st.lists(st.tuples(st.sampled_from(["start", "stop"]), st.integers(0, 4), st.floats(0.0, 7.0)), max_size=30))
async def test_an_alarm_rings_exactly_when_its_time_is_over(steps: list[tuple[str, int, float]]) -> None:
    clock = ManualClock(start=0.0)
    lane = Lane(clock, 5.0)
    bells = [Bell() for _ in range(5)]
    expected = [0] * 5
    ends: dict[int, float] = {}
    for action, number, wait in steps:
        if action == "start":
            lane.start(bells[number])
            ends[number] = clock.now() + 5.0
        else:
            lane.stop(bells[number])
            ends.pop(number, None)
        await clock.advance(wait)
        for over in [each for each, end in ends.items() if end <= clock.now()]:
            expected[over] += 1
            del ends[over]
        assert [bell.rang for bell in bells] == expected


async def limited(lane: Lane, record: list[str]) -> None:
    limit = Limit(lane=lane)
    try:
        await anyio.sleep_forever()
    except asyncio.CancelledError as error:
        record.append("expired" if is_expiry(error) else "cancelled")
        if limit.end():
            record.append("ours")
            return
        raise
    finally:
        limit.end()


async def test_a_limit_cancels_its_task_and_takes_the_cancellation_back() -> None:
    clock = ManualClock()
    record: list[str] = []

    async def run() -> None:
        await limited(Lane(clock, 10.0), record)
        task = asyncio.current_task()
        assert task is not None
        record.append(f"cancelling {task.cancelling()}")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(run)
        await clock.advance(10.0)

    assert record == ["expired", "ours", "cancelling 0"]


@pytest.mark.parametrize("limit_first", [True, False])
async def test_a_scope_that_is_cancelled_in_the_same_moment_is_obeyed(*, limit_first: bool) -> None:
    lane = Lane(ManualClock(), 10.0)
    record: list[str] = []
    scope = anyio.CancelScope()

    async def run() -> None:
        with scope:
            await limited(lane, record)
            await anyio.sleep_forever()
        task = asyncio.current_task()
        assert task is not None
        record.append(f"left with {task.cancelling()}")

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            await settle()
            limit = next(iter(lane._alarms))
            for cancel in [limit.ring, scope.cancel] if limit_first else [scope.cancel, limit.ring]:
                cancel()

    assert record[-1] == "left with 0"


@pytest.mark.parametrize("limit_first", [True, False])
async def test_a_plain_cancellation_in_the_same_moment_wins(*, limit_first: bool) -> None:
    clock = ManualClock()
    record: list[str] = []
    lane = Lane(clock, 10.0)
    task = asyncio.ensure_future(limited(lane, record))
    await settle()
    limit = next(iter(lane._alarms))

    if limit_first:
        limit.ring()
    task.cancel()
    if not limit_first:
        limit.ring()
    with anyio.fail_after(5), pytest.raises(asyncio.CancelledError):
        await task

    assert "ours" not in record


async def test_a_swallowed_cancellation_is_taken_back_too() -> None:
    clock = ManualClock()
    lane = Lane(clock, 10.0)
    left: list[int] = []

    async def stubborn() -> None:
        limit = Limit(lane=lane)
        try:
            await anyio.sleep_forever()
        except asyncio.CancelledError:
            pass
        finally:
            limit.end()
        task = asyncio.current_task()
        assert task is not None
        left.append(task.cancelling())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(stubborn)
        await clock.advance(10.0)

    assert left == [0]


async def test_the_time_stands_still_while_a_limit_is_held() -> None:
    clock = ManualClock()
    limit = Limit(lane=Lane(clock, 10.0))
    try:
        limit.hold()
        limit.hold()
        limit.resume()
        await clock.advance(100.0)
        assert not limit.rung
        limit.resume()
        await clock.advance(9.0)
        assert not limit.rung
    finally:
        limit.end()


def test_only_a_limits_own_cancellation_is_an_expiry() -> None:
    assert is_expiry(asyncio.CancelledError(EXPIRED))
    assert not is_expiry(asyncio.CancelledError())
    assert not is_expiry(ValueError(EXPIRED))
