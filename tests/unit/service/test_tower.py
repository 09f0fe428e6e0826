"""All layers together, in the order of the design: what a downstream may rely on whatever an upstream does."""

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import Enum

import anyio
import pytest
from anyio.abc import TaskGroup
from hypothesis import example, given, settings
from hypothesis import strategies as st

from proxy.errors import (
    AuthRequired,
    CircuitOpen,
    ConnectFailed,
    DeadlineExceeded,
    Draining,
    Lost,
    ManifoldError,
    ProtocolFault,
    RateLimited,
    Rejected,
    SessionGone,
)
from proxy.model import Call, Reply, Sent
from proxy.service.attempt import Attempt, AttemptPolicy
from proxy.service.backoff import BackoffPolicy
from proxy.service.balance import Balance
from proxy.service.base import Service, stack
from proxy.service.breaker import Breaker
from proxy.service.breaker_state import BreakerPolicy, State
from proxy.service.bulkhead import Bulkhead, BulkheadPolicy
from proxy.service.cache import Cache
from proxy.service.coalesce import Coalesce
from proxy.service.deadline import Deadline, DeadlinePolicy
from proxy.service.hedge import Hedge
from proxy.service.observe import Observation, Observe, Outcome
from proxy.service.ratelimit import RateLimit, RatePolicy
from proxy.service.retry import Retry, RetryPolicy
from tests.support.clock import ManualClock
from tests.support.services import OK, TOOL_ERROR, Ear, Running, make_call


class Fault(Enum):
    """What an upstream does with a request, and whether the tool runs before it does."""

    ANSWER = "answers"
    TOOL_ERROR = "answers with isError"
    REJECT = "answers with a JSON-RPC error"
    REFUSE = "takes no connection"
    FORGET = "no longer knows our session"
    LIMIT = "says 429"
    LOCK = "says 401"
    STOP = "is being replaced"
    DIE_BEFORE = "dies before the tool runs"
    DIE_AFTER = "dies after the tool ran"
    GARBLE = "answers garbage"
    HANG_BEFORE = "hangs before the tool runs"
    HANG_AFTER = "hangs after the tool ran"
    CRASH = "trips over a defect of ours"


RUNS = {Fault.ANSWER, Fault.TOOL_ERROR, Fault.REJECT, Fault.DIE_AFTER, Fault.GARBLE, Fault.HANG_AFTER, Fault.CRASH}
RAISES: dict[Fault, Callable[[], Exception]] = {
    Fault.REJECT: lambda: Rejected(-32000, "no"),
    Fault.REFUSE: lambda: ConnectFailed("down"),
    Fault.FORGET: lambda: SessionGone("404"),
    Fault.LIMIT: lambda: RateLimited("429", retry_after=1.0),
    Fault.LOCK: lambda: AuthRequired("401"),
    Fault.STOP: lambda: Draining("stopping"),
    Fault.DIE_BEFORE: lambda: Lost("died"),
    Fault.DIE_AFTER: lambda: Lost("died"),
    Fault.GARBLE: lambda: ProtocolFault("garbage"),
    Fault.CRASH: lambda: ZeroDivisionError("a defect"),
}


class FaultyUpstream:
    """Plays its faults one after the other, then answers; counts how often each call was executed."""

    def __init__(self, faults: list[Fault]) -> None:
        self._faults = list(faults)
        self.executed: dict[str, int] = {}
        self.under_way = 0

    def recover(self) -> None:
        self._faults.clear()

    async def __call__(self, call: Call, /) -> Reply:
        fault = self._faults.pop(0) if self._faults else Fault.ANSWER
        self.under_way += 1
        try:
            await anyio.lowlevel.checkpoint()
            if fault in RUNS:
                self.executed[call.target] = self.executed.get(call.target, 0) + 1
            if fault in (Fault.HANG_BEFORE, Fault.HANG_AFTER):
                await anyio.sleep_forever()
            if fault in RAISES:
                error = RAISES[fault]()
                raise error
            return TOOL_ERROR if fault is Fault.TOOL_ERROR else OK
        finally:
            self.under_way -= 1


@dataclass
class Tower:
    """Every layer there is, with everything switched on."""

    tasks: TaskGroup
    clock: ManualClock = field(default_factory=ManualClock)
    seen: list[Observation] = field(default_factory=list)

    def observed(self, observation: Observation, /) -> None:
        self.seen.append(observation)

    def __post_init__(self) -> None:
        clock = self.clock
        self.bulkhead = Bulkhead(BulkheadPolicy(limit=3, queue=50), clock=clock)
        self.breaker = Breaker(BreakerPolicy(min_calls=4), clock=clock)
        self.layers = stack(
            Observe(self, clock=clock),
            Deadline(DeadlinePolicy(idle=60.0, total=300.0), clock=clock),
            Cache(reads=lambda call: call.target.startswith("read"), clock=clock),
            Coalesce(self.tasks, reads=lambda call: call.target.startswith("read")),
            RateLimit(RatePolicy(rate=1000.0, burst=1000), clock=clock),
            self.bulkhead,
            Retry(RetryPolicy(attempts=4), clock=clock, rng=random.Random(7).random),  # noqa: S311  reproducible
            Attempt(AttemptPolicy(timeout=20.0, safe_only=False), clock=clock),
            self.breaker,
            Hedge(self.tasks, clock=clock),
        )

    def around(self, *upstreams: Service) -> Service:
        instances = {str(number): upstream for number, upstream in enumerate(upstreams)}
        return self.layers(Balance(instances, clock=self.clock))


FAULTS = st.lists(st.sampled_from(Fault), max_size=8)


@settings(max_examples=200, deadline=None)
@given(first=FAULTS, second=FAULTS, leave=st.none() | st.floats(0.0, 70.0), asks=st.booleans())
@example(first=[Fault.DIE_AFTER], second=[], leave=None, asks=False)
@example(first=[Fault.HANG_AFTER], second=[], leave=None, asks=False)
@example(first=[Fault.REFUSE, Fault.FORGET, Fault.DIE_AFTER], second=[Fault.REFUSE], leave=None, asks=True)
async def test_an_unsafe_call_is_executed_at_most_once_whatever_happens(
    first: list[Fault], second: list[Fault], leave: float | None, *, asks: bool
) -> None:
    upstreams = [FaultyUpstream(first), FaultyUpstream(second)]
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tower = Tower(tasks)
            back = Ear("token") if asks else None
            running = Running(tasks, tower.around(*upstreams), make_call("write", back=back))
            if leave is not None:
                await tower.clock.advance(leave)
                running.cancel()
            await tower.clock.advance(400.0)

    assert sum(upstream.executed.get("write", 0) for upstream in upstreams) <= 1
    assert running.done
    assert len(tower.seen) == 1
    assert tower.bulkhead.running == 0
    assert [upstream.under_way for upstream in upstreams] == [0, 0]


@settings(max_examples=100, deadline=None)
@given(faults=st.lists(st.sampled_from(Fault), max_size=30), leaves=st.sets(st.integers(0, 11)))
async def test_whatever_happens_every_call_ends_is_seen_once_and_leaves_nothing_behind(
    faults: list[Fault], leaves: set[int]
) -> None:
    upstream = FaultyUpstream(faults)
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            tower = Tower(tasks)
            service = tower.around(upstream)
            calls = [
                Running(tasks, service, make_call(f"{kind}{number}", safe=kind != "write"))
                for number in range(4)
                for kind in ("write", "read", "idempotent")
            ]
            await tower.clock.advance(1.0)
            for number in leaves:
                calls[number].cancel()
            await tower.clock.advance(400.0)
            assert all(call.done for call in calls)

            assert all(count <= 1 for name, count in upstream.executed.items() if name.startswith("write"))
            assert len(tower.seen) == len(calls)
            assert tower.bulkhead.running == tower.bulkhead.waiting == upstream.under_way == 0
            upstream.recover()
            await tower.clock.advance(120.0)
            assert [await service(make_call("write later")) for _ in range(3)] == [OK] * 3

    assert tower.breaker.state is State.CLOSED


async def test_a_call_that_was_not_sent_recovers_without_the_downstream_noticing() -> None:
    upstream = FaultyUpstream([Fault.REFUSE, Fault.LIMIT, Fault.REFUSE])
    async with anyio.create_task_group() as tasks:
        tower = Tower(tasks)
        running = Running(tasks, tower.around(upstream), make_call("write"))
        await tower.clock.advance(10.0)

    assert running.reply is OK
    assert upstream.executed == {"write": 1}
    assert [(seen.outcome, seen.attempts) for seen in tower.seen] == [(Outcome.OK, 4)]


async def test_one_logical_call_holds_one_slot_however_many_attempts() -> None:
    upstream = FaultyUpstream([Fault.REFUSE] * 3)
    async with anyio.create_task_group() as tasks:
        tower = Tower(tasks)
        Running(tasks, tower.around(upstream), make_call("write"))
        most = 0
        for _ in range(100):
            await tower.clock.advance(0.05)
            most = max(most, tower.bulkhead.running)

    assert most == 1


async def test_the_breaker_counts_every_attempt_and_an_open_one_is_not_retried() -> None:
    upstream = FaultyUpstream([Fault.DIE_BEFORE] * 100)
    async with anyio.create_task_group() as tasks:
        tower = Tower(tasks)
        running = Running(tasks, tower.layers(upstream), make_call("idempotent", safe=True))
        await tower.clock.advance(3.0)
        assert isinstance(running.error, Lost)
        assert tower.breaker.state is State.OPEN

        refused = Running(tasks, tower.layers(upstream), make_call("write"))
        await tower.clock.advance(0.0)

    assert isinstance(refused.error, CircuitOpen)
    assert refused.error.sent is Sent.NO
    assert upstream._faults == [Fault.DIE_BEFORE] * 96


async def test_the_deadline_holds_across_attempts_and_waits() -> None:
    upstream = FaultyUpstream([Fault.HANG_BEFORE] * 10)
    clock = ManualClock()
    layers = stack(
        Deadline(DeadlinePolicy(idle=50.0), clock=clock),
        Retry(RetryPolicy(attempts=10, give_up=1000.0, backoff=BackoffPolicy(base=0.0)), clock=clock),
        Attempt(AttemptPolicy(timeout=20.0), clock=clock),
    )
    async with anyio.create_task_group() as tasks:
        running = Running(tasks, layers(upstream), make_call(safe=True))
        await clock.advance(50.0)

    assert isinstance(running.error, DeadlineExceeded)
    assert len(upstream._faults) == 7


@pytest.mark.parametrize("fault", [fault for fault in Fault if fault in RAISES and fault is not Fault.CRASH])
async def test_every_error_says_what_failed_and_can_be_told_to_a_model(fault: Fault) -> None:
    upstream = FaultyUpstream([fault] * 10)
    async with anyio.create_task_group() as tasks:
        tower = Tower(tasks)
        running = Running(tasks, tower.around(upstream), make_call("write"))
        await tower.clock.advance(100.0)

    assert isinstance(running.error, ManifoldError)
    assert isinstance(running.error, type(RAISES[fault]()))
