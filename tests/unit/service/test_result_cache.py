"""The result cache (proxy/service/cache.py) and what makes two calls the same (proxy/service/keys.py)."""

from typing import Any

import anyio
import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from msgspec.structs import replace

from proxy.errors import Lost, Rejected
from proxy.model import Call, Caller, Era, Principal, Reply
from proxy.service.cache import Cache, CachePolicy, ReplyStore
from proxy.service.keys import by_agent, by_session, key_of
from tests.support.clock import ManualClock, settle
from tests.support.services import INPUT_REQUIRED, OK, TOOL_ERROR, Ear, Held, Running, Scripted, make_call


def reads(call: Call) -> bool:
    return call.target.startswith("read")


READ = make_call("read_file", safe=True)
WRITE = make_call("write_file")


async def test_a_repeated_read_is_answered_from_memory() -> None:
    upstream = Scripted(Reply(b'{"n":1}'), Reply(b'{"n":2}'))
    cache = Cache(reads=reads)
    service = cache(upstream)

    assert [(await service(READ)).result for _ in range(3)] == [{"n": 1}] * 3
    assert len(upstream.calls) == 1
    stats = cache.stats()
    assert (stats.hits, stats.misses, stats.entries, stats.bytes) == (2, 1, 1, len(b'{"n":1}'))


async def test_what_one_caller_does_to_a_result_no_other_sees() -> None:
    service = Cache(reads=reads)(Scripted(Reply.of({"list": []})))
    (await service(READ)).result["list"].append("mine")

    second = (await service(READ)).result
    second["list"].append("mine too")

    assert (await service(READ)).result == {"list": []}


async def test_results_are_forgotten_after_their_time() -> None:
    clock, upstream = ManualClock(), Scripted()
    service = Cache(CachePolicy(ttl=60.0), reads=reads, clock=clock)(upstream)
    await service(READ)
    await clock.advance(59.9)
    await service(READ)
    assert len(upstream.calls) == 1

    await clock.advance(0.1)
    await service(READ)

    assert len(upstream.calls) == 2


@pytest.mark.parametrize("step", [TOOL_ERROR, INPUT_REQUIRED])
async def test_errors_of_tools_and_questions_are_not_remembered(step: Reply) -> None:
    upstream = Scripted(step)
    service = Cache(reads=reads)(upstream)
    for _ in range(2):
        assert await service(READ) is step
    assert len(upstream.calls) == 2


async def test_failures_are_not_remembered() -> None:
    service = Cache(reads=reads)(Scripted(Lost("died"), Rejected(1, "no"), OK))
    for error in (Lost, Rejected):
        with pytest.raises(error):
            await service(READ)
    assert await service(READ) is OK


@pytest.mark.parametrize(
    "call",
    [
        make_call("other_tool", safe=True),
        make_call("read_file", safe=True, back=Ear("wants-progress")),
        make_call("read_file", safe=True, session=None),
    ],
    ids=["not a read", "wants progress", "nobody to share with"],
)
async def test_what_is_not_eligible_goes_to_the_upstream_each_time(call: Call) -> None:
    upstream = Scripted()
    service = Cache(reads=reads)(upstream)
    for _ in range(2):
        await service(call)
    assert len(upstream.calls) == 2


async def test_a_result_that_depends_on_an_answer_of_the_downstream_is_not_remembered() -> None:
    asked: list[str] = []

    async def upstream(call: Call, /) -> Reply:
        assert call.back is not None
        asked.append(await call.back.ask("elicitation/create", None))
        return OK

    service = Cache(reads=reads)(upstream)
    for answer in ("yes", "no"):
        await service(make_call("read_file", safe=True, back=Ear(answers=[answer])))

    assert asked == ["yes", "no"]


@pytest.mark.parametrize("step", [OK, Lost("may have run")])
async def test_a_write_makes_everything_stale(step: Reply | Exception) -> None:
    upstream = Scripted(OK, step, OK)
    service = Cache(reads=reads)(upstream)
    await service(READ)
    async with anyio.create_task_group() as tasks:
        Running(tasks, service, WRITE)

    await service(READ)

    assert len(upstream.calls) == 3


async def test_a_read_that_was_under_way_during_a_write_is_not_remembered() -> None:
    upstream = Held()
    service = Cache(reads=reads)(upstream)
    async with anyio.create_task_group() as tasks:
        Running(tasks, service, READ)
        Running(tasks, service, WRITE)
        await settle()
        upstream.answer(1)
        await settle()
        upstream.answer(0)
        await settle()
        again = Running(tasks, service, READ)
        await settle()
        assert not again.done
        upstream.answer(2)


async def test_clearing_forgets_what_is_under_way_too() -> None:
    cache, upstream = Cache(reads=reads), Held()
    async with anyio.create_task_group() as tasks:
        Running(tasks, cache(upstream), READ)
        await settle()
        cache.clear()
        upstream.answer(0)

    assert cache.stats().entries == 0


async def test_retuning_keeps_what_still_fits() -> None:
    cache, upstream = Cache(reads=reads), Scripted()
    service = cache(upstream)
    for number in range(3):
        await service(make_call(f"read_{number}", safe=True))

    cache.retune(CachePolicy(max_entries=1))

    await service(make_call("read_2", safe=True))
    assert (cache.stats().entries, cache.stats().evictions) == (1, 2)
    assert len(upstream.calls) == 3


def keyed(**changes: Any) -> object:
    base = Call("up", "tools/call", {"name": "t", "arguments": {"a": 1, "b": [1, 2]}}, "t", Caller(session="s"))
    return key_of(replace(base, **changes), by_session)


def test_the_order_of_arguments_and_personal_metadata_make_no_difference() -> None:
    assert keyed() == keyed(params={"arguments": {"b": [1, 2], "a": 1}, "name": "t"})
    assert keyed() == keyed(
        params={
            "name": "t",
            "arguments": {"a": 1, "b": [1, 2]},
            "_meta": {"progressToken": 5, "traceparent": "00-1-2-01"},
        }
    )


@pytest.mark.parametrize(
    "changes",
    [
        {"upstream": "other"},
        {"method": "resources/read"},
        {"params": {"name": "t", "arguments": {"a": 2, "b": [1, 2]}}},
        {"params": {"name": "t", "arguments": {"a": 1, "b": [2, 1]}}},
        {"params": {"name": "t", "arguments": {"a": 1, "b": [1, 2]}, "_meta": {"com.example/tenant": "x"}}},
        {"params": None},
        {"headers": {"Mcp-Param-Region": "eu"}},
        {"caller": Caller(session="other")},
        {"caller": Caller(session="s", agent="coder")},
        {"caller": Caller(session="s", principal=Principal("token:1"))},
        {"caller": Caller(session="s", era=Era.MODERN)},
        {"caller": Caller(session="s", capabilities={"elicitation": {}})},
    ],
    ids=str,
)
def test_whatever_may_change_the_result_makes_a_difference(changes: dict[str, Any]) -> None:
    assert keyed() != keyed(**changes)


def test_whom_a_result_is_shared_with_can_be_chosen() -> None:
    mine, yours = make_call(session="mine"), make_call(session="yours")

    assert key_of(mine, by_session) != key_of(yours, by_session)
    assert key_of(mine, by_agent) == key_of(yours, by_agent)
    assert key_of(make_call(session=None), by_session) is None


def test_a_result_is_shared_with_nobody_who_showed_another_credential() -> None:
    callers = [
        Caller(principal=Principal(f"token:{number}"), agent=agent) for number in (1, 2) for agent in (None, "a")
    ]
    assert len({by_agent(replace(make_call(), caller=caller)) for caller in (*callers, Caller())}) == 5


class StoreMachine(RuleBasedStateMachine):
    """The store against a plain dict: nothing wrong, nothing stale, never too much."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.policy = CachePolicy(ttl=10.0, max_entries=4, max_bytes=80)
        self.store = ReplyStore(self.policy)
        self.model: dict[int, tuple[bytes, float]] = {}

    @rule(key=st.integers(0, 6), size=st.integers(0, 12))
    def put(self, key: int, size: int) -> None:
        raw = bytes(size)
        self.store.put((key,), Reply(raw), self.now)
        self.model[key] = (raw, self.now + self.policy.ttl)
        assert (self.store.get((key,), self.now) is None) == (size > self.policy.max_bytes // 8)

    @rule(key=st.integers(0, 6))
    def get(self, key: int) -> None:
        reply = self.store.get((key,), self.now)
        if reply is not None:
            expected, until = self.model[key]
            assert reply.raw == expected
            assert self.now < until

    @rule(seconds=st.floats(0.0, 6.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @rule()
    def clear(self) -> None:
        self.store.clear()
        self.model.clear()

    @rule(entries=st.integers(1, 6), size=st.integers(8, 120))
    def retune(self, entries: int, size: int) -> None:
        self.policy = CachePolicy(ttl=10.0, max_entries=entries, max_bytes=size)
        self.store.policy = self.policy
        self.store.trim()

    @invariant()
    def never_too_much(self) -> None:
        assert len(self.store) <= self.policy.max_entries
        assert (
            self.store.size == sum(len(each.raw) for each, _ in self.store._entries.values()) <= self.policy.max_bytes
        )


TestStore = StoreMachine.TestCase


def test_the_least_recently_used_goes_first() -> None:
    store = ReplyStore(CachePolicy(max_entries=2))
    store.put(("a",), OK, 0.0)
    store.put(("b",), OK, 0.0)
    store.get(("a",), 0.0)
    store.put(("c",), OK, 0.0)

    assert [store.get((key,), 0.0) is not None for key in "abc"] == [True, False, True]


async def test_a_remembered_result_keeps_the_era_of_its_upstream() -> None:
    service = Cache(reads=reads)(Scripted(Reply(b"{}", era=Era.MODERN)))
    assert [(await service(READ)).era for _ in range(2)] == [Era.MODERN, Era.MODERN]
