"""The attempt timeout (proxy/service/attempt.py)."""

import anyio
import pytest

from proxy.errors import AttemptTimeout
from proxy.model import Sent
from proxy.service.attempt import Attempt, AttemptPolicy
from proxy.service.base import stack
from proxy.service.deadline import Deadline
from proxy.service.pulse import PROGRESS
from tests.support.clock import ManualClock, settle
from tests.support.services import OK, Ear, Held, Running, Scripted, make_call


async def test_an_attempt_in_time_is_answered() -> None:
    assert await Attempt()(Scripted())(make_call(safe=True)) is OK


async def test_an_attempt_that_takes_too_long_is_cancelled() -> None:
    clock, upstream = ManualClock(), Held()
    service = Attempt(AttemptPolicy(timeout=10.0), clock=clock)(upstream)

    async with anyio.create_task_group() as tasks:
        running = Running(tasks, service, make_call("slow", safe=True))
        await clock.advance(9.0)
        assert not running.done
        await clock.advance(1.0)

    assert isinstance(running.error, AttemptTimeout)
    assert running.error.sent is Sent.MAYBE
    assert "slow" in running.error.message
    assert len(upstream.cancelled) == 1


@pytest.mark.parametrize(("safe_only", "ended"), [(True, False), (False, True)])
async def test_a_call_that_may_not_be_repeated_is_left_to_the_deadline(*, safe_only: bool, ended: bool) -> None:
    clock = ManualClock()
    service = Attempt(AttemptPolicy(timeout=10.0, safe_only=safe_only), clock=clock)(Held())

    async with anyio.create_task_group() as tasks:
        running = Running(tasks, service, make_call(safe=False))
        await clock.advance(10.0)
        assert running.done is ended
        running.cancel()


async def test_progress_gives_the_full_time_again() -> None:
    clock, upstream = ManualClock(), Held()
    layers = stack(Deadline(clock=clock), Attempt(AttemptPolicy(timeout=10.0), clock=clock))

    async with anyio.create_task_group() as tasks:
        running = Running(tasks, layers(upstream), make_call(safe=True, back=Ear("p")))
        await clock.advance(9.0)
        back = upstream.calls[0].back
        assert back is not None
        await back.notify(PROGRESS, None)
        await clock.advance(9.0)
        assert not running.done
        await clock.advance(1.0)

    assert isinstance(running.error, AttemptTimeout)


async def test_retuning_counts_from_the_next_attempt_on() -> None:
    clock = ManualClock()
    attempt = Attempt(AttemptPolicy(timeout=60.0), clock=clock)
    service = attempt(Held())
    attempt.retune(AttemptPolicy(timeout=1.0))

    async with anyio.create_task_group() as tasks:
        running = Running(tasks, service, make_call(safe=True))
        await settle()
        await clock.advance(1.0)

    assert isinstance(running.error, AttemptTimeout)
