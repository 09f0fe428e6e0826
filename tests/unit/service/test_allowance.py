"""Limits of agents, over all upstreams."""

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.agents.selection import parts
from proxy.bridge.failed import details
from proxy.config.access import LimitsConfig
from proxy.errors import ProtocolFault, QueueFull, RateLimited
from proxy.model import Call, Caller, Principal, Reply
from proxy.service.allowance import MAX_SHARES, Allowances
from proxy.service.base import Service
from tests.support.clock import ManualClock


class Moved(ManualClock):
    """Moved without waiting: nothing waits for it."""

    def move(self, seconds: float) -> None:
        self._now += seconds


def call(agent: str | None = "reader", upstream: str = "files", who: str = "") -> Call:
    return Call(upstream, "tools/call", target="find", caller=Caller(agent=agent, principal=Principal(who)))


async def answer(_: Call, /) -> Reply:
    return Reply(b'{"content":[]}')


def limited(clock: ManualClock, **limits: object) -> tuple[Allowances, Service]:
    layer = Allowances(parts, clock=clock)
    layer.configure({"reader": LimitsConfig.model_validate(limits)})
    return layer, layer(answer)


async def test_an_agent_over_its_rate_is_refused_by_name_whatever_the_upstream() -> None:
    clock = ManualClock()
    _, service = limited(clock, calls="2/min")
    await service(call(upstream="files"))
    await service(call(upstream="web"))
    with pytest.raises(RateLimited) as caught:
        await service(call(upstream="web"))
    assert 'agent "reader"' in caught.value.text()
    assert caught.value.retry_after == pytest.approx(30.0)
    assert details(caught.value)["retryAfter"] == 30.0
    await clock.advance(30.0)
    await service(call())


async def test_others_are_not_limited() -> None:
    _, service = limited(ManualClock(), calls="1/h")
    for agent in (None, "writer", "writer", None):
        await service(call(agent))


async def test_of_joined_agents_the_limits_of_all_apply_and_a_refusal_costs_nothing() -> None:
    clock = ManualClock()
    layer = Allowances(parts, clock=clock)
    layer.configure({"one": LimitsConfig(calls="1/min"), "two": LimitsConfig(calls="2/min")})  # type: ignore[arg-type]  # as in a file
    service = layer(answer)
    await service(call("two+one"))
    for _ in range(3):
        with pytest.raises(RateLimited, match='"one"'):
            await service(call("two+one"))
    await service(call("two"))
    with pytest.raises(RateLimited, match='"two"'):
        await service(call("two"))


async def test_limits_may_be_those_of_each_principal() -> None:
    _, service = limited(ManualClock(), calls="1/h", per="principal")
    await service(call(who="ann"))
    await service(call(who="bob"))
    with pytest.raises(RateLimited):
        await service(call(who="ann"))


async def test_calls_at_once_wait_for_a_place_and_are_refused_beyond_the_queue() -> None:
    layer = Allowances(parts, clock=ManualClock())
    layer.configure({"reader": LimitsConfig(concurrency=2, queue=1)})
    begun, release = 0, anyio.Event()

    async def slow(_: Call, /) -> Reply:
        nonlocal begun
        begun += 1
        await release.wait()
        return Reply(b"{}")

    service = layer(slow)
    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            for upstream in ("files", "web", "files"):
                tasks.start_soon(service, call(upstream=upstream))
            await anyio.wait_all_tasks_blocked()
            assert begun == 2
            with pytest.raises(QueueFull, match='agent "reader"'):
                await service(call())
            release.set()
    assert begun == 3


async def test_a_result_that_is_too_large_is_not_passed_on_and_the_error_says_that_it_ran() -> None:
    layer = Allowances(parts, clock=ManualClock())
    layer.configure({"reader": LimitsConfig(max_result=1024)})

    async def large(_: Call, /) -> Reply:
        return Reply(b'"' + b"x" * 2000 + b'"')

    with pytest.raises(ProtocolFault, match="1024") as caught:
        await layer(large)(call())
    assert "was executed" in caught.value.hint
    await layer(answer)(call())


async def test_changed_limits_hold_at_once_and_what_was_spent_stays_spent() -> None:
    layer, service = limited(ManualClock(), calls="2/h")
    await service(call())
    layer.configure({"reader": LimitsConfig(calls="1/h")})  # type: ignore[arg-type]  # as in a file
    await service(call())
    with pytest.raises(RateLimited):
        await service(call())
    layer.configure({})
    await service(call())


async def test_memory_is_bounded_and_only_what_says_nothing_is_forgotten() -> None:
    clock = ManualClock()
    layer, service = limited(clock, calls="1/min", per="principal")
    await service(call(who="first"))
    await clock.advance(61.0)
    await service(call(who="second"))
    assert len(layer) == 1  # the first one has nothing left to remember
    for number in range(MAX_SHARES + 10):
        await service(call(who=f"p{number}"))
    assert len(layer) == MAX_SHARES
    with pytest.raises(RateLimited):
        await service(call(who=f"p{MAX_SHARES}"))


@given(st.lists(st.tuples(st.floats(0, 20), st.sampled_from(["ann", "bob"])), max_size=60), st.integers(1, 5))
def test_nobody_ever_gets_more_than_the_rate(steps: list[tuple[float, str]], count: int) -> None:
    clock = Moved()
    _, service = limited(clock, calls=f"{count}/10s", per="principal")
    passed: dict[str, list[float]] = {"ann": [], "bob": []}
    for seconds, who in steps:
        clock.move(seconds)
        try:
            service(call(who=who)).send(None)  # it never waits, so one step ends it
        except StopIteration:
            passed[who].append(clock.now())
        except RateLimited:
            continue
    for times in passed.values():
        for start in times:
            window = [at for at in times if start <= at < start + 10]
            assert len(window) <= 2 * count
