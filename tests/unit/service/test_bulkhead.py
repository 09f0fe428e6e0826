"""The bulkhead (proxy/service/bulkhead.py)."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import anyio
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from proxy.errors import Lost, QueueFull
from proxy.model import Sent
from proxy.service.bulkhead import Bulkhead, BulkheadPolicy
from tests.support.clock import ManualClock, settle
from tests.support.services import OK, Held, Running, Scripted, make_call


async def test_so_many_calls_run_at_once_and_the_others_wait_their_turn() -> None:
    upstream = Held()
    bulkhead = Bulkhead(BulkheadPolicy(limit=2, queue=10))
    service = bulkhead(upstream)

    async with anyio.create_task_group() as tasks:
        calls = [Running(tasks, service, make_call(f"t{number}")) for number in range(4)]
        await settle()
        assert [call.target for call in upstream.calls] == ["t0", "t1"]
        assert (bulkhead.running, bulkhead.waiting) == (2, 2)
        upstream.answer(1)
        await settle()
        assert [call.target for call in upstream.calls] == ["t0", "t1", "t2"]
        for number in (0, 2):
            upstream.answer(number)
        await settle()
        upstream.answer(3)

    assert all(call.reply is OK for call in calls)
    assert (bulkhead.running, bulkhead.waiting) == (0, 0)


async def test_a_full_queue_refuses_at_once_and_sends_nothing() -> None:
    upstream = Held()
    service = Bulkhead(BulkheadPolicy(limit=1, queue=1))(upstream)

    async with anyio.create_task_group() as tasks:
        Running(tasks, service)
        Running(tasks, service)
        await settle()
        with pytest.raises(QueueFull) as caught:
            await service(make_call())
        tasks.cancel_scope.cancel()

    assert caught.value.sent is Sent.NO
    assert caught.value.upstream == "up"
    assert len(upstream.calls) == 1


async def test_a_call_that_waited_too_long_is_refused_and_leaves_the_queue() -> None:
    clock, upstream = ManualClock(), Held()
    bulkhead = Bulkhead(BulkheadPolicy(limit=1, queue=5, wait=10.0), clock=clock)
    service = bulkhead(upstream)

    async with anyio.create_task_group() as tasks:
        first = Running(tasks, service)
        late = Running(tasks, service)
        await clock.advance(5.0)
        patient = Running(tasks, service)
        await clock.advance(5.0)
        assert isinstance(late.error, QueueFull)
        assert bulkhead.waiting == 1
        upstream.answer(0)
        await settle()
        upstream.answer(1)

    assert (first.reply, patient.reply) == (OK, OK)


async def test_a_call_that_fails_frees_its_slot() -> None:
    bulkhead = Bulkhead(BulkheadPolicy(limit=1, queue=0))
    service = bulkhead(Scripted(Lost("gone"), OK))

    with pytest.raises(Lost):
        await service(make_call())

    assert await service(make_call()) is OK


async def test_a_cancelled_call_frees_its_slot_at_once() -> None:
    upstream = Held()
    service = Bulkhead(BulkheadPolicy(limit=1, queue=1))(upstream)

    async with anyio.create_task_group() as tasks:
        first, second = Running(tasks, service), Running(tasks, service)
        await settle()
        first.cancel()
        await settle()
        assert upstream.running == [1]
        upstream.answer(1)

    assert second.reply is OK


async def test_a_waiter_that_is_cancelled_as_it_gets_its_slot_passes_it_on() -> None:
    upstream = Held()
    bulkhead = Bulkhead(BulkheadPolicy(limit=1, queue=5))
    service = bulkhead(upstream)

    async with anyio.create_task_group() as tasks:
        Running(tasks, service, make_call("first"))
        await settle()
        second = asyncio.ensure_future(service(make_call("second")))
        await settle()
        third = Running(tasks, service, make_call("third"))
        await settle()
        upstream.answer(0)
        # Runs after the first call has handed its slot over and before the second has noticed.
        asyncio.get_running_loop().call_soon(second.cancel)
        await settle()
        assert second.cancelled()
        assert [call.target for call in upstream.calls] == ["first", "third"]
        upstream.answer(1)

    assert third.reply is OK
    assert bulkhead.running == 0


async def test_more_slots_are_handed_out_at_once_and_fewer_as_calls_end() -> None:
    upstream = Held()
    bulkhead = Bulkhead(BulkheadPolicy(limit=1, queue=10))
    service = bulkhead(upstream)

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            Running(tasks, service)
        await settle()
        bulkhead.retune(BulkheadPolicy(limit=3, queue=10))
        await settle()
        assert upstream.running == [0, 1, 2]
        bulkhead.retune(BulkheadPolicy(limit=1, queue=10))
        upstream.answer(0)
        upstream.answer(1)
        await settle()
        assert upstream.running == [2]
        upstream.answer(2)
        await settle()
        assert upstream.running == [3]
        upstream.answer(3)


class BulkheadMachine(RuleBasedStateMachine):
    """Calls come, end, fail, are cancelled, wait too long; limits change; nothing is ever lost or overtaken."""

    @initialize(limit=st.integers(1, 3), queue=st.integers(0, 4))
    def begin(self, limit: int, queue: int) -> None:
        self.loop = asyncio.new_event_loop()
        self.clock = ManualClock()
        self.policy = BulkheadPolicy(limit=limit, queue=queue, wait=10.0)
        self.bulkhead = Bulkhead(self.policy, clock=self.clock)
        self.upstream = Held()
        self.service = self.bulkhead(self.upstream)
        self.tasks: dict[str, asyncio.Task[Any]] = {}
        self.line: list[str] = []
        self.peak = limit

    def step(self, step: Coroutine[Any, Any, Any]) -> None:
        self.loop.run_until_complete(step)
        self.line = [name for name in self.line if not self.tasks[name].done() and name not in self.started()]

    def started(self) -> list[str]:
        return [call.target for call in self.upstream.calls]

    @rule()
    def arrive(self) -> None:
        name = f"t{len(self.tasks)}"
        full = self.bulkhead.running >= self.policy.limit and self.bulkhead.waiting >= self.policy.queue
        self.tasks[name] = self.loop.create_task(self.service(make_call(name)))
        self.step(settle())
        task = self.tasks[name]
        assert full == (task.done() and isinstance(task.exception(), QueueFull))
        if not task.done() and name not in self.started():
            self.line.append(name)

    def moved_up(self, before: list[str], gone: list[str]) -> None:
        """Whoever got a slot in this step is the head of the line as it was."""
        rest = [name for name in before if name not in gone]
        moved = [name for name in self.started() if name in rest]
        assert moved == rest[: len(moved)]

    @precondition(lambda self: self.upstream.running)
    @rule(data=st.data(), failing=st.booleans())
    def end(self, data: st.DataObject, failing: bool) -> None:
        number = data.draw(st.sampled_from(self.upstream.running))
        before = list(self.line)
        if failing:
            self.upstream.fail(number, Lost("gone"))
        else:
            self.upstream.answer(number)
        self.step(settle())
        self.moved_up(before, [])

    @precondition(lambda self: any(not task.done() for task in self.tasks.values()))
    @rule(data=st.data(), ending=st.booleans())
    def cancel(self, data: st.DataObject, ending: bool) -> None:
        name = data.draw(st.sampled_from([name for name, task in self.tasks.items() if not task.done()]))
        before = list(self.line)
        if ending and self.upstream.running:
            self.upstream.answer(self.upstream.running[0])
        # One turn later than the answer: whoever got the slot that became free does not know of it yet.
        self.loop.call_soon(self.tasks[name].cancel)
        self.step(settle())
        assert self.tasks[name].done()
        self.moved_up(before, [name])

    @rule(seconds=st.floats(0.0, 8.0))
    def wait(self, seconds: float) -> None:
        self.step(self.clock.advance(seconds))

    @rule(limit=st.integers(1, 4), queue=st.integers(0, 4))
    def retune(self, limit: int, queue: int) -> None:
        before = list(self.line)
        self.policy = BulkheadPolicy(limit=limit, queue=queue, wait=10.0)
        self.peak = max(limit, self.bulkhead.running)
        self.bulkhead.retune(self.policy)
        self.step(settle())
        self.moved_up(before, [])

    @invariant()
    def every_slot_has_its_call(self) -> None:
        if not hasattr(self, "loop"):
            return
        assert self.bulkhead.running == len(self.upstream.running) <= self.peak
        assert self.bulkhead.waiting == len(self.line)
        assert not (self.line and self.bulkhead.running < self.policy.limit), "a slot is free and somebody waits"
        self.peak = max(self.policy.limit, self.bulkhead.running)

    def teardown(self) -> None:
        if not hasattr(self, "loop"):
            return
        for task in self.tasks.values():
            task.cancel()
        self.step(settle())
        assert (self.bulkhead.running, self.bulkhead.waiting) == (0, 0)
        self.loop.close()


TestBulkhead = BulkheadMachine.TestCase
TestBulkhead.settings = settings(max_examples=60, stateful_step_count=25, deadline=None)
