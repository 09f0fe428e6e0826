"""News of resources for downstreams that take them slowly or not at all (proxy/gateway/subscriptions.py)."""

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from proxy.gateway import subscriptions
from proxy.gateway.subscriptions import MAX_DUE, UPDATED, Subscription, Subscriptions
from proxy.model import Caller, Params
from proxy.router import Request
from tests.support.clock import settle
from tests.support.running import PATIENCE, Running, running

PEER = Path(__file__).parents[1] / "policy" / "subscribing_peer.py"
ONE = "file:///one"


class Downstream:
    """Takes news when it is told to."""

    def __init__(self, *, taking: bool = True) -> None:
        self.told: list[str] = []
        self.takes = anyio.Event()
        self.trying = anyio.Event()
        if taking:
            self.takes.set()

    async def __call__(self, method: str, params: Params | None, /) -> None:
        assert method == UPDATED
        self.trying.set()
        await self.takes.wait()
        self.told.append(str((params or {})["uri"]))


class Site:
    def __init__(self, one: Running, subscriptions: Subscriptions) -> None:
        self.one = one
        self.subscriptions = subscriptions

    async def subscribe(self, uri: str, downstream: Downstream) -> Subscription:
        request = Request("resources/subscribe", {"uri": f"a+{uri}"}, Caller())
        return await self.subscriptions.make(request, downstream)

    async def touch(self, uri: str, times: int = 1) -> None:
        """Have the upstream say so many times that a resource was updated."""
        for _ in range(times):
            await self.one.call("mcp_a_touch", uri=uri)  # on a pipe the news come before the answer


@asynccontextmanager
async def site() -> AsyncIterator[Site]:
    peer: dict[str, Any] = {"command": sys.executable, "args": [str(PEER)]}
    with anyio.fail_after(PATIENCE):
        async with running({"a": peer}) as one, anyio.create_task_group() as tasks:
            made = Subscriptions(one.runtime)
            made.open(tasks)
            await one.offers("mcp_a_touch")
            yield Site(one, made)
            tasks.cancel_scope.cancel()


async def test_each_update_is_told_to_a_downstream_that_takes_it() -> None:
    downstream = Downstream()
    async with site() as at:
        await at.subscribe(ONE, downstream)
        for _ in range(3):
            await at.touch(ONE)
            await settle()
    assert downstream.told == [f"a+{ONE}"] * 3


async def test_updates_of_one_resource_replace_each_other_while_the_downstream_is_slow() -> None:
    slow, quick = Downstream(taking=False), Downstream()
    async with site() as at:
        await at.subscribe(ONE, slow)
        await at.subscribe(ONE, quick)
        await at.touch(ONE, 50)
        await slow.trying.wait()
        await settle()
        assert slow.told == []
        assert len(quick.told) > 1  # nobody waits for the other
        slow.takes.set()
        await settle()
        assert slow.told == [f"a+{ONE}"] * 2  # the one that it was being told, and one for all that came after
        await at.touch(ONE)
        await settle()
        assert slow.told == [f"a+{ONE}"] * 3


async def test_a_slow_downstream_is_due_news_of_a_bounded_number_of_resources() -> None:
    slow = Downstream(taking=False)
    async with site() as at:
        await at.subscribe("file:///dir", slow)
        await at.touch("file:///dir/first")
        await slow.trying.wait()
        with capture_logs() as logs:
            for number in range(MAX_DUE + 20):
                await at.touch(f"file:///dir/{number}")
            slow.takes.set()
            await settle()
            await at.touch("file:///dir/last")
            while slow.told[-1:] != ["a+file:///dir/last"]:
                await settle()
    assert slow.told == [f"a+file:///dir/{name}" for name in ("first", *range(MAX_DUE), "last")]
    assert [each["count"] for each in logs if each["event"] == "downstream.updates.dropped"] == [20]


async def test_a_downstream_that_takes_nothing_is_given_up_and_told_of_later_news(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(subscriptions, "PATIENCE", 0.01)
    stuck = Downstream(taking=False)
    async with site() as at:
        await at.subscribe(ONE, stuck)
        with capture_logs() as logs:
            await at.touch(ONE, 2)
            while not any(each["event"] == "downstream.updates.dropped" for each in logs):
                await settle()
        stuck.takes.set()
        await at.touch(ONE)
        while not stuck.told:
            await settle()
    assert stuck.told == [f"a+{ONE}"]


async def test_what_was_due_is_not_told_any_more_after_unsubscribing() -> None:
    slow = Downstream(taking=False)
    async with site() as at:
        subscription = await at.subscribe(ONE, slow)
        await at.touch(ONE)
        await slow.trying.wait()
        await at.touch(ONE)
        await at.subscriptions.remove(subscription)
        slow.takes.set()
        await settle()
        assert len(at.subscriptions) == 0
    assert slow.told == [f"a+{ONE}"]
