"""The hedge (proxy/service/hedge.py)."""

import anyio
import pytest

from proxy.errors import ConnectFailed, Lost
from proxy.model import Reply
from proxy.service.base import stack
from proxy.service.budget import BudgetPolicy
from proxy.service.hedge import Hedge, HedgePolicy
from proxy.service.observe import Observation, Observe
from tests.support.clock import ManualClock, settle
from tests.support.services import OK, Ear, Held, Running, Scripted, make_call

SAFE = make_call(safe=True)
FIRST, SECOND = Reply.of("first"), Reply.of("second")


async def test_an_answer_in_time_needs_no_second_attempt() -> None:
    clock, upstream = ManualClock(), Held()
    async with anyio.create_task_group() as tasks:
        service = Hedge(tasks, HedgePolicy(delay=1.0), clock=clock)(upstream)
        running = Running(tasks, service, SAFE)
        await clock.advance(0.9)
        upstream.answer(0, FIRST)
        await clock.advance(10.0)

    assert running.reply is FIRST
    assert len(upstream.calls) == 1


@pytest.mark.parametrize("winner", [0, 1])
async def test_whichever_answers_first_wins_and_the_other_is_cancelled(winner: int) -> None:
    clock, upstream = ManualClock(), Held()
    async with anyio.create_task_group() as tasks:
        service = Hedge(tasks, HedgePolicy(delay=1.0), clock=clock)(upstream)
        running = Running(tasks, service, SAFE)
        await clock.advance(1.0)
        assert upstream.running == [0, 1]
        upstream.answer(winner, SECOND)
        await settle()
        assert upstream.running == []

    assert running.reply is SECOND
    assert len(upstream.cancelled) == 1


async def test_a_call_that_may_not_run_twice_is_never_hedged() -> None:
    clock, upstream = ManualClock(), Held()
    async with anyio.create_task_group() as tasks:
        running = Running(tasks, Hedge(tasks, clock=clock)(upstream), make_call(safe=False))
        await clock.advance(100.0)
        assert len(upstream.calls) == 1
        running.cancel()


async def test_a_second_attempt_that_fails_has_lost() -> None:
    clock, upstream = ManualClock(), Held()
    async with anyio.create_task_group() as tasks:
        running = Running(tasks, Hedge(tasks, clock=clock)(upstream), SAFE)
        await clock.advance(1.0)
        upstream.fail(1, Lost("second"))
        await settle()
        assert not running.done
        upstream.answer(0, FIRST)

    assert running.reply is FIRST


async def test_when_the_first_fails_the_second_may_still_win() -> None:
    clock, upstream = ManualClock(), Held()
    async with anyio.create_task_group() as tasks:
        running = Running(tasks, Hedge(tasks, clock=clock)(upstream), SAFE)
        await clock.advance(1.0)
        upstream.fail(0, Lost("first"))
        await settle()
        assert not running.done
        upstream.answer(1, SECOND)

    assert running.reply is SECOND


async def test_when_both_fail_the_first_error_goes_out() -> None:
    clock, upstream, first = ManualClock(), Held(), Lost("first")
    async with anyio.create_task_group() as tasks:
        running = Running(tasks, Hedge(tasks, clock=clock)(upstream), SAFE)
        await clock.advance(1.0)
        upstream.fail(0, first)
        await settle()
        upstream.fail(1, ConnectFailed("second"))

    assert running.error is first


async def test_a_failure_before_the_delay_is_not_hedged() -> None:
    clock, upstream = ManualClock(), Scripted(Lost("died"))
    async with anyio.create_task_group() as tasks:
        with pytest.raises(Lost):
            await Hedge(tasks, clock=clock)(upstream)(SAFE)
        await clock.advance(10.0)
    assert len(upstream.calls) == 1


@pytest.mark.parametrize("first_failed", [False, True])
async def test_a_downstream_that_leaves_cancels_both(*, first_failed: bool) -> None:
    clock, upstream = ManualClock(), Held()
    async with anyio.create_task_group() as tasks:
        running = Running(tasks, Hedge(tasks, clock=clock)(upstream), SAFE)
        await clock.advance(1.0)
        if first_failed:
            upstream.fail(0, Lost("first"))
            await settle()
        running.cancel()
        await settle()
        assert upstream.running == []

    assert running.cancelled


async def test_the_second_attempt_has_no_backchannel_and_none_starts_after_a_question() -> None:
    clock, upstream, ear = ManualClock(), Held(), Ear()
    call = make_call(safe=True, back=ear)
    async with anyio.create_task_group() as tasks:
        service = Hedge(tasks, clock=clock)(upstream)
        Running(tasks, service, call)
        await clock.advance(1.0)
        assert upstream.calls[0].back is not None
        assert upstream.calls[1].back is None

        Running(tasks, service, call)
        await settle()
        back = upstream.calls[2].back
        assert back is not None
        tasks.start_soon(back.ask, "elicitation/create", None)
        await clock.advance(1.0)
        assert len(upstream.calls) == 3
        tasks.cancel_scope.cancel()


async def test_the_budget_bounds_second_attempts_and_retuning_keeps_what_was_spent() -> None:
    clock, upstream = ManualClock(), Held()
    budget = BudgetPolicy(ratio=0.0, per_second=0.0, burst=2.0)
    async with anyio.create_task_group() as tasks:
        hedge = Hedge(tasks, HedgePolicy(delay=1.0, budget=budget), clock=clock)
        service = hedge(upstream)
        for _ in range(5):
            Running(tasks, service, SAFE)
        await clock.advance(1.0)
        assert len(upstream.calls) == 5 + 2
        hedge.retune(HedgePolicy(delay=0.5, budget=BudgetPolicy(ratio=0.0, per_second=0.0, burst=9.0)))
        Running(tasks, service, SAFE)
        await clock.advance(1.0)
        assert len(upstream.calls) == 5 + 2 + 1
        tasks.cancel_scope.cancel()


async def test_a_closing_task_group_means_no_second_attempt() -> None:
    clock, upstream = ManualClock(), Held()
    async with anyio.create_task_group() as tasks:
        async with anyio.create_task_group() as seconds:
            service = Hedge(seconds, clock=clock)(upstream)
        running = Running(tasks, service, SAFE)
        await clock.advance(1.0)
        upstream.answer(0)

    assert running.reply is OK


async def test_a_hedged_call_is_seen_as_such_and_not_its_neighbour() -> None:
    clock, upstream, seen = ManualClock(), Held(), dict[str, bool]()

    class Book:
        def observed(self, observation: Observation, /) -> None:
            seen[observation.call.target] = observation.hedged

    async with anyio.create_task_group() as tasks:
        service = stack(Observe(Book()), Hedge(tasks, clock=clock))(upstream)
        Running(tasks, service, make_call("quick", safe=True))
        await settle()
        Running(tasks, service, make_call("slow", safe=True))
        await clock.advance(0.9)
        upstream.answer(0)
        await clock.advance(0.1)
        upstream.answer(1)

    assert seen == {"quick": False, "slow": True}
