"""The order of the tower, by what can be observed of it; and that going over to other figures keeps its state."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from proxy.config.model import UpstreamConfig
from proxy.errors import (
    AttemptTimeout,
    CircuitOpen,
    ConnectFailed,
    DeadlineExceeded,
    Lost,
    ProtocolFault,
    QueueFull,
    RateLimited,
)
from proxy.model import Call, Listing, Reply, StatusEvent, UpstreamState
from proxy.service.base import Service
from proxy.service.breaker_state import State
from proxy.service.health import HealthStatus
from proxy.telemetry.metrics import Metrics
from proxy.upstream.stack import Layers, Shared, Tower, ordered
from tests.support.clock import ManualClock, settle
from tests.support.services import OK, TOOL_ERROR, Held, Running, Scripted, make_call

READ_ONLY = {"name": "search", "annotations": {"readOnlyHint": True}}
IDEMPOTENT = {"name": "put", "annotations": {"idempotentHint": True}}


class Stand:
    """A member of a tower: a service, what it offers, and what it heard about itself."""

    def __init__(self, service: Service) -> None:
        self.request = service
        self.listing = Listing(tools=(READ_ONLY, IDEMPOTENT, {"name": "write"}))
        self.is_live = True
        self.heard: list[tuple[HealthStatus, str]] = []

    def judged(self, status: HealthStatus, reason: str, /) -> None:
        self.heard.append((status, reason))


class Site:
    """A tower with what stands around it."""

    def __init__(self, tower: Tower, shared: Shared, clock: ManualClock, stand: Stand) -> None:
        self.tower = tower
        self.tasks = shared.tasks
        self.metrics = shared.metrics
        self.clock = clock
        self.stand = stand

    def call(self, target: str = "search", *, safe: bool = False, q: int = 0) -> Running:
        call = make_call(target, safe=safe, params={"name": target, "arguments": {"q": q}})
        return Running(self.tasks, self.tower.service, call)


def options(**changes: Any) -> UpstreamConfig:
    return UpstreamConfig.model_validate({"command": "x", **changes})


@asynccontextmanager
async def site(service: Service, **changes: Any) -> AsyncIterator[Site]:
    with anyio.fail_after(10):
        async with anyio.create_task_group() as tasks:
            clock, stand = ManualClock(), Stand(service)
            shared = Shared(tasks, Metrics(wall=lambda: 0.0), clock)
            yield Site(Tower(options(**changes), {"up": stand}, shared), shared, clock, stand)
            tasks.cancel_scope.cancel()


# -- the order ---------------------------------------------------------------------------------------------------------


async def test_refusals_waits_and_remembered_answers_are_observed() -> None:
    held = Held()
    async with site(held, concurrency=1, queue=0, cache={}, rate_limit={"rate": 0.001, "burst": 2}) as at:
        at.call(q=1)
        await settle()
        at.call(q=2)  # no slot
        at.call(q=3)  # over the rate
        await settle()
        held.answer(0)
        await settle()
        at.call(q=1)  # remembered
        await settle()
        [seen] = at.metrics.tools()

    assert (seen.calls, seen.successes, seen.failures) == (4, 2, {"queue-full": 1, "rate-limited": 1})


async def test_the_deadline_counts_while_a_call_waits_in_the_queue() -> None:
    async with site(Held(), concurrency=1, timeout=20, queue_wait=300) as at:
        first, second = at.call(q=1), at.call(q=2)
        await at.clock.advance(20.0)

    assert isinstance(first.error, DeadlineExceeded)
    assert isinstance(second.error, DeadlineExceeded)


async def test_an_answer_from_memory_costs_no_rate() -> None:
    async with site(Scripted(), cache={}, rate_limit={"rate": 0.001, "burst": 1}) as at:
        first, again, other = at.call(q=1), None, None
        await settle()
        again, other = at.call(q=1), at.call(q=2)
        await settle()

    assert (first.reply is not None, again.reply is not None) == (True, True)
    assert isinstance(other.error, RateLimited)


async def test_an_answer_from_memory_comes_at_once_and_takes_no_flight() -> None:
    async with site(Scripted(), cache={}, coalesce=True) as at:
        call = make_call()
        await at.tower.service(call)
        with pytest.raises(StopIteration):  # the call returns without waiting for anything
            at.tower.service(call).__await__().__next__()


async def test_a_shared_flight_costs_no_rate_and_each_who_waits_has_a_deadline_of_its_own() -> None:
    held = Held()
    async with site(held, coalesce=True, rate_limit={"rate": 0.001, "burst": 1}, timeout=60) as at:
        first = at.call(q=1)
        await at.clock.advance(50.0)
        second = at.call(q=1)
        await at.clock.advance(10.0)
        assert isinstance(first.error, DeadlineExceeded)
        await at.clock.advance(40.0)
        assert len(held.calls) == 1
        held.answer(0)
        await settle()
        assert second.reply is OK


async def test_a_call_over_the_rate_takes_no_place_in_the_queue() -> None:
    async with site(Held(), concurrency=1, queue=0, rate_limit={"rate": 0.001, "burst": 1}) as at:
        at.call(q=1)
        await settle()
        refused = at.call(q=2)
        await settle()

    assert isinstance(refused.error, RateLimited)


async def test_a_call_keeps_its_slot_between_its_attempts() -> None:
    upstream = Scripted(Lost("died"), OK)
    async with site(upstream, concurrency=1, queue=0, retry={"backoff": 100, "max_backoff": 100}, timeout=200) as at:
        first = at.call(safe=True)
        await settle()
        assert len(upstream.calls) == 1
        other = at.call(q=1)
        await settle()
        assert isinstance(other.error, QueueFull)
        await at.clock.advance(100.0)
        assert first.reply is OK


async def test_an_attempt_that_hangs_leaves_time_for_another() -> None:
    held = Held()
    async with site(held, attempt_timeout=5) as at:
        call = at.call(safe=True)
        await at.clock.advance(8.0)
        held.answer(1)
        await settle()

    assert call.reply is OK


async def test_an_unsafe_call_has_only_one_attempt() -> None:
    held = Held()
    async with site(held, attempt_timeout=5) as at:
        call = at.call("write")
        await at.clock.advance(60.0)

    assert len(held.calls) == 1
    assert isinstance(call.error, DeadlineExceeded)


async def test_two_racing_requests_share_the_limit_of_their_attempt() -> None:
    held = Held()
    async with site(held, attempt_timeout=10, hedge=6, retry={"attempts": 1}) as at:
        call = at.call(safe=True)
        await at.clock.advance(9.0)
        assert len(held.calls) == 2
        await at.clock.advance(1.0)
        assert isinstance(call.error, AttemptTimeout)
        assert held.running == []


async def test_the_breaker_counts_each_of_two_racing_requests() -> None:
    held = Held()
    async with site(held, hedge=1, retry={"attempts": 1}, breaker={"min_calls": 2}) as at:
        at.call(safe=True)
        await at.clock.advance(2.0)
        held.fail(0, Lost("died"))
        held.fail(1, Lost("died"))
        await settle()
        breaker = at.tower.guards["up"].breaker
        assert breaker is not None
        assert breaker.state is State.OPEN


async def test_the_breaker_counts_every_attempt() -> None:
    async with site(Scripted(Lost("died")), breaker={"min_calls": 3}) as at:
        first = at.call(safe=True)
        await at.clock.advance(5.0)
        assert isinstance(first.error, Lost)
        second = at.call("write")
        await settle()
        assert isinstance(second.error, CircuitOpen)


# -- what is switched off ----------------------------------------------------------------------------------------------


async def test_a_layer_that_is_switched_off_is_not_in_the_stack() -> None:
    async with site(Scripted(), retry={"attempts": 1}, breaker={"enabled": False}) as at:
        layers = at.tower.layers
        off = (layers.cache, layers.coalesce, layers.rate, layers.retry, layers.attempt, layers.hedge)
        assert off == (None,) * 6
        assert at.tower.guards["up"].breaker is None


def test_a_stack_without_layers_is_the_innermost_service_itself() -> None:
    innermost = Scripted()
    assert ordered(Layers(), innermost) is innermost


@pytest.mark.parametrize("target", ["put", "write", "unknown"])
async def test_only_tools_that_say_they_are_read_only_are_remembered_or_sent_twice(target: str) -> None:
    held = Held()
    async with site(held, cache={}, coalesce=True, hedge=1) as at:
        at.call(target, safe=True)
        at.call(target, safe=True)
        await at.clock.advance(2.0)
        assert len(held.calls) == 2


async def test_a_call_that_may_write_makes_the_cache_forget() -> None:
    upstream = Scripted()
    async with site(upstream, cache={}) as at:
        for target in ("search", "search", "put", "search"):
            at.call(target, safe=True)
            await settle()

    assert [call.target for call in upstream.calls] == ["search", "put", "search"]


async def test_another_link_makes_the_cache_forget() -> None:
    upstream = Scripted()
    async with site(upstream, cache={}) as at:
        at.call()
        await settle()
        at.tower.moved(StatusEvent("up", UpstreamState.CONNECTING, UpstreamState.READY, "", 0.0))
        at.call()
        await settle()

    assert len(upstream.calls) == 2


# -- other figures -----------------------------------------------------------------------------------------------------


async def test_other_figures_leave_an_open_breaker_open() -> None:
    async with site(Scripted(ProtocolFault("junk")), breaker={"min_calls": 1}) as at:
        at.call()
        await settle()
        at.tower.retune(options(breaker={"min_calls": 50}, timeout=5))
        call = at.call()
        await settle()

    assert isinstance(call.error, CircuitOpen)


async def test_other_figures_keep_the_slots_that_are_taken_and_let_calls_under_way_finish() -> None:
    held = Held()
    async with site(held, concurrency=1, queue=0) as at:
        first = at.call(q=1)
        await settle()
        at.tower.retune(options(concurrency=2, queue=0, retry={"attempts": 1}, coalesce=True))
        second, third = at.call(q=2), at.call(q=3)
        await settle()
        held.answer(0)
        held.answer(1)
        await settle()

    assert (first.reply, second.reply) == (OK, OK)
    assert isinstance(third.error, QueueFull)


async def test_a_layer_can_be_switched_on_and_off_while_it_runs() -> None:
    async with site(Scripted()) as at:
        at.tower.retune(options(rate_limit={"rate": 0.001, "burst": 1}))
        calls = [at.call(), at.call()]
        await settle()
        at.tower.retune(options())
        calls.append(at.call())
        await settle()

    assert [isinstance(call.error, RateLimited) for call in calls] == [False, True, False]


# -- health ------------------------------------------------------------------------------------------------------------


async def test_many_failures_make_an_upstream_degraded_then_an_error_and_time_makes_it_well() -> None:
    upstream = Scripted(*([OK] * 7), *([Lost("died")] * 8), OK)
    async with site(upstream, breaker={"enabled": False}, retry={"attempts": 1}) as at:
        for number in range(10):
            at.call(q=number)
            await settle()
        assert [status for status, _ in at.stand.heard] == [HealthStatus.DEGRADED]
        for number in range(5):
            at.call(q=number)
            await settle()
        assert [status for status, _ in at.stand.heard] == [HealthStatus.DEGRADED, HealthStatus.ERROR]
        assert at.stand.heard[-1][1].startswith("50% of its calls failed")
        await at.clock.advance(70.0)  # nobody calls
        assert at.stand.heard[-1][0] is HealthStatus.ACTIVE
        assert at.clock.armed <= 1  # no watch goes on for one that is well


@pytest.mark.parametrize("step", [TOOL_ERROR, ConnectFailed("down")], ids=["isError", "no connection"])
async def test_tool_errors_and_missing_connections_say_nothing_about_health(step: Reply | Exception) -> None:
    async with site(Scripted(step), retry={"attempts": 1}) as at:
        for number in range(30):
            at.call(q=number)
            await settle()
        assert at.stand.heard == []
        breaker = at.tower.guards["up"].breaker
        assert breaker is not None
        assert breaker.state is State.CLOSED


async def test_a_new_link_is_told_again_what_the_calls_say() -> None:
    async with site(Scripted(Lost("died")), breaker={"enabled": False}, retry={"attempts": 1}) as at:
        for number in range(10):
            at.call(q=number)
            await settle()
        at.tower.moved(StatusEvent("up", UpstreamState.CONNECTING, UpstreamState.READY, "", 0.0))
        assert [status for status, _ in at.stand.heard] == [HealthStatus.ERROR, HealthStatus.ERROR]


async def test_a_breaker_that_closes_again_makes_the_upstream_well() -> None:
    upstream = Scripted(*([Lost("died")] * 10), OK)
    async with site(upstream, retry={"attempts": 1}) as at:
        for number in range(10):
            at.call(q=number)
            await settle()
        await at.clock.advance(5.0)
        for number in range(2):
            at.call(q=number)
            await settle()
        assert [status for status, _ in at.stand.heard] == [HealthStatus.ERROR, HealthStatus.ACTIVE]


# -- what is counted ---------------------------------------------------------------------------------------------------


async def test_what_is_no_tool_is_counted_by_its_method() -> None:
    async with site(Scripted()) as at:
        read = Call("up", "resources/read", {"uri": "a://b"}, "a://b", safe=True)
        Running(at.tasks, at.tower.service, read)
        await settle()
        assert [one.tool for one in at.metrics.tools()] == ["resources/read"]


async def test_a_downstream_that_leaves_is_counted_apart_and_not_timed() -> None:
    async with site(Held()) as at:
        call = at.call()
        await at.clock.advance(3.0)
        call.cancel()
        await settle()
        [seen] = at.metrics.tools()

    assert (seen.successes, seen.failures, seen.longest) == (0, {"cancelled": 1}, 0.0)


async def test_a_tool_that_reports_an_error_and_one_that_times_out_are_failures_and_timed() -> None:
    async with site(Scripted(TOOL_ERROR), timeout=7) as at:
        at.call()
        await settle()
        assert at.metrics.tools()[0].failures == {"tool-error": 1}
    async with site(Held(), timeout=7) as at:
        at.call()
        await at.clock.advance(7.0)
        assert at.metrics.tools()[0].failures == {"deadline-exceeded": 1}
        assert at.metrics.tools()[0].longest == pytest.approx(7.0)
