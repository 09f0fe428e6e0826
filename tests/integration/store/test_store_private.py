"""Servers of one agent alone: nobody else sees their tools, state, sessions, figures or names."""

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import anyio
import pytest

from proxy import Manifold
from proxy.errors import ConfigError, UnknownServer, UnknownTarget
from proxy.model import StatusEvent, UpstreamState
from tests.support import scripted
from tests.support.store_peer import Peer, serving

AGENTS = {"a": {"servers": ["shared"]}, "b": {}}


@asynccontextmanager
async def running(*private: Peer) -> AsyncIterator[Manifold]:
    shared = Peer("shared").define("find")
    with anyio.fail_after(30):
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(serving(shared, *private))
            made = Manifold({"mcpServers": {"shared": shared.entry()}, "agents": AGENTS})
            manifold = await stack.enter_async_context(made)
            await manifold.for_store().list_tools()
            yield manifold


async def test_what_an_agent_registers_only_that_agent_sees_and_calls() -> None:
    notes = Peer("notes").define("add", "drop")
    async with running(notes) as manifold:
        a, b, store = manifold.for_agent("a"), manifold.for_agent("b"), manifold.for_store()
        status = await a.register("notes", notes.entry())
        assert (status.name, status.state, status.tools) == ("notes", UpstreamState.READY, 2)
        assert [(tool.server, tool.name) for tool in await a.list_tools()] == [
            ("shared", "find"),
            ("notes", "add"),
            ("notes", "drop"),
        ]
        for name in ("add", "notes.add", "notes_add", "notes/add"):
            assert (await a.call_tool(name)).data["server"] == "notes"
        assert (await a.parse_function_name("notes.add")).server == "notes"
        calls = len(notes.calls)
        for other in (b, store):
            assert [tool.own_name for tool in await other.list_tools()] == ["find"]
            for name in ("add", "notes.add", "a.notes.add", "mcp_a_notes_add", "notes_add"):
                with pytest.raises(UnknownTarget) as caught:
                    await other.call_tool(name)
                assert not any("add" in one for one in caught.value.suggestions)
        assert len(notes.calls) == calls


async def test_two_agents_use_one_name_for_different_servers() -> None:
    mine, yours = Peer("mine").define("read"), Peer("yours").define("read")
    async with running(mine, yours) as manifold:
        a, b = manifold.for_agent("a"), manifold.for_agent("b")
        await a.register("notes", mine.entry())
        await b.register("notes", yours.entry())
        assert (await a.call_tool("notes.read")).data["server"] == "mine"
        assert (await b.call_tool("notes.read")).data["server"] == "yours"
        await b.unregister("notes")
        assert (await a.call_tool("notes.read")).data["server"] == "mine"
        with pytest.raises(UnknownTarget):
            await b.call_tool("notes.read")
        with pytest.raises(ConfigError, match="registered already"):
            await a.register("notes", yours.entry())


async def test_an_agents_own_server_comes_before_a_shared_one_of_the_same_name() -> None:
    own = Peer("own").define("find")
    async with running(own) as manifold:
        a = manifold.for_agent("a")
        await a.register("shared", own.entry())
        assert (await a.call_tool("shared.find")).data["server"] == "own"
        assert (await manifold.for_store().call_tool("shared.find")).data["server"] == "shared"


async def test_nobody_else_can_tell_that_it_is_there() -> None:
    notes = Peer("notes").define("add")
    async with running(notes) as manifold:
        a, b = manifold.for_agent("a"), manifold.for_agent("b")
        await a.register("notes", notes.entry())
        await a.call_tool("notes.add")
        for other in (b, manifold, manifold.for_store()):
            assert not other.is_registered("notes")
            assert "notes" not in "".join(other.statuses())
            for name in ("notes", "a.notes"):
                with pytest.raises(UnknownServer) as caught:
                    other.status(name)
                assert "notes" not in "".join(caught.value.suggestions)
                with pytest.raises(UnknownServer):
                    await other.unregister(name)
                with pytest.raises(UnknownServer):
                    await other.test_connection(name)
        assert list(a.statuses()) == ["notes"]
        assert a.is_registered("notes")
        assert not a.is_registered("shared")
        assert set(a.tool_metrics()) == {"a.notes.add"}
        assert manifold.for_store().tool_metrics() == b.tool_metrics() == {}
        assert (await manifold.refresh()).keys() == {"shared"}


async def test_changes_of_state_are_told_to_its_agent_only() -> None:
    notes = Peer("notes").define("add")
    heard: dict[str, list[tuple[str, str]]] = {"a": [], "b": [], "all": []}

    def hears(who: str) -> Callable[[StatusEvent], None]:
        def tell(event: StatusEvent) -> None:
            heard[who].append((event.upstream, event.new))

        return tell

    async with running(notes) as manifold:
        a, b = manifold.for_agent("a"), manifold.for_agent("b")
        for who, where in (("a", a), ("b", b), ("all", manifold)):
            where.on_status_change(hears(who))
        await a.register("notes", notes.entry())
        await a.disconnect("notes")
        assert (await a.connect("notes"))["notes"].connected
        await a.unregister("notes")
        await manifold.disconnect("shared")
    assert {name for name, _ in heard["a"]} == {"notes"}
    assert ("notes", "ready") in heard["a"]
    assert not heard["b"]
    assert {name for name, _ in heard["all"]} <= {"shared"}


async def test_an_agents_server_is_ensured_disconnected_and_tested_like_any_other() -> None:
    notes = Peer("notes").define("add")
    async with running(notes) as manifold:
        a = manifold.for_agent("a")
        assert await a.ensure_registered("notes", notes.entry())
        assert not await a.ensure_registered("notes", notes.entry())
        assert await a.test_connection("notes")
        await a.disconnect()
        assert [tool.own_name for tool in await a.list_tools()] == ["find"]
        assert manifold.status("shared").connected
        await a.connect()
        assert [tool.own_name for tool in await a.list_tools()] == ["find", "add"]


async def test_an_agent_takes_its_servers_along_when_it_is_removed() -> None:
    async with running() as manifold:
        agent = await manifold.create_agent("new", {"servers": []})
        await agent.register("own", scripted.upstream("own", "one"))
        await agent.call_tool("one")
        await manifold.remove_agent("new")
        assert len(manifold.runtime.registry) == 1
        agent = await manifold.create_agent("new", {"servers": []})
        assert await agent.list_tools() == []


async def test_resources_and_prompts_of_an_agents_own_server_are_its_own() -> None:
    async with running() as manifold:
        a, b = manifold.for_agent("a"), manifold.for_agent("b")
        spec = scripted.upstream("notes", "x", resources=["note:///1"], templates=["note:///{id}"], prompts=["sum"])
        await a.register("notes", spec)
        uri = (await a.list_resources())[0]["uri"]
        prompt = (await a.list_prompts())[0]["name"]
        assert (await a.read_resource(uri))["contents"]
        assert (await a.get_prompt(prompt))["messages"]
        for other in (b, manifold.for_store()):
            assert await other.list_resources() == await other.list_prompts() == []
            assert await other.list_resource_templates() == []
            for wanted in (uri, "note:///1", "note:///7"):
                with pytest.raises(UnknownTarget):
                    await other.read_resource(wanted)
            with pytest.raises(UnknownTarget):
                await other.get_prompt(prompt)


async def test_a_file_may_give_a_server_to_one_agent() -> None:
    config = {
        "mcpServers": {
            "own": {**scripted.upstream("own", "one"), "agent": "a"},
            "all": scripted.upstream("all", "two"),
        },
        "agents": {"a": {"servers": ["all"]}, "b": {}},
    }
    async with Manifold(config) as manifold:
        with anyio.fail_after(30):
            await manifold.for_agent("a").list_tools(wait=20)
            assert [tool.name for tool in await manifold.for_agent("a").list_tools()] == ["one", "two"]
            assert [tool.name for tool in await manifold.for_agent("b").list_tools(wait=20)] == ["two"]
            assert [tool.name for tool in await manifold.for_store().list_tools()] == ["mcp_all_two"]
            assert list(manifold.for_agent("a").statuses()) == ["own"]
    with pytest.raises(ConfigError, match="is no configured agent"):
        Manifold({**config, "agents": {"b": {}}})
