"""Calls of several rounds, tasks and mounted servers, where an agent changes the tool."""

from pathlib import Path
from typing import Any

import anyio
import fastmcp
import mcp_types
import pytest
from fastmcp import FastMCP
from fastmcp.exceptions import ToolError
from mcp import Client

from proxy.gateway.provider import CatalogProvider
from tests.conformance.stage import Cast, upstream_of
from tests.conformance.test_tasks import TASKS, served
from tests.conformance.wire import MODERN, over_http
from tests.support.manifold import Home, serving
from tests.support.running import running
from tests.support.scripted import upstream

FIXED = {"fixture.test_elicitation": {"name": "greet", "arguments": {"message": {"value": "Who is there?"}}}}
PERSON = {"username": "ann", "email": "ann@example.com"}


@pytest.mark.parametrize(("mode", "era"), [("auto", "modern"), ("auto", "legacy"), ("legacy", "modern")])
async def test_a_call_with_questions_keeps_its_fixed_arguments_in_every_round(
    tmp_path: Path, mode: Any, era: str
) -> None:
    asked: list[str] = []

    async def answer(context: Any, params: Any) -> mcp_types.ElicitResult:
        del context
        asked.append(params.message)
        return mcp_types.ElicitResult(action="accept", content=dict(PERSON))

    agents = {"a": {"overrides": FIXED}}
    with upstream_of(tmp_path, "fixture", Cast(era, "http")) as (config, _):
        home = Home(tmp_path).write({"fixture": config}, agents=agents)
        async with (
            serving(home) as manifold,
            Client(manifold.agent("a"), mode=mode, elicitation_callback=answer) as client,
        ):
            with anyio.fail_after(90):
                found = await client.call_tool("greet", {})
    assert asked == ["Who is there?"]
    assert "ann@example.com" in str(found.content[0])


async def test_a_task_of_a_tool_with_fixed_arguments_is_found_again_after_its_upstream_was_renamed(
    tmp_path: Path,
) -> None:
    overrides = {"slow_compute": {"arguments": {"label": {"value": "fixed"}}}}
    with served(tmp_path, "http") as (_, url):
        home = Home(tmp_path).write({"jobs": {"url": url}}, agents={"a": {"overrides": overrides}})
        async with (
            serving(home) as manifold,
            over_http(manifold.agent("a"), version=MODERN, capabilities=TASKS) as client,
        ):
            with anyio.fail_after(90):
                made = (await client.tool("slow_compute", {})).result
                assert made["resultType"] == "task"
                home.write({"work": {"url": url}}, agents={"a": {"overrides": overrides}})
                await manifold.event("config.applied", renamed={"jobs": "work"})
                asked = {"taskId": made["taskId"]}
                headers = {"Mcp-Name": made["taskId"]}
                while (now := (await client.call("tasks/get", asked, headers=headers)).result)["status"] == "working":
                    await anyio.lowlevel.checkpoint()
    assert "computed fixed" in str(now["result"])


async def test_a_mounted_agent_has_the_same_tools_and_refusals() -> None:
    find = {"name": "find", "inputSchema": {"type": "object", "properties": {"root": {}, "text": {}}}}
    agents = {"a": {"overrides": {"find": {"name": "seek", "arguments": {"root": {"value": "/srv"}}}}}}
    async with running({"files": upstream("files", find)}, agents=agents) as one:
        server = FastMCP("mine", providers=[CatalogProvider(one.runtime, agent="a")])
        async with fastmcp.Client(server) as client:
            with anyio.fail_after(90):
                (tool,) = await client.list_tools()
                assert (tool.name, list(tool.input_schema["properties"])) == ("seek", ["text"])
                found = await client.call_tool("seek", {"text": "x"})
                assert (found.structured_content or {})["arguments"] == {"root": "/srv", "text": "x"}
                with pytest.raises(ToolError, match="cannot be given here"):
                    await client.call_tool("seek", {"text": "x", "root": "/"})
