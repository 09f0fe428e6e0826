"""Shared flights (proxy/service/coalesce.py)."""

import anyio
import pytest

from proxy.errors import DeadlineExceeded, Lost, Rejected
from proxy.model import Call, Reply
from proxy.service.base import stack
from proxy.service.breaker import Breaker
from proxy.service.breaker_state import BreakerPolicy, State
from proxy.service.coalesce import Coalesce
from proxy.service.deadline import Deadline, DeadlinePolicy
from proxy.service.observe import Observation, Observe
from tests.support.clock import ManualClock, settle
from tests.support.services import OK, Ear, Held, Running, make_call


def reads(call: Call) -> bool:
    return call.safe


READ = make_call("read", safe=True)


async def test_identical_reads_at_the_same_time_are_sent_once() -> None:
    upstream = Held()
    async with anyio.create_task_group() as tasks:
        coalesce = Coalesce(tasks, reads=reads)
        calls = [Running(tasks, coalesce(upstream), READ) for _ in range(10)]
        await settle()
        assert len(upstream.calls) == 1
        upstream.answer(0)
        await settle()
        assert coalesce.flights == 0

    assert all(call.reply is OK for call in calls)


async def test_an_error_reaches_all() -> None:
    upstream, error = Held(), Lost("died")
    async with anyio.create_task_group() as tasks:
        service = Coalesce(tasks, reads=reads)(upstream)
        calls = [Running(tasks, service, READ) for _ in range(3)]
        await settle()
        upstream.fail(0, error)

    assert [call.error for call in calls] == [error] * 3


async def test_a_read_after_the_end_of_a_flight_is_sent_anew() -> None:
    upstream = Held()
    async with anyio.create_task_group() as tasks:
        service = Coalesce(tasks, reads=reads)(upstream)
        for number in range(2):
            Running(tasks, service, READ)
            await settle()
            upstream.answer(number)
            await settle()

    assert len(upstream.calls) == 2


@pytest.mark.parametrize(
    "other",
    [
        make_call("read"),
        make_call("read", safe=True, back=Ear("wants progress")),
        make_call("read", safe=True, session="another"),
        make_call("read", safe=True, session=None),
        make_call("read", safe=True, params={"name": "read", "arguments": {"x": 1}}),
    ],
    ids=["no read", "wants progress", "another session", "no session", "other arguments"],
)
async def test_what_is_not_the_same_flies_alone(other: Call) -> None:
    upstream = Held()
    async with anyio.create_task_group() as tasks:
        service = Coalesce(tasks, reads=reads)(upstream)
        Running(tasks, service, READ)
        Running(tasks, service, other)
        await settle()
        assert len(upstream.calls) == 2
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize("leaver", [0, 1, 2])
async def test_whoever_leaves_leaves_alone(leaver: int) -> None:
    upstream = Held()
    async with anyio.create_task_group() as tasks:
        service = Coalesce(tasks, reads=reads)(upstream)
        calls = [Running(tasks, service, READ) for _ in range(3)]
        await settle()
        calls[leaver].cancel()
        await settle()
        assert upstream.running == [0]
        upstream.answer(0)

    assert [call.reply is OK for call in calls] == [number != leaver for number in range(3)]
    assert len(upstream.calls) == 1


async def test_the_flight_is_cancelled_when_all_have_left_and_the_next_call_starts_another() -> None:
    upstream = Held()
    async with anyio.create_task_group() as tasks:
        coalesce = Coalesce(tasks, reads=reads)
        service = coalesce(upstream)
        calls = [Running(tasks, service, READ) for _ in range(3)]
        await settle()
        for call in calls:
            call.cancel()
        await settle()
        assert (len(upstream.cancelled), coalesce.flights) == (1, 0)
        late = Running(tasks, service, READ)
        await settle()
        upstream.answer(1)

    assert late.reply is OK


async def test_nobody_joins_a_flight_that_is_being_cancelled() -> None:
    cleaned = anyio.Event()
    calls: list[Call] = []

    async def upstream(call: Call, /) -> Reply:
        calls.append(call)
        if len(calls) > 1:
            return OK
        try:
            return await Held()(call)
        finally:
            with anyio.CancelScope(shield=True):
                await cleaned.wait()

    async with anyio.create_task_group() as tasks:
        service = Coalesce(tasks, reads=reads)(upstream)
        leaving = Running(tasks, service, READ)
        await settle()
        leaving.cancel()
        await settle()
        with anyio.fail_after(5):
            assert await service(READ) is OK
        cleaned.set()

    assert len(calls) == 2


async def test_each_waiter_has_its_own_deadline() -> None:
    clock, upstream = ManualClock(), Held()
    async with anyio.create_task_group() as tasks:
        service = stack(Deadline(DeadlinePolicy(idle=10.0), clock=clock), Coalesce(tasks, reads=reads))(upstream)
        first = Running(tasks, service, READ)
        await clock.advance(5.0)
        second = Running(tasks, service, READ)
        await clock.advance(5.0)
        assert first.done
        assert not second.done
        upstream.answer(0)

    assert second.reply is OK


async def test_a_hanging_upstream_is_noticed_though_the_time_ran_out_elsewhere() -> None:
    clock = ManualClock()
    breaker = Breaker(BreakerPolicy(min_calls=2), clock=clock)
    async with anyio.create_task_group() as tasks:
        flights = Coalesce(tasks, reads=reads)
        service = stack(Deadline(DeadlinePolicy(idle=10.0), clock=clock), flights, breaker)(Held())
        for _ in range(2):
            leaving, timed_out = Running(tasks, service, READ), Running(tasks, service, READ)
            await settle()
            leaving.cancel()
            await clock.advance(10.0)
            assert isinstance(timed_out.error, DeadlineExceeded)

    assert breaker.state is State.OPEN


async def test_downstreams_that_leave_a_flight_say_nothing_about_the_upstream() -> None:
    breaker = Breaker(BreakerPolicy(min_calls=2), clock=ManualClock())
    async with anyio.create_task_group() as tasks:
        service = stack(Coalesce(tasks, reads=reads), breaker)(Held())
        for _ in range(5):
            leaving = Running(tasks, service, READ)
            await settle()
            leaving.cancel()
            await settle()

    assert breaker.state is State.CLOSED


async def test_notifications_reach_all_and_questions_the_first_who_is_there() -> None:
    upstream, ears = Held(), [Ear(answers=["a"]), Ear(answers=["b"])]
    async with anyio.create_task_group() as tasks:
        service = Coalesce(tasks, reads=reads)(upstream)
        calls = [Running(tasks, service, make_call("read", safe=True, back=ear)) for ear in ears]
        await settle()
        back = upstream.calls[0].back
        assert back is not None
        assert back.progress_token is None
        await back.notify("notifications/message", None)
        assert await back.ask("roots/list", None) == "a"
        calls[0].cancel()
        await settle()
        assert await back.ask("roots/list", None) == "b"
        calls[1].cancel()
        await settle()
        with pytest.raises(Rejected):
            await back.ask("roots/list", None)

    assert [len(ear.heard) for ear in ears] == [1, 1]


async def test_nobody_is_left_waiting_when_the_upstream_is_closed() -> None:
    upstream = Held()
    async with anyio.create_task_group() as tasks:
        async with anyio.create_task_group() as flights:
            running = Running(tasks, Coalesce(flights, reads=reads)(upstream), READ)
            await settle()
            flights.cancel_scope.cancel()
        with anyio.fail_after(5):
            while not running.done:
                await anyio.lowlevel.checkpoint()

    assert isinstance(running.error, Lost)


async def test_those_who_joined_are_seen_as_such() -> None:
    upstream, seen = Held(), list[Observation]()

    class Book:
        def observed(self, observation: Observation, /) -> None:
            seen.append(observation)

    async with anyio.create_task_group() as tasks:
        service = stack(Observe(Book()), Coalesce(tasks, reads=reads))(upstream)
        for _ in range(2):
            Running(tasks, service, READ)
        await settle()
        upstream.answer(0)

    assert sorted((each.source, each.attempts) for each in seen) == [("flight", 0), ("upstream", 1)]
