"""Agents: named namespaces, each with an endpoint of its own."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import anyio
import fastmcp
import mcp
import pytest
from mcp.client.sse import sse_client
from mcp.shared.exceptions import MCPError

from tests.support.manifold import PATIENCE, Home, Json, Manifold, serving, stdio
from tests.support.scripted import upstream

AGENTS: Json = {
    "reader": {"servers": ["files"], "tools": {"deny": ["*write*"]}},
    "writer": {"servers": ["files", "notes"], "tools": ["write", "mcp_notes_*"]},
    "formal": {"names": "prefixed"},
    "nobody": {"servers": []},
}
ALL = {"mcp_files_read", "mcp_files_write", "mcp_notes_read", "mcp_notes_create"}
SEEN = {
    "reader": {"read"},
    "writer": {"write", "read", "create"},
    "formal": ALL,
    "nobody": set[str](),
}


def two_upstreams() -> Json:
    return {
        "files": upstream("files", "read", "write", resources=["file:///a"], prompts=["ask"]),
        "notes": upstream("notes", "read", "create", resources=["note:///a"], prompts=["ask"]),
    }


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def manifold(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Manifold]:
    home = Home(tmp_path_factory.mktemp("agents")).write(two_upstreams(), agents=AGENTS)
    async with serving(home) as running:
        await running.banner()
        yield running


async def tools(where: Any, mode: str = "auto") -> set[str]:
    async with mcp.Client(where, mode=mode) as client:
        return {tool.name for tool in (await client.list_tools()).tools}


async def refusal(url: str, tool: str, mode: str = "auto") -> tuple[int, str]:
    """How a call is refused: code and message, the name in it replaced."""
    async with mcp.Client(url, mode=mode) as client:
        with pytest.raises(MCPError) as refused:
            await client.call_tool(tool)
    return refused.value.error.code, refused.value.error.message.partition(" Did you mean")[0].replace(tool, "NAME")


@pytest.mark.parametrize("mode", ["legacy", "auto"])
@pytest.mark.parametrize("agent", list(SEEN))
async def test_an_agent_sees_its_tools_by_its_url(manifold: Manifold, agent: str, mode: str) -> None:
    assert await tools(manifold.agent(agent), mode) == SEEN[agent]


async def test_the_store_sees_everything(manifold: Manifold) -> None:
    assert await tools(manifold.url) == ALL


async def test_an_agent_sees_its_tools_over_sse(manifold: Manifold) -> None:
    assert await tools(sse_client(f"{manifold.base}/agents/reader/sse"), "legacy") == SEEN["reader"]
    assert await tools(sse_client(f"{manifold.base}/sse"), "legacy") == ALL


@pytest.mark.parametrize("agent", ["writer", "nobody"])
async def test_an_agent_sees_its_tools_over_stdio(tmp_path: Path, agent: str) -> None:
    async with stdio(Home(tmp_path).write(two_upstreams(), agents=AGENTS), "--agent", agent) as wire:
        await wire.open()
        assert {tool["name"] for tool in (await wire.request("tools/list"))["tools"]} == SEEN[agent]


async def test_the_agent_of_the_command_line_applies_at_every_endpoint(tmp_path: Path) -> None:
    async with serving(Home(tmp_path).write(two_upstreams(), agents=AGENTS), "--agent", "reader") as manifold:
        assert await tools(manifold.url) == SEEN["reader"]
        assert await tools(manifold.agent("formal")) == {"mcp_files_read"}
        assert await tools(manifold.agent("writer")) == set()


async def test_what_an_agent_sees_it_can_use(manifold: Manifold) -> None:
    async with fastmcp.Client(manifold.agent("writer")) as client:
        assert (await client.call_tool("write")).data["server"] == "files"
        assert (await client.call_tool("create")).data["server"] == "notes"
    async with fastmcp.Client(manifold.agent("reader")) as client:
        assert [prompt.name for prompt in await client.list_prompts()] == ["ask"]
        (resource,) = await client.list_resources()
        (content,) = await client.read_resource(resource.uri)
        assert getattr(content, "text", "") == "files has file:///a"


@pytest.mark.parametrize("mode", ["legacy", "auto"])
@pytest.mark.parametrize("hidden", ["write", "mcp_files_write", "files.write", "mcp_notes_read", "create"])
async def test_what_an_agent_may_not_see_is_unknown_to_it(manifold: Manifold, hidden: str, mode: str) -> None:
    url = manifold.agent("reader")
    assert await refusal(url, hidden, mode) == await refusal(url, "no-such-thing-at-all", mode)


async def test_an_agent_cannot_read_what_it_does_not_see(manifold: Manifold) -> None:
    async with mcp.Client(manifold.agent("reader")) as client:
        for uri in ("notes+note:///a", "note:///a"):
            with pytest.raises(MCPError):
                await client.read_resource(uri)
        with pytest.raises(MCPError):
            await client.get_prompt("mcp_notes_ask")


async def test_suggestions_tell_nothing_of_what_is_hidden(manifold: Manifold) -> None:
    async with mcp.Client(manifold.agent("reader")) as client:
        with pytest.raises(MCPError) as refused:
            await client.call_tool("mcp_files_writ")
    assert "mcp_files_write" not in str(refused.value.error.model_dump())


async def test_an_agent_is_told_of_its_upstreams_only(manifold: Manifold) -> None:
    async with mcp.Client(manifold.agent("nobody")) as client:
        assert (await client.list_resources()).resources == []
        assert (await client.list_prompts()).prompts == []


@pytest.mark.parametrize(
    "path", ["/agents/stranger/mcp", "/agents/stranger/sse", "/agents//mcp", "/agents/reader/other"]
)
async def test_an_unknown_agent_is_not_found(manifold: Manifold, path: str) -> None:
    with anyio.fail_after(PATIENCE):
        process = await anyio.run_process(["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", manifold.base + path])
    assert process.stdout == b"404"


class Ears:
    """Counts the list_changed notifications of one client."""

    def __init__(self) -> None:
        self.heard: list[str] = []
        self._news = anyio.Event()

    async def __call__(self, message: Any) -> None:
        await anyio.lowlevel.checkpoint()
        if getattr(message, "method", "").endswith("list_changed"):
            self.heard.append(message.method)
            self._news.set()

    async def hear(self, times: int) -> None:
        with anyio.fail_after(PATIENCE):
            while len(self.heard) < times:
                self._news = anyio.Event()
                await self._news.wait()


async def known(home: Home) -> None:
    """Have all listings remembered, so that the next start changes nothing."""
    async with serving(home) as manifold:
        for name in two_upstreams():
            await manifold.event("upstream.state", upstream=name, new="ready")


async def test_only_those_whose_view_changed_are_told(tmp_path: Path) -> None:
    agents = {"a": {"servers": ["files"]}, "b": {"servers": ["notes"]}, "denied": {"tools": {"deny": ["*new*"]}}}
    home = Home(tmp_path).write(two_upstreams(), agents=agents)
    await known(home)
    at_a, at_b, at_denied, at_store = (Ears() for _ in range(4))
    async with (
        serving(home) as manifold,
        mcp.Client(manifold.url, mode="legacy", message_handler=at_store) as store,
        mcp.Client(manifold.agent("a"), mode="legacy", message_handler=at_a) as a,
        mcp.Client(manifold.agent("b"), mode="legacy", message_handler=at_b) as b,
        mcp.Client(manifold.agent("denied"), mode="legacy", message_handler=at_denied) as denied,
    ):
        for client in (store, a, b, denied):
            await client.list_tools()
        await a.call_tool("read", {"do": "offer", "tool": "new"})
        await at_a.hear(1)
        await at_store.hear(1)
        await b.call_tool("read", {"do": "offer", "tool": "new"})
        await at_b.hear(1)
        await at_store.hear(2)
        await store.call_tool("mcp_files_read", {"do": "offer", "tool": "visible"})
        await at_denied.hear(1)
        await at_store.hear(3)
        assert "visible" in {tool.name for tool in (await a.list_tools()).tools}
    told = "notifications/tools/list_changed"
    assert (at_a.heard, at_b.heard, at_denied.heard) == ([told] * 2, [told], [told])
    assert at_store.heard == [told] * 3


async def test_modern_listeners_hear_of_their_view_only(tmp_path: Path) -> None:
    agents = {"a": {"servers": ["files"]}, "b": {"servers": ["notes"]}}
    home = Home(tmp_path).write(two_upstreams(), agents=agents)
    async with (
        serving(home) as manifold,
        mcp.Client(manifold.agent("a")) as a,
        mcp.Client(manifold.agent("b")) as b,
    ):
        await manifold.banner()
        assert a.protocol_version == b.protocol_version == "2026-07-28"
        async with a.listen(tools_list_changed=True) as for_a, b.listen(tools_list_changed=True) as for_b:
            await a.call_tool("read", {"do": "offer", "tool": "new"})
            with anyio.fail_after(PATIENCE):
                await anext(aiter(for_a))
            await b.call_tool("read", {"do": "offer", "tool": "newer"})
            with anyio.fail_after(PATIENCE):
                await anext(aiter(for_b))
            assert "newer" in {tool.name for tool in (await b.list_tools()).tools}
