"""One observation per logical call (proxy/service/observe.py)."""

import anyio
import pytest
import structlog.testing

from proxy.errors import ConnectFailed, DeadlineExceeded, Lost, Rejected
from proxy.service.backoff import BackoffPolicy
from proxy.service.base import stack
from proxy.service.bulkhead import Bulkhead, BulkheadPolicy
from proxy.service.cache import Cache
from proxy.service.deadline import Deadline, DeadlinePolicy
from proxy.service.notes import noted
from proxy.service.observe import Observation, Observe, Outcome
from proxy.service.retry import Retry, RetryPolicy
from tests.support.clock import ManualClock, settle
from tests.support.services import INPUT_REQUIRED, OK, TOOL_ERROR, Held, Running, Scripted, make_call


class Book:
    def __init__(self) -> None:
        self.seen: list[Observation] = []

    def observed(self, observation: Observation, /) -> None:
        self.seen.append(observation)


@pytest.mark.parametrize(
    ("reply", "outcome"), [(OK, Outcome.OK), (TOOL_ERROR, Outcome.TOOL_ERROR), (INPUT_REQUIRED, Outcome.OK)]
)
async def test_a_reply_is_seen_once(reply: object, outcome: Outcome) -> None:
    book, call = Book(), make_call()

    assert await Observe(book)(Scripted(reply))(call) is reply  # type: ignore[arg-type]

    assert noted() is None
    (seen,) = book.seen
    assert (seen.call, seen.reply, seen.error) == (call, reply, None)
    assert (seen.outcome, seen.attempts, seen.source) == (outcome, 1, "upstream")


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (Lost("died"), Outcome.FAILED),
        (DeadlineExceeded("late"), Outcome.FAILED),
        (Rejected(-32602, "bad"), Outcome.REJECTED),
        (ValueError("a defect"), Outcome.FAILED),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_an_error_is_seen_once_and_passes_unchanged(error: Exception, outcome: Outcome) -> None:
    book = Book()

    with pytest.raises(type(error)) as caught:
        await Observe(book)(Scripted(error))(make_call())

    assert caught.value is error
    assert [(seen.outcome, seen.error) for seen in book.seen] == [(outcome, error)]


async def test_a_downstream_that_leaves_is_seen_once() -> None:
    book = Book()
    async with anyio.create_task_group() as tasks:
        running = Running(tasks, Observe(book)(Held()))
        await settle()
        running.cancel()

    assert [seen.outcome for seen in book.seen] == [Outcome.CANCELLED]


async def test_a_timeout_inside_is_a_failure_and_the_duration_is_measured() -> None:
    book, clock = Book(), ManualClock()
    layers = stack(Observe(book, clock=clock), Deadline(DeadlinePolicy(idle=7.0), clock=clock))
    async with anyio.create_task_group() as tasks:
        Running(tasks, layers(Held()))
        await clock.advance(7.0)

    assert [(seen.outcome, seen.seconds) for seen in book.seen] == [(Outcome.FAILED, 7.0)]


async def test_attempts_are_counted_in_one_observation() -> None:
    book, clock = Book(), ManualClock()
    retry = Retry(RetryPolicy(backoff=BackoffPolicy(base=0.0)), clock=clock)
    upstream = Scripted(ConnectFailed("1"), ConnectFailed("2"), OK)

    await stack(Observe(book, clock=clock), retry)(upstream)(make_call())

    assert [(seen.outcome, seen.attempts) for seen in book.seen] == [(Outcome.OK, 3)]


async def test_waiting_for_a_slot_is_measured() -> None:
    book, clock, upstream = Book(), ManualClock(), Held()
    layers = stack(Observe(book, clock=clock), Bulkhead(BulkheadPolicy(limit=1), clock=clock))
    service = layers(upstream)
    async with anyio.create_task_group() as tasks:
        Running(tasks, service)
        Running(tasks, service)
        await clock.advance(4.0)
        upstream.answer(0)
        await clock.advance(3.0)
        upstream.answer(1)

    assert [(seen.queued, seen.seconds) for seen in book.seen] == [(0.0, 4.0), (4.0, 7.0)]


async def test_an_answer_from_memory_is_no_attempt() -> None:
    book = Book()
    service = stack(Observe(book), Cache(reads=lambda _: True))(Scripted())
    for _ in range(2):
        await service(make_call(safe=True))

    assert [(seen.source, seen.attempts) for seen in book.seen] == [("upstream", 1), ("cache", 0)]


async def test_calls_at_the_same_time_are_not_mixed_up() -> None:
    book, clock = Book(), ManualClock()
    retry = Retry(RetryPolicy(backoff=BackoffPolicy(base=1.0)), clock=clock, rng=lambda: 1.0)
    observe = Observe(book, clock=clock)
    async with anyio.create_task_group() as tasks:
        Running(tasks, stack(observe, retry)(Scripted(ConnectFailed("1"), OK)), make_call("twice"))
        Running(tasks, stack(observe, retry)(Scripted(OK)), make_call("once"))
        await clock.advance(10.0)

    assert {seen.call.target: seen.attempts for seen in book.seen} == {"twice": 2, "once": 1}
    assert noted() is None


async def test_an_observer_that_raises_harms_no_call() -> None:
    class Broken:
        def observed(self, _observation: Observation, /) -> None:
            raise RuntimeError("out of ink")

    with structlog.testing.capture_logs() as logs:
        assert await Observe(Broken())(Scripted())(make_call()) is OK

    assert [entry["event"] for entry in logs] == ["observer.failed"]
