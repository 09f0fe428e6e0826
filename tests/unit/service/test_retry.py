"""The retry layer (proxy/service/retry.py)."""

import anyio
import pytest

from proxy.errors import (
    AttemptTimeout,
    AuthRequired,
    CircuitOpen,
    ConnectFailed,
    DeadlineExceeded,
    Draining,
    Lost,
    ProtocolFault,
    QueueFull,
    RateLimited,
    Rejected,
    SessionGone,
    UpstreamError,
)
from proxy.model import Call, Reply
from proxy.service.backoff import BackoffPolicy
from proxy.service.budget import BudgetPolicy
from proxy.service.retry import Retry, RetryPolicy
from tests.support.clock import ManualClock, settle
from tests.support.services import OK, TOOL_ERROR, Ear, Held, Running, Scripted, make_call

NOT_SENT = [ConnectFailed("down"), RateLimited("full", retry_after=0.5)]
MAYBE_SENT = [Lost("died"), AttemptTimeout("slow"), ProtocolFault("garbage"), DeadlineExceeded("late")]
FINAL = [
    Rejected(-32602, "bad arguments"),
    AuthRequired("401"),
    CircuitOpen("open"),
    QueueFull("full"),
    Draining("stopping"),
    RateLimited("slow down"),
    SessionGone("404, of a new session as well"),
]


def now(policy: RetryPolicy | None = None) -> Retry:
    """Without waiting between attempts."""
    return Retry(policy, clock=ManualClock(), rng=lambda: 0.0)


async def attempts(error: UpstreamError, *, safe: bool) -> int:
    """How often a call is tried which always fails like this."""
    upstream = Scripted(error)
    clock = ManualClock()
    service = Retry(clock=clock, rng=lambda: 0.0)(upstream)
    async with anyio.create_task_group() as tasks:
        running = Running(tasks, service, make_call(safe=safe))
        await clock.advance(60.0)
    assert running.error is error
    return len(upstream.calls)


async def test_success_is_not_repeated() -> None:
    upstream = Scripted(OK)
    assert await now()(upstream)(make_call(safe=True)) is OK
    assert len(upstream.calls) == 1


async def test_a_tool_that_fails_is_not_repeated() -> None:
    upstream = Scripted(TOOL_ERROR)
    assert await now()(upstream)(make_call(safe=True)) is TOOL_ERROR
    assert len(upstream.calls) == 1


@pytest.mark.parametrize("error", NOT_SENT, ids=type)
@pytest.mark.parametrize("safe", [True, False])
async def test_what_was_not_sent_is_repeated(error: UpstreamError, *, safe: bool) -> None:
    assert await attempts(error, safe=safe) == 3


@pytest.mark.parametrize("error", MAYBE_SENT, ids=type)
async def test_what_may_have_run_is_repeated_only_if_that_is_safe(error: UpstreamError) -> None:
    assert await attempts(error, safe=True) == 3
    assert await attempts(error, safe=False) == 1


@pytest.mark.parametrize("error", FINAL, ids=type)
@pytest.mark.parametrize("safe", [True, False])
async def test_answers_and_refusals_are_not_repeated(error: UpstreamError, *, safe: bool) -> None:
    assert await attempts(error, safe=safe) == 1


async def test_a_call_recovers_and_the_waits_grow_with_jitter() -> None:
    clock, upstream = ManualClock(), Scripted(ConnectFailed("1"), ConnectFailed("2"), OK)
    policy = RetryPolicy(backoff=BackoffPolicy(base=2.0, cap=60.0, factor=3.0))
    service = Retry(policy, clock=clock, rng=lambda: 0.5)(upstream)

    async with anyio.create_task_group() as tasks:
        running = Running(tasks, service)
        await clock.advance(0.9)
        assert len(upstream.calls) == 1
        await clock.advance(0.1)
        assert len(upstream.calls) == 2
        await clock.advance(2.9)
        assert len(upstream.calls) == 2
        await clock.advance(0.1)

    assert running.reply is OK


async def test_retry_after_is_honoured() -> None:
    clock, upstream = ManualClock(), Scripted(RateLimited("429", retry_after=5.0), OK)
    service = Retry(clock=clock, rng=lambda: 0.0)(upstream)

    async with anyio.create_task_group() as tasks:
        running = Running(tasks, service)
        await clock.advance(4.9)
        assert len(upstream.calls) == 1
        await clock.advance(0.1)

    assert running.reply is OK


async def test_a_wait_past_the_giving_up_is_not_begun() -> None:
    error = RateLimited("429", retry_after=31.0)
    with pytest.raises(RateLimited) as caught:
        await now(RetryPolicy(give_up=30.0))(Scripted(error))(make_call())
    assert caught.value is error


async def test_attempts_that_took_long_use_up_the_time_for_others() -> None:
    clock, upstream = ManualClock(), Held()
    service = Retry(RetryPolicy(give_up=30.0), clock=clock, rng=lambda: 1.0)(upstream)

    async with anyio.create_task_group() as tasks:
        running = Running(tasks, service, make_call(safe=True))
        await clock.advance(30.0)
        upstream.fail(0, Lost("died"))

    assert isinstance(running.error, Lost)
    assert len(upstream.calls) == 1


async def test_the_budget_is_shared_by_all_calls() -> None:
    upstream = Scripted(ConnectFailed("down"))
    service = now(
        RetryPolicy(backoff=BackoffPolicy(base=0.0), budget=BudgetPolicy(ratio=0.0, per_second=0.0, burst=3.0))
    )(upstream)

    for _ in range(10):
        with pytest.raises(ConnectFailed):
            await service(make_call())

    assert len(upstream.calls) == 13


async def test_calls_that_go_well_earn_repetitions() -> None:
    budget = BudgetPolicy(ratio=0.5, per_second=0.0, burst=1.0)
    upstream = Scripted(ConnectFailed("1"), OK, ConnectFailed("2"), OK, OK, ConnectFailed("3"), OK)
    service = now(RetryPolicy(backoff=BackoffPolicy(base=0.0), budget=budget))(upstream)

    assert await service(make_call()) is OK
    with pytest.raises(ConnectFailed):
        await service(make_call())
    for _ in range(3):
        assert await service(make_call()) is OK


async def test_a_call_that_asked_the_downstream_something_is_not_repeated() -> None:
    calls: list[Call] = []

    async def upstream(call: Call, /) -> Reply:
        calls.append(call)
        assert call.back is not None
        await call.back.ask("elicitation/create", None)
        raise Lost("died after the answer")

    with pytest.raises(Lost):
        await now()(upstream)(make_call(safe=True, back=Ear(answers=[{}, {}, {}])))

    assert len(calls) == 1


async def test_a_downstream_that_leaves_during_the_wait_ends_it() -> None:
    clock, upstream = ManualClock(), Scripted(ConnectFailed("down"))
    service = Retry(clock=clock, rng=lambda: 1.0)(upstream)

    async with anyio.create_task_group() as tasks:
        running = Running(tasks, service)
        await settle()
        running.cancel()

    assert running.cancelled
    assert len(upstream.calls) == 1
    assert clock.armed == 0


async def test_retuning_keeps_what_was_spent() -> None:
    retry = now(RetryPolicy(budget=BudgetPolicy(ratio=0.0, per_second=0.0, burst=1.0)))
    upstream = Scripted(ConnectFailed("1"), OK, ConnectFailed("2"))
    service = retry(upstream)
    assert await service(make_call()) is OK

    retry.retune(RetryPolicy(budget=BudgetPolicy(ratio=0.0, per_second=0.0, burst=10.0)))

    with pytest.raises(ConnectFailed):
        await service(make_call())
    assert len(upstream.calls) == 3
