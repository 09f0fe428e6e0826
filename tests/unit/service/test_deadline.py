"""The deadline layer (proxy/service/deadline.py)."""

import anyio
import pytest

from proxy.errors import DeadlineExceeded, Lost
from proxy.model import Sent
from proxy.service.deadline import Deadline, DeadlinePolicy
from proxy.service.pulse import PROGRESS
from tests.support.clock import ManualClock, settle
from tests.support.services import OK, Ear, Held, Running, Scripted, make_call


async def test_a_call_in_time_is_answered_and_its_backchannel_reaches_the_upstream() -> None:
    ear, upstream = Ear("p1"), Scripted()

    assert await Deadline()(upstream)(make_call(back=ear)) is OK

    back = upstream.calls[0].back
    assert back is not None
    assert str(back.progress_token) == "p1"
    await back.notify("notifications/message", {"level": "info"})
    assert ear.heard == [("notifications/message", {"level": "info"})]


async def test_an_error_passes_unchanged() -> None:
    lost = Lost("gone")
    with pytest.raises(Lost) as caught:
        await Deadline()(Scripted(lost))(make_call())
    assert caught.value is lost


@pytest.mark.parametrize("back", [None, Ear()])
async def test_silence_ends_the_call_at_the_idle_limit(back: Ear | None) -> None:
    clock, upstream = ManualClock(), Held()
    service = Deadline(DeadlinePolicy(idle=60.0, total=600.0), clock=clock)(upstream)

    async with anyio.create_task_group() as tasks:
        running = Running(tasks, service, make_call("slow", back=back))
        await clock.advance(59.0)
        assert not running.done
        await clock.advance(1.0)

    assert isinstance(running.error, DeadlineExceeded)
    assert running.error.sent is Sent.MAYBE
    assert running.error.upstream == "up"
    assert "slow" in running.error.message
    assert "60 s" in running.error.message
    assert len(upstream.cancelled) == 1


async def test_progress_resets_the_idle_limit_but_never_the_total() -> None:
    clock, upstream = ManualClock(), Held()
    service = Deadline(DeadlinePolicy(idle=60.0, total=150.0), clock=clock)(upstream)

    async with anyio.create_task_group() as tasks:
        running = Running(tasks, service, make_call(back=Ear("p1")))
        await settle()
        back = upstream.calls[0].back
        assert back is not None
        for _ in range(3):
            await clock.advance(45.0)
            assert not running.done
            await back.notify(PROGRESS, {"progress": 1})
        await clock.advance(14.0)
        assert not running.done
        await clock.advance(1.0)

    assert isinstance(running.error, DeadlineExceeded)
    assert "150 s" in running.error.message


async def test_a_call_that_has_ended_leaves_no_timer_of_its_own() -> None:
    clock, upstream = ManualClock(), Held()
    service = Deadline(DeadlinePolicy(idle=60.0, total=600.0), clock=clock)(upstream)

    async with anyio.create_task_group() as tasks:
        for number in range(5):
            Running(tasks, service, make_call(back=Ear("p")))
            await settle()
            back = upstream.calls[number].back
            assert back is not None
            await back.notify(PROGRESS, None)
            upstream.answer(number)
            await settle()

    assert clock.armed == 1, "the one that all calls share"


async def test_other_notifications_are_no_progress() -> None:
    clock, upstream = ManualClock(), Held()
    service = Deadline(DeadlinePolicy(idle=60.0), clock=clock)(upstream)

    async with anyio.create_task_group() as tasks:
        running = Running(tasks, service, make_call(back=Ear()))
        await clock.advance(45.0)
        back = upstream.calls[0].back
        assert back is not None
        await back.notify("notifications/message", None)
        await clock.advance(15.0)

    assert isinstance(running.error, DeadlineExceeded)


async def test_a_person_who_thinks_about_a_question_does_not_use_up_the_idle_time() -> None:
    clock, upstream, ear = ManualClock(), Held(), Ear()
    service = Deadline(DeadlinePolicy(idle=60.0, total=600.0), clock=clock)(upstream)

    async with anyio.create_task_group() as tasks:
        running = Running(tasks, service, make_call(back=ear))
        await settle()
        back = upstream.calls[0].back
        assert back is not None
        tasks.start_soon(back.ask, "elicitation/create", None)
        await clock.advance(300.0)
        assert not running.done
        assert ear.thinking is not None
        ear.thinking.set_result({"action": "accept"})
        await clock.advance(59.0)
        assert not running.done
        await clock.advance(1.0)

    assert isinstance(running.error, DeadlineExceeded)


async def test_the_time_of_a_question_does_not_count_for_the_total_either() -> None:
    clock, upstream, ear = ManualClock(), Held(), Ear(answers=[])
    service = Deadline(DeadlinePolicy(idle=60.0, total=100.0, question=900.0), clock=clock)(upstream)

    async with anyio.create_task_group() as tasks:
        running = Running(tasks, service, make_call(back=ear))
        await clock.advance(50.0)
        back = upstream.calls[0].back
        assert back is not None
        tasks.start_soon(back.ask, "elicitation/create", None)
        await clock.advance(800.0)
        assert not running.done
        assert ear.thinking is not None
        ear.thinking.set_result({"action": "accept"})
        await clock.advance(49.0)
        assert not running.done
        await clock.advance(1.0)

    assert isinstance(running.error, DeadlineExceeded)
    assert "within 100 s" in running.error.message


async def test_a_question_that_nobody_answers_ends_the_call() -> None:
    clock, upstream, ear = ManualClock(), Held(), Ear()
    service = Deadline(DeadlinePolicy(idle=60.0, total=600.0, question=900.0), clock=clock)(upstream)

    async with anyio.create_task_group() as tasks:
        running = Running(tasks, service, make_call(back=ear))
        await settle()
        back = upstream.calls[0].back
        assert back is not None
        tasks.start_soon(back.ask, "elicitation/create", None)
        await clock.advance(899.0)
        assert not running.done
        await clock.advance(1.0)
        assert isinstance(running.error, DeadlineExceeded)
        tasks.cancel_scope.cancel()
    assert clock.armed == 0


@pytest.mark.parametrize(
    ("policy", "ends"),
    [
        (DeadlinePolicy(idle=None, total=30.0), 30.0),
        (DeadlinePolicy(idle=30.0, total=None), 30.0),
        (DeadlinePolicy(idle=60.0, total=20.0), 20.0),
        (DeadlinePolicy(idle=60.0, targets={"search": DeadlinePolicy(idle=5.0)}), 5.0),
    ],
)
async def test_each_limit_works_alone_and_for_single_tools(policy: DeadlinePolicy, ends: float) -> None:
    clock = ManualClock()
    service = Deadline(policy, clock=clock)(Held())

    async with anyio.create_task_group() as tasks:
        running = Running(tasks, service, make_call("search", back=Ear()))
        await clock.advance(ends - 0.5)
        assert not running.done
        await clock.advance(0.5)

    assert isinstance(running.error, DeadlineExceeded)
    assert f"{ends:g} s" in running.error.message


async def test_without_limits_a_call_may_take_for_ever() -> None:
    clock, upstream = ManualClock(), Held()
    service = Deadline(DeadlinePolicy(idle=None, total=None), clock=clock)(upstream)

    async with anyio.create_task_group() as tasks:
        running = Running(tasks, service)
        await clock.advance(1e6)
        upstream.answer()

    assert running.reply is OK


async def test_a_downstream_that_leaves_is_no_timeout() -> None:
    clock, upstream = ManualClock(), Held()

    async with anyio.create_task_group() as tasks:
        running = Running(tasks, Deadline(clock=clock)(upstream))
        await settle()
        running.cancel()

    assert running.cancelled
    assert len(upstream.cancelled) == 1


async def test_the_hint_says_whether_the_call_may_be_repeated() -> None:
    clock = ManualClock()
    service = Deadline(DeadlinePolicy(idle=1.0), clock=clock)(Held())

    async with anyio.create_task_group() as tasks:
        safe, unsafe = (Running(tasks, service, make_call(safe=safe)) for safe in (True, False))
        await clock.advance(1.0)

    assert isinstance(safe.error, DeadlineExceeded)
    assert isinstance(unsafe.error, DeadlineExceeded)
    assert "without harm" in safe.error.hint
    assert "may have run" in unsafe.error.hint


async def test_retuning_counts_from_the_next_call_on() -> None:
    clock = ManualClock()
    deadline = Deadline(DeadlinePolicy(idle=60.0), clock=clock)
    service = deadline(Held())

    async with anyio.create_task_group() as tasks:
        old = Running(tasks, service)
        await settle()
        deadline.retune(DeadlinePolicy(idle=10.0))
        new = Running(tasks, service)
        await clock.advance(10.0)
        assert isinstance(new.error, DeadlineExceeded)
        assert not old.done
        await clock.advance(50.0)

    assert isinstance(old.error, DeadlineExceeded)
