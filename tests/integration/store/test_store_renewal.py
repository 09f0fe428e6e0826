"""The automatic refresh, by a clock that the test moves."""

from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from proxy import Manifold
from tests.support.clock import ManualClock
from tests.support.store_peer import Peer, serving

TWO_HOURS = 7200.0


def config(a: Peer, b: Peer, **more: Any) -> dict[str, Any]:
    return {"mcpServers": {"a": a.entry(**more), "b": b.entry()}}


async def waiting(clock: ManualClock) -> None:
    with anyio.fail_after(20):
        while not clock.armed:
            await checkpoint()


async def listed(peer: Peer, times: int) -> None:
    with anyio.fail_after(20):
        while peer.listed < times:
            await checkpoint()


async def shown(manifold: Manifold, *names: str) -> None:
    with anyio.fail_after(20):
        while [tool.own_name for tool in await manifold.for_store().list_tools(wait=False)] != list(names):
            await checkpoint()


async def test_every_two_hours_everything_is_listed_anew() -> None:
    clock = ManualClock()
    a, b = Peer("a").define("one"), Peer("b").define("two")
    async with serving(a, b), Manifold(config(a, b), clock=clock) as manifold:
        await manifold.connect()
        a.define("new")
        await clock.advance(TWO_HOURS - 1)
        assert (a.listed, b.listed) == (1, 1)
        await clock.advance(1)
        await shown(manifold, "one", "new", "two")
        a.define("newer")
        await listed(b, 2)
        await waiting(clock)
        await clock.advance(TWO_HOURS)
        await shown(manifold, "one", "new", "newer", "two")


async def test_what_cannot_be_reached_keeps_its_tools_and_the_next_refresh_comes() -> None:
    clock = ManualClock()
    a, b = Peer("a").define("one"), Peer("b").define("two")
    async with serving(a, b), Manifold(config(a, b), clock=clock, refresh_every=60) as manifold:
        await manifold.connect()
        a.down = True
        b.define("new")
        await clock.advance(60)
        await shown(manifold, "one", "two", "new")
        a.down = False
        b.define("newer")
        await waiting(clock)
        await clock.advance(60)
        await shown(manifold, "one", "two", "new", "newer")


async def test_what_is_not_connected_is_not_started_for_a_refresh() -> None:
    clock = ManualClock()
    a, b = Peer("a").define("one"), Peer("b").define("two")
    async with serving(a, b), Manifold(config(a, b, lazy=True), clock=clock) as manifold:
        await manifold.connect("b")
        await clock.advance(TWO_HOURS)
        await listed(b, 2)
        assert a.listed == 0


async def test_no_refresh_is_made_where_none_is_wanted() -> None:
    clock = ManualClock()
    async with Manifold(clock=clock, refresh_every=0):
        assert clock.armed == 0
    async with Manifold(clock=clock):
        await clock.advance(0)
        assert clock.armed == 1
    with pytest.raises(ValueError, match="refresh_every"):
        Manifold(refresh_every=-1)
