"""A name of an upstream that cannot be reached is not an unknown name."""

from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError

from proxy import Manifold
from proxy.errors import ConnectFailed, UnknownTarget
from tests.support.manifold import Home, serving
from tests.support.scripted import crashing, upstream


@pytest.mark.parametrize("express", [True, False], ids=["lane", "no lane"])
@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_a_tool_of_an_upstream_that_never_came_up_cannot_be_reached(
    tmp_path: Path, mode: Any, *, express: bool
) -> None:
    there = Home(tmp_path).write(
        {"good": upstream("good", "work"), "bad": crashing("last words")},
        server={"express": express},
        agents={"blind": {"servers": ["good"]}},
    )
    async with serving(there) as manifold:
        async with Client(manifold.url, mode=mode) as client:
            with anyio.fail_after(90):
                failed = await client.call_tool("mcp_bad_work", {})
                assert failed.is_error
                text = str(failed.content[0])
                assert "bad" in text
                assert "last words" in text
                assert (failed.meta or {})["mcp-manifold/error"]["sent"] == "no"
                with pytest.raises(MCPError, match="last words"):
                    await client.get_prompt("mcp_bad_ask")
                with pytest.raises(MCPError, match="Unknown tool"):
                    await client.call_tool("mcp_god_work", {})
        async with Client(manifold.agent("blind"), mode=mode) as client:
            with anyio.fail_after(90), pytest.raises(MCPError, match="Unknown tool"):
                await client.call_tool("mcp_bad_work", {})


async def test_a_program_is_told_the_same() -> None:
    source = {"mcpServers": {"good": upstream("good", "work"), "bad": crashing("last words")}}
    async with Manifold(source) as manifold:
        with anyio.fail_after(90):
            store = manifold.for_store()
            with pytest.raises(ConnectFailed, match="last words"):
                await store.call_tool("mcp_bad_work")
            with pytest.raises(UnknownTarget):
                await store.call_tool("mcp_god_work")
