"""The catalog as a FastMCP provider: Manifold mounted into a FastMCP server of somebody's own."""

import json
import runpy
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import fastmcp
import pytest
from fastmcp import FastMCP
from fastmcp.exceptions import ToolError
from mcp.shared.exceptions import MCPError

from proxy.gateway.provider import CatalogProvider
from tests.support.manifold import ROOT, Home
from tests.support.running import Running, running
from tests.support.scripted import upstream

EXAMPLE = ROOT / "docs" / "examples" / "mount.py"
SUM = {
    "name": "sum",
    "title": "Sum",
    "description": "Adds.",
    "inputSchema": {"type": "object", "properties": {"a": {"$ref": "#/$defs/n"}}, "$defs": {"n": {"type": "number"}}},
    "annotations": {"readOnlyHint": True},
    "_meta": {"own": 1},
}


def office() -> dict[str, Any]:
    return {
        "files": upstream("files", SUM, "write", resources=["file:///a"], templates=["file:///{name}"]),
        "notes": upstream("notes", "create", prompts=["ask"]),
    }


@asynccontextmanager
async def mounted(
    upstreams: dict[str, Any], agent: str | None = None, **sections: Any
) -> AsyncIterator[tuple["fastmcp.Client[Any]", Running]]:
    """A client of a FastMCP server into which a running Manifold is mounted."""
    async with running(upstreams, **sections) as one:
        server = FastMCP("mine", providers=[CatalogProvider(one.runtime, agent=agent)], dereference_schemas=False)
        server.tool(own)
        async with fastmcp.Client(server) as client:
            yield client, one


def own() -> str:
    return "mine"


async def test_tools_appear_beside_the_servers_own_as_their_upstreams_define_them() -> None:
    async with mounted(office()) as (client, _):
        tools = {tool.name: tool for tool in await client.list_tools()}
    assert set(tools) == {"own", "mcp_files_sum", "mcp_files_write", "mcp_notes_create"}
    found = tools["mcp_files_sum"].model_dump(mode="json", by_alias=True, exclude_none=True)
    assert {key: found[key] for key in ("title", "description", "inputSchema", "annotations")} == {
        key: SUM[key] for key in ("title", "description", "inputSchema", "annotations")
    }
    assert found["_meta"]["own"] == 1


async def test_tools_can_be_called() -> None:
    async with mounted(office()) as (client, _):
        result = await client.call_tool("mcp_files_sum", {"a": 1})
        assert (result.structured_content or {})["arguments"] == {"a": 1}
        assert (await client.call_tool("own")).data == "mine"


async def test_resources_templates_and_prompts_can_be_used() -> None:
    async with mounted(office()) as (client, _):
        (resource,) = await client.list_resources()
        (template,) = await client.list_resource_templates()
        assert (str(resource.uri), template.uri_template) == ("files+file:///a", "files+file:///{name}")
        for uri in ("files+file:///a", "files+file:///other"):
            (content,) = await client.read_resource(uri)
            assert getattr(content, "text", "") == f"files has {uri.removeprefix('files+')}"
        (prompt,) = await client.list_prompts()
        got = await client.get_prompt(prompt.name)
        assert getattr(got.messages[0].content, "text", "") == "notes"


async def test_a_call_that_fails_on_the_way_is_an_error_result_that_says_so() -> None:
    async with mounted(office()) as (client, _):
        with pytest.raises(ToolError, match="may have been executed"):
            await client.call_tool("mcp_files_write", {"do": "die"})


async def test_an_agent_sees_its_view_only() -> None:
    agents = {"reader": {"servers": ["files"], "tools": {"deny": ["write"]}}}
    async with mounted(office(), "reader", agents=agents) as (client, _):
        assert {tool.name for tool in await client.list_tools()} == {"own", "sum"}
        with pytest.raises((ToolError, MCPError)):
            await client.call_tool("write")


async def test_changes_are_there_at_the_next_list() -> None:
    async with mounted(office()) as (client, one):
        await client.call_tool("mcp_notes_create", {"do": "offer", "tool": "drop"})
        await one.offers("mcp_notes_drop")
        assert "mcp_notes_drop" in {tool.name for tool in await client.list_tools()}


async def test_a_mounted_server_gets_its_namespace() -> None:
    async with running(office()) as one:
        outer, inner = FastMCP("outer"), FastMCP("inner", providers=[CatalogProvider(one.runtime)])
        outer.mount(inner, namespace="office")
        async with fastmcp.Client(outer) as client:
            assert "office_mcp_notes_create" in {tool.name for tool in await client.list_tools()}
            result = await client.call_tool("office_mcp_notes_create", {})
            assert (result.structured_content or {})["server"] == "notes"


async def test_the_example_serves_both(tmp_path: Path) -> None:
    home = Home(tmp_path).write(office())
    started = {"command": sys.executable, "args": [str(EXAMPLE), str(home.config)], "env": home.env()}
    async with fastmcp.Client({"mcpServers": {"office": started}}) as client:
        assert {tool.name for tool in await client.list_tools()} == {
            "opening_hours",
            "mcp_files_sum",
            "mcp_files_write",
            "mcp_notes_create",
        }
        assert (await client.call_tool("opening_hours")).data == "nine to five"
        assert json.loads((await client.call_tool("mcp_notes_create")).content[0].text)["server"] == "notes"


async def test_the_example_can_be_used_as_a_module(tmp_path: Path) -> None:
    home = Home(tmp_path).write(office(), agents={"reader": {"servers": ["files"]}})
    build = runpy.run_path(str(EXAMPLE))["build"]
    async with fastmcp.Client(build(home.config, agent="reader")) as client:
        assert {tool.name for tool in await client.list_tools()} == {"opening_hours", "sum", "write"}
