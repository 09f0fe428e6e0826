"""What an agent's policy means at every door: both lanes, both eras, a FastMCP client, a program."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import fastmcp
import pytest
from fastmcp.exceptions import ToolError
from mcp import Client
from mcp.shared.exceptions import MCPError

from proxy import Manifold
from proxy.errors import InvalidArguments, RateLimited, UnknownTarget
from proxy.model import Caller
from proxy.router import Request
from tests.support.manifold import Home, serving, stdio
from tests.support.running import configured, running
from tests.support.scripted import upstream

SECRET = "s3cret-r00t-f0lder"  # noqa: S105 - planted, to be looked for
FIND = {
    "name": "find",
    "description": "Finds.",
    "inputSchema": {
        "type": "object",
        "properties": {"root": {"type": "string"}, "text": {"type": "string"}, "limit": {"type": "integer"}},
        "required": ["root", "text"],
    },
    "annotations": {"readOnlyHint": True},
}
OVERRIDE = {
    "name": "seek",
    "description": "Seeks.",
    "arguments": {"root": {"value": "${env:ROOT}"}, "text": {"name": "pattern"}, "limit": {"default": 7}},
}
AGENTS: dict[str, Any] = {
    "reader": {"read_only": True, "overrides": {"files.find": OVERRIDE}},
    "slow": {"limits": {"calls": "2/h"}},
    "small": {"limits": {"max_result": 1024}},
}
FINAL = {"root": SECRET, "text": "x", "limit": 7}
DOORS = [(mode, express) for mode in ("legacy", "auto") for express in (True, False)]


def home(tmp_path: Path, **sections: Any) -> Home:
    return Home(tmp_path).write({"files": upstream("files", FIND, "wipe")}, agents=AGENTS, **sections)


@pytest.fixture(params=DOORS, ids=lambda door: f"{door[0]}-{'lane' if door[1] else 'no lane'}")
def door(request: pytest.FixtureRequest) -> tuple[Any, bool]:
    found: tuple[Any, bool] = request.param
    return found


@asynccontextmanager
async def opened(tmp_path: Path, door: tuple[Any, bool], agent: str) -> AsyncIterator[Client]:
    mode, express = door
    there = home(tmp_path, server={"express": express}, audit={"to": "audit.log", "arguments": "keep"})
    async with serving(there, ROOT=SECRET) as manifold, Client(manifold.agent(agent), mode=mode) as client:
        with anyio.fail_after(90):
            yield client


async def test_an_agents_tool_is_listed_and_called_as_its_override_says(tmp_path: Path, door: tuple[Any, bool]) -> None:
    async with opened(tmp_path, door, "reader") as client:
        (tool,) = (await client.list_tools()).tools
        assert (tool.name, tool.description) == ("seek", "Seeks.")
        assert tool.input_schema["properties"] == {
            "pattern": {"type": "string"},
            "limit": {"type": "integer", "default": 7},
        }
        assert tool.input_schema["required"] == ["pattern"]
        found = await client.call_tool("seek", {"pattern": "x"})
        assert found.structured_content is not None
        assert found.structured_content["arguments"] == FINAL
        for arguments in ({"pattern": "x", "root": "/"}, {"text": "x"}):
            refused = await client.call_tool("seek", arguments)
            assert refused.is_error
            assert (refused.meta or {})["mcp-manifold/error"]["code"] == "invalid-arguments"
            assert "Nothing was executed" in str(refused.content[0])
            assert SECRET not in str(refused)
        with pytest.raises(MCPError, match="Unknown tool"):
            await client.call_tool("wipe", {})
    log = (tmp_path / "audit.log").read_text()
    assert SECRET not in log
    assert json.loads(log.splitlines()[1])["arguments"] == {"text": "x", "limit": 7}


async def test_an_agent_over_its_rate_is_told_when_to_come_again(tmp_path: Path, door: tuple[Any, bool]) -> None:
    async with opened(tmp_path, door, "slow") as client:
        for _ in range(2):
            assert not (await client.call_tool("wipe", {})).is_error
        refused = await client.call_tool("wipe", {})
        assert refused.is_error
        assert 'limit of the agent "slow": 2 in 3600 s' in str(refused.content[0])
        assert (refused.meta or {})["mcp-manifold/error"]["retryAfter"] > 1000


async def test_a_result_that_is_too_large_for_an_agent_stays_outside(tmp_path: Path, door: tuple[Any, bool]) -> None:
    async with opened(tmp_path, door, "small") as client:
        assert not (await client.call_tool("wipe", {})).is_error
        refused = await client.call_tool("wipe", {"do": "swell", "size": 5000})
        assert refused.is_error
        assert "more than the 1024" in str(refused.content[0])


async def test_over_stdio_the_policy_is_the_same(tmp_path: Path) -> None:
    async with stdio(home(tmp_path), "--agent", "reader", ROOT=SECRET) as wire:
        await wire.open()
        (tool,) = (await wire.request("tools/list"))["tools"]
        assert list(tool["inputSchema"]["properties"]) == ["pattern", "limit"]
        assert (await wire.call("seek", pattern="x"))["structuredContent"]["arguments"] == FINAL
        assert (await wire.call("seek", root="/"))["isError"]


async def test_a_fastmcp_client_sees_and_calls_what_the_override_says(tmp_path: Path) -> None:
    async with serving(home(tmp_path), ROOT=SECRET) as manifold, fastmcp.Client(manifold.agent("reader")) as client:
        with anyio.fail_after(90):
            (tool,) = await client.list_tools()
            assert "root" not in str(tool.input_schema)
            found = await client.call_tool("seek", {"pattern": "x"})
            assert (found.structured_content or {})["arguments"] == FINAL
            with pytest.raises(ToolError, match="cannot be given here"):
                await client.call_tool("seek", {"pattern": "x", "root": "/"})


async def test_a_program_gets_the_same_tools_and_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOT", SECRET)
    source = {"mcpServers": {"files": upstream("files", FIND, "wipe")}, "agents": AGENTS}
    async with Manifold(source) as manifold:
        with anyio.fail_after(90):
            reader = manifold.for_agent("reader")
            (tool,) = await reader.list_tools()
            assert (tool.name, list(tool.input_schema["properties"])) == ("seek", ["pattern", "limit"])
            found = await reader.call_tool("seek", pattern="x", validate="strict")
            assert found.structured["arguments"] == FINAL
            with pytest.raises(InvalidArguments, match="cannot be given"):
                await reader.call_tool("seek", pattern="x", root="/")
            with pytest.raises(UnknownTarget):
                await reader.call_tool("wipe")
            slow = manifold.for_agent("slow")
            await slow.batch_call(["wipe", "wipe"])
            with pytest.raises(RateLimited, match='"slow"'):
                await slow.call_tool("wipe")
            made = await manifold.create_agent("late", {"overrides": {"wipe": {"name": "clean"}}})
            assert [tool.name for tool in await made.list_tools()] == ["find", "clean"]


async def test_a_reload_changes_overrides_and_limits_in_place_and_tells_of_it(tmp_path: Path) -> None:
    there = home(tmp_path)
    changed = [anyio.Event()]

    async def heard(message: Any) -> None:
        if "tools/list_changed" in str(getattr(getattr(message, "root", message), "method", "")):
            changed[-1].set()

    async with (
        serving(there, ROOT=SECRET) as manifold,
        Client(manifold.agent("reader"), mode="legacy", message_handler=heard) as client,
    ):
        with anyio.fail_after(90):
            names = [tool.name for tool in (await client.list_tools()).tools]
            assert names == ["seek"]
            again = {**AGENTS, "reader": {"overrides": {"files.find": {"name": "look"}, "wipe": {"hide": True}}}}
            changed.append(anyio.Event())
            there.write({"files": upstream("files", FIND, "wipe")}, agents=again)
            while names == ["seek"]:
                await changed[-1].wait()
                changed.append(anyio.Event())
                names = [tool.name for tool in (await client.list_tools()).tools]
            assert names == ["look"]
            found = await client.call_tool("seek", {"root": "/", "text": "x"})
            assert (found.structured_content or {})["arguments"] == {"root": "/", "text": "x"}


async def test_a_reload_from_1_to_true_is_noticed() -> None:
    def saying(value: object) -> dict[str, object]:
        return {"a": {"overrides": {"find": {"arguments": {"root": {"value": value}}}}}}

    async with running({"files": upstream("files", FIND)}, agents=saying(1)) as one:
        for value in (1, True, 1.0):
            await one.runtime.apply(configured({"files": upstream("files", FIND)}, agents=saying(value)))
            request = Request("tools/call", {"name": "find", "arguments": {}}, Caller(agent="a"))
            given = (await one.runtime.router.route(request)).call.params or {}
            root = given["arguments"]["root"]
            assert (root, type(root)) == (value, type(value))


async def test_an_override_that_fits_nothing_is_in_the_log(tmp_path: Path) -> None:
    agents = {"reader": {"overrides": {"files.fnd": {"hide": True}}}}
    there = Home(tmp_path).write({"files": upstream("files", FIND)}, agents=agents)
    async with serving(there) as manifold:
        told = await manifold.event("agent.override.misfit", agent="reader", override="files.fnd")
        assert "no tool that the agent sees" in told["problem"]
