"""Many calls, many upstreams, many agents in one process."""

import gc
import json
from collections import Counter, defaultdict
from contextlib import AsyncExitStack
from typing import Any

import anyio
import psutil
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from proxy import Manifold, ToolCall
from proxy.errors import UnknownTarget
from tests.support.store_peer import Peer, serving

UPSTREAMS = 20
AGENTS = 50
CALLS = 1000
GROWTH = 24 * 1024 * 1024
"""Bytes that the process may grow between one thousand calls and the second next; a leak of all results is far more."""


def peers(count: int, *tools: str) -> tuple[Peer, ...]:
    return tuple(Peer(f"p{number}").define(*tools) for number in range(count))


async def test_a_thousand_calls_at_once_over_twenty_upstreams_come_back_in_order_and_leave_nothing_behind() -> None:
    every = peers(UPSTREAMS, "echo")
    calls = [ToolCall(f"p{i % UPSTREAMS}.echo", {"n": i, "ballast": "x" * 2000}, str(i)) for i in range(CALLS)]
    async with serving(*every), Manifold({"mcpServers": {peer.name: peer.entry() for peer in every}}) as manifold:
        store = manifold.for_store()
        assert len(await store.list_tools()) == UPSTREAMS
        sizes: list[int] = []
        for _ in range(3):
            with anyio.fail_after(50):
                results = await store.batch_call(calls, max_concurrent=CALLS)
            assert [result.id for result in results] == [str(i) for i in range(CALLS)]
            assert [result.data["arguments"]["n"] for result in results] == list(range(CALLS))
            assert all(result.data["server"] == f"p{i % UPSTREAMS}" for i, result in enumerate(results))
            for peer in every:
                peer.calls.clear()
                peer.sessions.clear()
            del results
            gc.collect()
            sizes.append(psutil.Process().memory_info().rss)
        assert sizes[-1] - sizes[0] < GROWTH
        assert store.tool_metrics()["p0.echo"].successes == 3 * CALLS // UPSTREAMS
        assert all(status.sessions == 1 for status in manifold.statuses().values())


async def test_a_slow_upstream_holds_up_nobody_else() -> None:
    every = peers(3, "echo")
    slow = every[0]

    async def hold(_arguments: Any) -> Any:
        await anyio.sleep_forever()

    slow.tools["echo"] = hold
    async with serving(*every), Manifold({"mcpServers": {peer.name: peer.entry() for peer in every}}) as manifold:
        store = manifold.for_store()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(store.batch_call, ["p0.echo"] * 200)
            with anyio.fail_after(20):
                assert all(await store.batch_call(["p1.echo", "p2.echo"] * 50, max_concurrent=20))
            tasks.cancel_scope.cancel()


SERVERS = 6
NAMES = [f"agent{number}" for number in range(AGENTS)]
VIEWS = st.lists(
    st.tuples(
        st.sets(st.integers(0, SERVERS - 1), max_size=SERVERS).map(sorted),
        st.sampled_from([[], ["write"], ["*"], ["r*"]]),
    ),
    min_size=AGENTS,
    max_size=AGENTS,
)


@settings(max_examples=8, deadline=None, suppress_health_check=list(HealthCheck), phases=[Phase.generate])
@given(VIEWS)
async def test_fifty_agents_see_and_reach_only_what_is_theirs(views: list[tuple[list[int], list[str]]]) -> None:
    every = peers(SERVERS, "read", "write")
    agents = {
        name: {"servers": [f"p{number}" for number in visible], "tools": {"deny": deny}, "names": "prefixed"}
        for name, (visible, deny) in zip(NAMES, views, strict=True)
    }
    async with AsyncExitStack() as stack:
        await stack.enter_async_context(serving(*every))
        servers = {peer.name: peer.entry(session="agent") for peer in every}
        manifold = await stack.enter_async_context(Manifold({"mcpServers": servers, "agents": agents}))
        private = {name: Peer(f"own-{name}").define("mine") for name in NAMES[::5]}
        await stack.enter_async_context(serving(*private.values()))
        for name, peer in private.items():
            await manifold.for_agent(name).register("own", peer.entry())
        allowed = {name: _allowed(visible, deny) for name, (visible, deny) in zip(NAMES, views, strict=True)}
        with anyio.fail_after(50):
            async with anyio.create_task_group() as tasks:
                for name in NAMES:
                    tasks.start_soon(_live, manifold, name, allowed[name])
        _check_calls(every, allowed)
        for name, peer in private.items():
            assert [call["arguments"] for call in peer.calls] == (
                [{"who": name}] if allowed_own(manifold, name) else []
            )
        for name in NAMES:
            context = manifold.for_agent(name)
            own = {f"{name}.own.mine"} if name in private and allowed_own(manifold, name) else set()
            assert set(context.tool_metrics()) == allowed[name] | own
            assert (await context.storage.get("who")) == {"name": name}
        assert sum(one.calls for one in manifold.for_store().tool_metrics().values()) == sum(map(len, allowed.values()))


def _allowed(visible: list[int], deny: list[str]) -> set[str]:
    denied = {"write"} if deny == ["write"] else {"read", "write"} if deny == ["*"] else {"read"} if deny else set()
    return {f"p{number}.{tool}" for number in visible for tool in ("read", "write") if tool not in denied}


def allowed_own(manifold: Manifold, name: str) -> bool:
    """Whether the agent's filter lets the tool of its own server pass: it holds for that one, too."""
    return manifold.runtime.config.agents[name].tools.deny != ("*",)


async def _live(manifold: Manifold, name: str, allowed: set[str]) -> None:
    """What one agent does, while all the others do the same."""
    context = manifold.for_agent(name)
    await context.storage.put("who", {"name": name})
    own = {"own.mine"} if context.is_registered("own") and allowed_own(manifold, name) else set()
    assert {f"{tool.server}.{tool.own_name}" for tool in await context.list_tools()} == allowed | own
    mine = await context.call_tool("own.mine", who=name, errors="result")
    if own:
        assert mine.data == {"server": f"own-{name}", "tool": "mine", "arguments": {"who": name}}
    else:
        assert isinstance(mine.error, UnknownTarget)
    every = [f"p{number}.{tool}" for number in range(SERVERS) for tool in ("read", "write")]
    results = await context.batch_call([(tool, {"who": name}) for tool in every], max_concurrent=4)
    for tool, result in zip(every, results, strict=True):
        if tool in allowed:
            assert json.loads(result.text)["arguments"] == {"who": name}
        else:
            assert isinstance(result.error, UnknownTarget)
            hidden = set(every) - allowed
            assert not any(other.replace(".", "_") in (result.error.hint or "") for other in hidden - {tool})


def _check_calls(every: tuple[Peer, ...], allowed: dict[str, set[str]]) -> None:
    """No call reached an upstream that is not its agent's, and no two agents shared a session."""
    for peer in every:
        circles: defaultdict[str, set[str]] = defaultdict(set)
        made: Counter[str] = Counter()
        for session, params in peer.sessions:
            who = params["arguments"]["who"]
            assert f"{peer.name}.{params['name']}" in allowed[who]
            circles[session].add(who)
            made[who] += 1
        assert all(len(agents) == 1 for agents in circles.values())
        assert all(count <= 2 for count in made.values())
