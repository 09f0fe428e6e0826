"""Figures that a reload changes hold for the session that is running (``refresh``, ``health``, ``idle_timeout``)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
import pytest

from proxy.config.model import UpstreamConfig
from proxy.errors import UpstreamError
from proxy.model import Call, Listing, Reply, UpstreamState
from proxy.upstream.standing import Hooks
from proxy.upstream.supervisor import Means
from proxy.upstream.upstream import Upstream
from tests.support.clock import ManualClock, settle
from tests.support.lives import Server

COMMAND: Final = "never-run"
CALM: Final = {"refresh": 1800, "health": 0, "idle_timeout": None}


class Site:
    """An upstream that is connected to a server of the test's, on a clock of the test's."""

    def __init__(self) -> None:
        self.clock = ManualClock()
        self.server = Server(self.clock)
        self.listings = 0
        hooks = Hooks(listing=self._listed)
        config = UpstreamConfig.model_validate({"command": COMMAND, **CALM})
        self.upstream = Upstream("a", config, hooks=hooks, clock=self.clock, means=Means(self.server.connect))

    def _listed(self, _name: str, _listing: Listing) -> None:
        self.listings += 1

    @property
    def pings(self) -> int:
        assert self.server.link is not None
        return self.server.link.asked.count("ping")

    def state(self) -> UpstreamState:
        return self.upstream.state

    async def retune(self, **figures: Any) -> None:
        self.upstream.config = UpstreamConfig.model_validate({"command": COMMAND, **CALM, **figures})
        await settle()


@asynccontextmanager
async def site() -> AsyncIterator[Site]:
    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            at = Site()
            tasks.start_soon(at.upstream.run)
            await settle()
            assert at.upstream.is_live
            yield at
            assert len(at.server.lives) == 1, "it took another session"
            tasks.cancel_scope.cancel()


async def test_a_shorter_refresh_counts_from_the_last_listing() -> None:
    async with site() as at:
        await at.clock.advance(50)
        await at.retune(refresh=60)
        assert at.listings == 1
        await at.clock.advance(10)
        assert at.listings == 2
        await at.clock.advance(61)
        assert at.listings == 3


async def test_a_refresh_that_would_have_been_due_already_is_made_at_once() -> None:
    async with site() as at:
        await at.clock.advance(50)
        await at.retune(refresh=30)
        assert at.listings == 2


async def test_a_longer_refresh_is_waited_for() -> None:
    async with site() as at:
        await at.retune(refresh=10)
        await at.clock.advance(5)
        await at.retune(refresh=100)
        await at.clock.advance(94)
        assert at.listings == 1
        await at.clock.advance(1)
        assert at.listings == 2


async def test_signs_of_life_begin_and_end_with_the_figure() -> None:
    async with site() as at:
        await at.clock.advance(100)
        assert at.pings == 0
        await at.retune(health=30)
        assert at.pings == 1  # the last sign of life is older than that
        await at.clock.advance(30)
        assert at.pings == 2
        await at.retune(health=10)
        await at.clock.advance(10)
        assert at.pings == 3
        await at.retune(health=0)
        await at.clock.advance(1000)
        assert at.pings == 3


async def test_an_upstream_is_stopped_by_the_idle_time_that_holds_now() -> None:
    async with site() as at:
        await at.clock.advance(50)
        await at.retune(idle_timeout=60)
        await at.clock.advance(9)
        assert at.state() is UpstreamState.READY
        await at.clock.advance(1)
        assert at.state() is UpstreamState.IDLE
        assert at.server.children == 0


@pytest.mark.parametrize("later", [None, 100])
async def test_a_longer_idle_time_keeps_it(later: int | None) -> None:
    async with site() as at:
        await at.retune(idle_timeout=20)
        await at.clock.advance(15)
        await at.retune(idle_timeout=later)
        await at.clock.advance(84)
        assert at.state() is UpstreamState.READY
        await at.clock.advance(1)
        assert at.upstream.is_live is (later is None)


async def test_a_reload_of_an_upstream_that_is_connected_spares_no_later_loss_its_wait() -> None:
    at = Site()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(at.upstream.run)
        for _ in range(2):
            await settle()
            at.upstream.start()  # as a reload does
            assert at.server.link is not None
            at.server.link.die("crashed")
            await settle()
        assert [life.ready is not None for life in at.server.lives] == [True, True]
        assert at.state() is UpstreamState.BACKING_OFF
        tasks.cancel_scope.cancel()


async def test_a_server_that_does_one_thing_at_a_time_is_not_restarted_in_the_middle_of_it() -> None:
    async with site() as at, anyio.create_task_group() as tasks:
        await at.retune(health=30, timeout=60)
        link = at.server.link
        assert link is not None
        link.one_at_a_time = True
        replies: list[Reply] = []

        async def call() -> None:
            replies.append(await at.upstream.request(Call("a", "tools/call", {"name": "long"})))

        tasks.start_soon(call)
        await settle()
        await at.clock.advance(30 + 55)
        assert at.pings == 1
        assert at.upstream.is_live
        link.answer()
        await settle()
        assert len(replies) == 1
        await at.clock.advance(29)
        assert at.upstream.is_live


@pytest.mark.parametrize(("works", "patience"), [(False, 10), (True, 70)])
async def test_a_server_without_a_sign_of_life_is_restarted_when_no_call_could_take_so_long(
    works: bool, patience: int
) -> None:
    at = Site()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(at.upstream.run)
        await settle()
        await at.retune(health=30, timeout=60)
        assert at.server.link is not None
        at.server.link.one_at_a_time = True

        async def call() -> None:
            with pytest.raises(UpstreamError):
                await at.upstream.request(Call("a", "tools/call", {"name": "hangs"}))

        if works:
            tasks.start_soon(call)
            await settle()
        await at.clock.advance(30 + patience - 1)
        assert len(at.server.lives) == 1
        await at.clock.advance(1)
        assert len(at.server.lives) == 2
        tasks.cancel_scope.cancel()
