"""Equal instances (proxy/service/balance.py)."""

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.errors import (
    AuthRequired,
    CircuitOpen,
    ConnectFailed,
    Draining,
    Lost,
    QueueFull,
    RateLimited,
    Rejected,
    UpstreamError,
)
from proxy.model import Call, Reply
from proxy.service.backoff import BackoffPolicy
from proxy.service.balance import Balance, BalancePolicy
from tests.support.clock import ManualClock, settle
from tests.support.services import OK, TOOL_ERROR, Ear, Held, Running, Scripted, make_call

POLICY = BalancePolicy(eject_after=2, ejection=BackoffPolicy(base=10.0, cap=40.0))


def session_of(call: Call) -> str | None:
    return call.caller.session


async def test_the_least_busy_instance_answers() -> None:
    a, b = Held(), Held()
    service = Balance({"a": a, "b": b})
    async with anyio.create_task_group() as tasks:
        for _ in range(6):
            Running(tasks, service)
        await settle()
        assert (len(a.running), len(b.running)) == (3, 3)
        for number in list(a.running):
            a.answer(number)
        await settle()
        for _ in range(3):
            Running(tasks, service)
        await settle()
        assert (len(a.running), len(b.running)) == (3, 3)
        tasks.cancel_scope.cancel()


async def test_idle_instances_take_turns() -> None:
    a, b = Scripted(), Scripted()
    service = Balance({"a": a, "b": b})
    for _ in range(10):
        await service(make_call())
    assert (len(a.calls), len(b.calls)) == (5, 5)


@pytest.mark.parametrize(
    ("error", "safe", "moves"),
    [
        (ConnectFailed("down"), False, True),
        (CircuitOpen("open"), False, True),
        (QueueFull("full"), False, True),
        (AuthRequired("401"), False, True),
        (Lost("died"), True, True),
        (Lost("died"), False, False),
        (Rejected(-32602, "bad"), True, False),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_a_call_moves_on_only_where_that_does_no_harm(error: UpstreamError, *, safe: bool, moves: bool) -> None:
    bad, good = Scripted(error), Scripted()
    service = Balance({"good": good, "bad": bad})

    if moves:
        assert await service(make_call(safe=safe)) is OK
    else:
        with pytest.raises(type(error)) as caught:
            await service(make_call(safe=safe))
        assert caught.value is error

    assert (len(bad.calls), len(good.calls)) == (1, int(moves))


async def test_when_all_fail_the_last_error_goes_out_and_each_was_tried_once() -> None:
    services = {name: Scripted(ConnectFailed(name)) for name in "abc"}
    with pytest.raises(ConnectFailed):
        await Balance(services)(make_call())
    assert [len(each.calls) for each in services.values()] == [1, 1, 1]


async def test_without_instances_it_is_draining() -> None:
    with pytest.raises(Draining):
        await Balance({})(make_call())


async def test_a_failing_instance_is_left_alone_and_tried_again_later() -> None:
    clock, bad, good = ManualClock(), Scripted(Lost("1"), Lost("2"), OK), Scripted()
    service = Balance({"bad": bad, "good": good}, POLICY, clock=clock)
    for _ in range(20):
        await service(make_call(safe=True))
    assert len(bad.calls) == 2

    await clock.advance(10.0)
    for _ in range(10):
        await service(make_call(safe=True))

    assert len(bad.calls) > 5


async def test_each_further_failure_keeps_it_away_for_longer() -> None:
    clock, bad = ManualClock(), Scripted(Lost("died"))
    service = Balance({"bad": bad, "good": Scripted()}, POLICY, clock=clock)
    tries: list[int] = []
    for _ in range(16):
        for _ in range(4):
            await service(make_call(safe=True))
        tries.append(len(bad.calls))
        await clock.advance(5.0)

    first = [tries.index(count) for count in (2, 3, 4)]
    assert first[1] - first[0] == 2  # 10 s
    assert first[2] - first[1] == 4  # 20 s


async def test_tool_errors_and_rejections_are_no_failures() -> None:
    moody, good = Scripted(TOOL_ERROR, Rejected(1, "no"), TOOL_ERROR, Rejected(1, "no"), OK), Scripted()
    service = Balance({"moody": moody, "good": good}, POLICY, clock=ManualClock())
    for _ in range(20):
        try:
            await service(make_call())
        except Rejected:
            continue
    assert len(moody.calls) == 10


async def test_failures_with_successes_between_them_eject_nobody() -> None:
    steps: list[Reply | BaseException] = [Lost("died"), OK]
    moody = Scripted(*steps * 10)
    service = Balance({"moody": moody, "good": Scripted()}, POLICY, clock=ManualClock())
    for _ in range(20):
        await service(make_call(safe=True))
    assert len(moody.calls) > 5


@pytest.mark.parametrize("error", [CircuitOpen("open"), AuthRequired("401")], ids=type)
async def test_an_instance_that_refuses_without_being_busy_is_left_alone(error: UpstreamError) -> None:
    shut = Scripted(error)
    service = Balance({"shut": shut, "good": Scripted()}, POLICY, clock=ManualClock())
    for _ in range(20):
        await service(make_call())
    assert len(shut.calls) == 2


async def test_when_all_are_ejected_the_one_whose_time_is_over_first_is_tried() -> None:
    clock = ManualClock()
    services = {"a": Scripted(Lost("a")), "b": Scripted(Lost("b"))}
    service = Balance(services, POLICY, clock=clock)
    for _ in range(20):
        with pytest.raises(Lost):
            await service(make_call())
    assert min(len(each.calls) for each in services.values()) > 2


async def test_a_sticky_key_stays_with_its_instance() -> None:
    services = {name: Scripted() for name in "abc"}
    service = Balance(services, sticky=session_of)
    for _ in range(9):
        await service(make_call(session="mine"))

    assert sorted(len(each.calls) for each in services.values()) == [0, 0, 9]


async def test_a_sticky_key_moves_when_its_instance_fails_and_stays_there() -> None:
    clock = ManualClock()
    down, other = Scripted(OK, ConnectFailed("down"), OK), Scripted()
    service = Balance({"other": other, "down": down}, POLICY, sticky=session_of, clock=clock)

    for _ in range(6):
        await service(make_call(session="mine"))

    assert len(down.calls) == 2
    assert len(other.calls) == 5


async def test_a_sticky_key_leaves_an_instance_that_was_ejected() -> None:
    dying, other = Scripted(Lost("died")), Scripted()
    service = Balance({"other": other, "dying": dying}, POLICY, sticky=session_of, clock=ManualClock())
    for _ in range(2):
        with pytest.raises(Lost):
            await service(make_call(session="mine"))

    assert await service(make_call(session="mine")) is OK
    assert len(dying.calls) == 2


@pytest.mark.parametrize("error", [QueueFull("full"), RateLimited("429", retry_after=1.0)], ids=type)
async def test_a_busy_instance_does_not_lose_its_sticky_calls(error: UpstreamError) -> None:
    busy, other = Scripted(error), Scripted()
    service = Balance({"other": other, "busy": busy}, sticky=session_of)
    with pytest.raises(type(error)):
        await service(make_call(session="mine"))
    assert other.calls == []


async def test_keys_are_forgotten_when_told_and_bounded_in_number() -> None:
    service = Balance({"a": Scripted(), "b": Scripted()}, BalancePolicy(max_keys=3), sticky=session_of)
    for number in range(10):
        await service(make_call(session=f"s{number}"))
    assert len(service.pool._sticky) == 3
    service.pool.forget("s9")
    assert len(service.pool._sticky) == 2


async def test_replacing_instances_keeps_what_is_known_of_those_that_stay() -> None:
    clock, bad = ManualClock(), Scripted(Lost("died"))
    service = Balance({"bad": bad, "gone": Scripted()}, POLICY, sticky=session_of, clock=clock)
    for number in range(8):
        await service(make_call(safe=True, session=f"s{number}"))
    tried = len(bad.calls)

    new = Scripted()
    service.pool.replace({"bad": bad, "new": new})
    for number in range(8):
        await service(make_call(safe=True, session=f"s{number}"))

    assert len(bad.calls) == tried
    assert len(new.calls) == 8


async def test_a_call_that_asked_the_downstream_something_does_not_move() -> None:
    calls: list[Call] = []

    async def upstream(call: Call, /) -> Reply:
        calls.append(call)
        assert call.back is not None
        await call.back.ask("elicitation/create", None)
        raise Lost("died")

    with pytest.raises(Lost):
        await Balance({"a": upstream, "b": upstream})(make_call(safe=True, back=Ear(answers=[1, 2])))
    assert len(calls) == 1


async def test_retuning_counts_from_the_next_call_on() -> None:
    bad, good = Scripted(Lost("died")), Scripted()
    service = Balance({"bad": bad, "good": good}, BalancePolicy(eject_after=100), clock=ManualClock())
    service.retune(BalancePolicy(eject_after=1))
    for _ in range(10):
        await service(make_call(safe=True))
    assert len(bad.calls) == 1


@given(st.lists(st.tuples(st.integers(0, 4), st.sampled_from(["start", "answer", "fail", "cancel"])), max_size=40))
async def test_outstanding_calls_are_counted_exactly(steps: list[tuple[int, str]]) -> None:
    services = {name: Held() for name in "ab"}
    balance = Balance(services, clock=ManualClock())
    async with anyio.create_task_group() as tasks:
        running: list[Running] = []
        for number, action in steps:
            held = services["ab"[number % 2]]
            if action == "start":
                running.append(Running(tasks, balance))
            elif action == "cancel" and running:
                running[number % len(running)].cancel()
            elif held.running and action == "answer":
                held.answer(held.running[0])
            elif held.running and action == "fail":
                held.fail(held.running[0], Lost("died"))
            await settle()
            assert [each.outstanding for each in balance.pool.instances] == [
                len(each.running) for each in services.values()
            ]
        tasks.cancel_scope.cancel()
