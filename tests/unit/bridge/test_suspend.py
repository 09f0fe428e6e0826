"""Parked calls: who may resume them, how long they wait, how many there are, and what ends them."""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from proxy.bridge.suspend import MAX_EACH, TTL, Asked, Claim, Suspender
from proxy.errors import METHOD_NOT_FOUND, QueueFull, Rejected
from proxy.model import Backchannel, Params, Reply
from tests.support.bridge import Downstream
from tests.support.clock import ManualClock, settle

ME = Claim("me", "digest")
ABLE: Params = {"elicitation": {"form": {}}, "roots": {}, "sampling": {}}
FORM = {"message": "who?", "requestedSchema": {"type": "object", "properties": {"name": {"type": "string"}}}}
ACCEPT = {"action": "accept", "content": {"name": "x"}}


async def asks_once(back: Backchannel) -> Reply:
    """An upstream that asks one question."""
    return Reply.of({"answer": await back.ask("elicitation/create", FORM)})


@asynccontextmanager
async def running(clock: ManualClock) -> AsyncIterator[Suspender]:
    suspender = Suspender(clock)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(suspender.run)
        await settle()
        with anyio.fail_after(5):
            yield suspender
        tasks.cancel_scope.cancel()


async def asked(
    suspender: Suspender, send: Callable[[Backchannel], Awaitable[Reply]] = asks_once, claim: Claim = ME
) -> Asked:
    found = await suspender.start(claim, ABLE, Downstream(), send)
    assert isinstance(found, Asked)
    return found


async def test_a_question_is_parked_and_its_call_goes_on_with_the_answer() -> None:
    async with running(ManualClock()) as suspender:
        first = await asked(suspender)
        assert first.requests == {"user_name": {"method": "elicitation/create", "params": FORM}}
        reply = await suspender.resume(first.handle, ME, {"user_name": ACCEPT}, Downstream())
        assert isinstance(reply, Reply)
        assert reply.result == {"answer": ACCEPT}
        assert len(suspender) == 0


async def test_questions_asked_together_come_in_one_round() -> None:
    async def both(back: Backchannel) -> Reply:
        answers: dict[str, Any] = {}

        async def ask(method: str) -> None:
            answers[method] = await back.ask(method, FORM if method == "elicitation/create" else None)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask, "elicitation/create")
            tasks.start_soon(ask, "roots/list")
        return Reply.of(answers)

    async with running(ManualClock()) as suspender:
        first = await asked(suspender, both)
        assert first.requests.keys() == {"user_name", "client_roots"}
        # One answer is missing: that question alone is asked again.
        again = await suspender.resume(first.handle, ME, {"user_name": ACCEPT}, Downstream())
        assert isinstance(again, Asked)
        assert again.requests.keys() == {"client_roots"}
        reply = await suspender.resume(again.handle, ME, {"client_roots": {"roots": []}}, Downstream())
        assert isinstance(reply, Reply)


async def test_an_answer_of_the_wrong_shape_is_asked_for_again() -> None:
    async with running(ManualClock()) as suspender:
        first = await asked(suspender)
        again = await suspender.resume(first.handle, ME, {"user_name": {"roots": []}, "else": {}}, Downstream())
        assert isinstance(again, Asked)
        assert again.requests == first.requests


@pytest.mark.parametrize("claim", [Claim("you", "digest"), Claim("me", "another request")])
async def test_nobody_else_and_no_other_request_can_resume(claim: Claim) -> None:
    async with running(ManualClock()) as suspender:
        first = await asked(suspender)
        with pytest.raises(Rejected, match="requestState"):
            await suspender.resume(first.handle, claim, {"user_name": ACCEPT}, Downstream())
        assert isinstance(await suspender.resume(first.handle, ME, {"user_name": ACCEPT}, Downstream()), Reply)


async def test_a_call_that_nobody_comes_back_for_is_cancelled_upstream() -> None:
    clock, cancelled = ManualClock(), anyio.Event()

    async def send(back: Backchannel) -> Reply:
        try:
            return await asks_once(back)
        except BaseException:
            cancelled.set()
            raise

    async with running(clock) as suspender:
        first = await asked(suspender, send)
        await clock.advance(TTL - 1)
        assert not cancelled.is_set()
        await clock.advance(2)
        assert cancelled.is_set()
        with pytest.raises(Rejected, match="expired"):
            await suspender.resume(first.handle, ME, {"user_name": ACCEPT}, Downstream())


async def test_parked_calls_of_one_downstream_are_bounded() -> None:
    async with running(ManualClock()) as suspender:
        async with anyio.create_task_group() as tasks:
            for _ in range(MAX_EACH):
                tasks.start_soon(asked, suspender)
        with pytest.raises(QueueFull, match="wait for answers"):
            await asked(suspender)
        await asked(suspender, claim=Claim("you", "digest"))


async def test_a_downstream_that_hangs_up_during_a_round_cancels_the_call() -> None:
    started, cancelled = anyio.Event(), anyio.Event()

    async def send(_back: Backchannel) -> Reply:
        started.set()
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.set()
        raise AssertionError

    async with running(ManualClock()) as suspender:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(suspender.start, ME, ABLE, Downstream(), send)
            await started.wait()
            tasks.cancel_scope.cancel()
        await cancelled.wait()


async def test_a_round_that_is_sent_twice_is_answered_twice() -> None:
    replies: list[Reply | Asked] = []
    go_on = anyio.Event()

    async def send(back: Backchannel) -> Reply:
        reply = await asks_once(back)
        await go_on.wait()
        return reply

    async with running(ManualClock()) as suspender:
        first = await asked(suspender, send)

        async def resume() -> None:
            replies.append(await suspender.resume(first.handle, ME, {"user_name": ACCEPT}, Downstream()))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(resume)
            tasks.start_soon(resume)
            await settle()
            go_on.set()
    assert [type(reply) for reply in replies] == [Reply, Reply]


async def test_a_question_that_the_downstream_never_allowed_is_refused_to_the_upstream() -> None:
    async def send(back: Backchannel) -> Reply:
        with pytest.raises(Rejected) as refused:
            await back.ask("elicitation/create", {"mode": "url", "url": "https://example.com", "message": "go"})
        assert refused.value.jsonrpc == METHOD_NOT_FOUND
        return Reply.of({"went": "on"})

    async with running(ManualClock()) as suspender:
        reply = await suspender.start(ME, ABLE, Downstream(), send)
    assert isinstance(reply, Reply)


async def test_progress_bears_the_token_of_the_round_it_comes_in_and_none_comes_between_rounds() -> None:
    parked, resumed = Downstream(None, "first"), Downstream(None, "second")

    async def send(back: Backchannel) -> Reply:
        await back.notify("notifications/progress", {"progressToken": "first", "progress": 1})
        reply = await asks_once(back)
        await back.notify("notifications/progress", {"progressToken": "first", "progress": 2})
        return reply

    async with running(ManualClock()) as suspender:
        first = await suspender.start(ME, ABLE, parked, send)
        assert isinstance(first, Asked)
        await suspender.resume(first.handle, ME, {"user_name": ACCEPT}, resumed)
    assert [params["progressToken"] for _, params in (*parked.told, *resumed.told)] == ["first", "second"]
