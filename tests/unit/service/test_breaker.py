"""The breaker layer (proxy/service/breaker.py)."""

import anyio
import pytest

from proxy.errors import (
    INTERNAL_ERROR,
    AttemptTimeout,
    AuthRequired,
    CircuitOpen,
    ConnectFailed,
    DeadlineExceeded,
    Lost,
    ProtocolFault,
    RateLimited,
    Rejected,
    SessionGone,
)
from proxy.model import Reply, Sent
from proxy.service.attempt import Attempt, AttemptPolicy
from proxy.service.backoff import BackoffPolicy
from proxy.service.base import Layer, stack
from proxy.service.breaker import Breaker
from proxy.service.breaker_state import BreakerPolicy, State
from proxy.service.deadline import Deadline, DeadlinePolicy
from tests.support.clock import ManualClock, settle
from tests.support.services import OK, TOOL_ERROR, Held, Running, Scripted, make_call

POLICY = BreakerPolicy(min_calls=3, open_for=BackoffPolicy(base=5.0, cap=60.0), probes=1)


async def state_after(step: Reply | BaseException, policy: BreakerPolicy = POLICY) -> State:
    """The breaker's state when several calls in a row have ended like this."""
    breaker = Breaker(policy, clock=ManualClock())
    service = breaker(Scripted(step))
    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            Running(tasks, service)
    return breaker.state


@pytest.mark.parametrize(
    "error",
    [Lost("died"), ConnectFailed("down"), AttemptTimeout("slow"), DeadlineExceeded("late"), ProtocolFault("junk")],
    ids=type,
)
async def test_faults_of_the_upstream_open_it(error: Exception) -> None:
    assert await state_after(error) is State.OPEN


@pytest.mark.parametrize(
    "step",
    [
        OK,
        TOOL_ERROR,
        Rejected(-32602, "bad arguments"),
        Rejected(INTERNAL_ERROR, "oops"),
        AuthRequired("401"),
        RateLimited("429", retry_after=1.0),
        SessionGone("404"),
        ValueError("a defect of ours"),
    ],
    ids=lambda step: type(step).__name__,
)
async def test_answers_and_refusals_do_not(step: Reply | BaseException) -> None:
    assert await state_after(step) is State.CLOSED


async def test_single_error_codes_can_be_made_to_count() -> None:
    policy = BreakerPolicy(min_calls=3, faults=frozenset({INTERNAL_ERROR}))
    assert await state_after(Rejected(INTERNAL_ERROR, "oops"), policy) is State.OPEN
    assert await state_after(Rejected(-32602, "bad arguments"), policy) is State.CLOSED


async def opened(clock: ManualClock, breaker: Breaker, steps: Scripted) -> None:
    for _ in range(3):
        with pytest.raises(Lost):
            await breaker(steps)(make_call())
    assert breaker.state is State.OPEN
    assert clock.armed == 0


async def test_an_open_breaker_sends_nothing_and_says_when_it_will_try_again() -> None:
    clock = ManualClock()
    breaker, upstream = Breaker(POLICY, clock=clock), Scripted(Lost("died"))
    await opened(clock, breaker, upstream)
    await clock.advance(2.0)

    with pytest.raises(CircuitOpen) as caught:
        await breaker(upstream)(make_call())

    assert caught.value.sent is Sent.NO
    assert caught.value.upstream == "up"
    assert "3.0 s" in caught.value.hint
    assert breaker.retry_in() == 3.0
    assert len(upstream.calls) == 3


async def test_only_the_probe_reaches_the_upstream_and_its_success_closes_the_breaker() -> None:
    clock, upstream = ManualClock(), Held()
    breaker = Breaker(POLICY, clock=clock)
    await opened(clock, breaker, Scripted(Lost("died")))
    await clock.advance(5.0)
    service = breaker(upstream)

    async with anyio.create_task_group() as tasks:
        calls = [Running(tasks, service) for _ in range(50)]
        await settle()
        assert len(upstream.calls) == 1
        refused = [call for call in calls if isinstance(call.error, CircuitOpen)]
        assert len(refused) == 49
        assert "trial call" in refused[0].error.hint  # type: ignore[union-attr]
        upstream.answer(0)

    assert breaker.state is State.CLOSED


async def test_one_that_has_recovered_opens_again() -> None:
    clock = ManualClock()
    breaker = Breaker(POLICY, clock=clock)
    await opened(clock, breaker, Scripted(Lost("died")))
    await clock.advance(5.0)
    await breaker(Scripted(OK))(make_call())
    assert breaker.state is State.CLOSED

    await opened(clock, breaker, Scripted(Lost("died again")))


async def test_a_probe_that_fails_opens_it_for_longer() -> None:
    clock = ManualClock()
    breaker, upstream = Breaker(POLICY, clock=clock), Scripted(Lost("died"))
    await opened(clock, breaker, upstream)
    await clock.advance(5.0)

    with pytest.raises(Lost):
        await breaker(upstream)(make_call())

    assert breaker.retry_in() == 10.0


async def test_a_downstream_that_leaves_counts_as_neither_and_gives_the_probe_back() -> None:
    clock, upstream = ManualClock(), Held()
    breaker = Breaker(POLICY, clock=clock)
    await opened(clock, breaker, Scripted(Lost("died")))
    await clock.advance(5.0)
    service = breaker(upstream)

    async with anyio.create_task_group() as tasks:
        leaving = Running(tasks, service)
        await settle()
        leaving.cancel()
        await settle()
        assert breaker.state is State.HALF_OPEN
        second = Running(tasks, service)
        await settle()
        upstream.answer(1)

    assert second.reply is OK


async def test_many_downstreams_that_leave_do_not_open_it() -> None:
    upstream = Held()
    breaker = Breaker(POLICY, clock=ManualClock())

    async with anyio.create_task_group() as tasks:
        calls = [Running(tasks, breaker(upstream)) for _ in range(20)]
        await settle()
        for call in calls:
            call.cancel()

    assert breaker.state is State.CLOSED


@pytest.mark.parametrize("which", ["deadline outside", "attempt outside", "attempt inside"])
async def test_a_hanging_upstream_opens_it_wherever_the_time_limit_stands(which: str) -> None:
    clock = ManualClock()
    breaker = Breaker(POLICY, clock=clock)
    attempt = Attempt(AttemptPolicy(timeout=10.0, safe_only=False), clock=clock)
    layers: dict[str, Layer] = {
        "deadline outside": stack(Deadline(DeadlinePolicy(idle=10.0), clock=clock), breaker),
        "attempt outside": stack(attempt, breaker),
        "attempt inside": stack(breaker, attempt),
    }
    service = layers[which](Held())

    async with anyio.create_task_group() as tasks:
        for _ in range(3):
            Running(tasks, service)
        await clock.advance(10.0)

    assert breaker.state is State.OPEN


async def test_a_new_upstream_closes_it() -> None:
    clock = ManualClock()
    breaker = Breaker(POLICY, clock=clock)
    await opened(clock, breaker, Scripted(Lost("died")))

    breaker.reset()

    assert await breaker(Scripted())(make_call()) is OK


async def test_retuning_keeps_what_was_counted() -> None:
    breaker, upstream = Breaker(POLICY, clock=ManualClock()), Scripted(Lost("died"))
    for _ in range(2):
        with pytest.raises(Lost):
            await breaker(upstream)(make_call())

    breaker.retune(BreakerPolicy(min_calls=3, failure_rate=1.0, faults=frozenset({1})))

    with pytest.raises(Rejected):
        await breaker(Scripted(Rejected(1, "counts now")))(make_call())
    assert breaker.state is State.OPEN
