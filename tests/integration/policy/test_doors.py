"""What an agent may not see does not exist for it: in every method, however it is written, in both lanes and eras."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest
from mcp import Client
from mcp.shared.exceptions import MCPError
from mcp_types import PromptReference, ResourceTemplateReference

from tests.support.manifold import Home, serving
from tests.support.scripted import upstream

pytestmark = pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")

AGENTS: dict[str, Any] = {
    "reader": {
        "servers": ["files"],
        "tools": {"deny": ["wipe"]},
        "prompts": {"deny": ["confess"]},
        "resources": {"deny": ["file:///secret*", "secret:*"]},
    },
}
TOKEN = "two-0123456789abcdef"  # noqa: S105 - planted
DOORS = [(mode, express) for mode in ("legacy", "auto") for express in (True, False)]


def files() -> dict[str, Any]:
    return upstream(
        "files",
        "read",
        "wipe",
        prompts=["ask", "confess"],
        resources=["file:///open", "file:///secret1"],
        templates=["file:///{name}", "secret:///{name}"],
    )


@asynccontextmanager
async def opened(tmp_path: Path, mode: Any, *, express: bool) -> AsyncIterator[Client]:
    upstreams = {"files": files(), "other": upstream("other", "peek", prompts=["lure"], resources=["other:///a"])}
    home = Home(tmp_path).write(upstreams, agents=AGENTS, server={"express": express})
    async with serving(home) as manifold, Client(manifold.agent("reader"), mode=mode) as client:
        with anyio.fail_after(90):
            yield client


async def refused(asking: Any) -> None:
    with pytest.raises(MCPError) as caught:
        await asking
    assert "nknown" in caught.value.error.message
    hints = json.dumps(caught.value.error.data)
    assert not any(word in hints for word in ("wipe", "confess", "secret", "peek", "lure"))


@pytest.mark.parametrize(("mode", "express"), DOORS)
async def test_what_is_denied_is_unknown_in_every_method(tmp_path: Path, mode: Any, *, express: bool) -> None:
    async with opened(tmp_path, mode, express=express) as client:
        assert [one.name for one in (await client.list_tools()).tools] == ["read"]
        assert [one.name for one in (await client.list_prompts()).prompts] == ["ask"]
        assert [str(one.uri) for one in (await client.list_resources()).resources] == ["files+file:///open"]
        templates = (await client.list_resource_templates()).resource_templates
        assert [one.uri_template for one in templates] == ["files+file:///{name}"]
        for tool in ("wipe", "files.wipe", "files_wipe", "mcp_files_wipe", "peek", "mcp_other_peek", "other.peek"):
            await refused(client.call_tool(tool, {}))
        for prompt in ("confess", "files.confess", "mcp_files_confess", "mcp_other_lure"):
            await refused(client.get_prompt(prompt))
            await refused(client.complete(PromptReference(type="ref/prompt", name=prompt), {"name": "a", "value": ""}))
        for uri in (
            "files+file:///secret1",
            "file:///secret1",
            "files+file:///secret-not-listed",
            "files+file:///%73ecret1",
            "files+file:///open/../secret1",
            "FILES+file:///secret1",
            "files+secret:///a",
            "secret:///a",
            "files+secret:///{name}",
        ):
            await refused(client.read_resource(uri))
            reference = ResourceTemplateReference(type="ref/resource", uri=uri)
            await refused(client.complete(reference, {"name": "name", "value": ""}))
            if mode == "legacy":
                await refused(client.subscribe_resource(uri))
        assert not (await client.call_tool("read", {})).is_error


async def test_a_listen_stream_is_not_promised_what_is_denied(tmp_path: Path) -> None:
    async with opened(tmp_path, "auto", express=True) as client:
        wanted = ["files+file:///secret1", "secret:///a", "other+other:///a"]
        async with client.listen(resource_subscriptions=wanted, tools_list_changed=True) as stream:
            assert not stream.honored.resource_subscriptions


async def test_url_and_token_together_fix_what_either_fixes(tmp_path: Path) -> None:
    find = {
        "name": "find",
        "inputSchema": {"type": "object", "properties": {"root": {}, "limit": {}, "text": {}}},
        "annotations": {"readOnlyHint": True},
    }
    agents = {
        "one": {
            "overrides": {"find": {"name": "seek", "arguments": {"root": {"value": "/srv"}}}},
            "tokens": ["x" * 20],
        },
        "two": {"overrides": {"find": {"arguments": {"limit": {"value": 5}}}}, "read_only": True, "tokens": [TOKEN]},
    }
    home = Home(tmp_path).write({"files": upstream("files", find, "wipe")}, agents=agents)
    async with serving(home) as manifold:
        headers = {"Authorization": f"Bearer {TOKEN}", "Accept": "application/json, text/event-stream"}
        async with aiohttp.ClientSession(headers=headers) as http:
            hello = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "c", "version": "1"}}
            with anyio.fail_after(90):
                async with http.post(manifold.agent("one"), json=_request("initialize", hello)) as answer:
                    session = {"Mcp-Session-Id": answer.headers["Mcp-Session-Id"]}
                    await answer.read()
                notice = {"jsonrpc": "2.0", "method": "notifications/initialized"}
                await (await http.post(manifold.agent("one"), json=notice, headers=session)).read()
                call = {"name": "seek", "arguments": {"text": "x"}}
                told = []
                for body in (_request("tools/list", {}), _request("tools/call", call)):
                    async with http.post(manifold.agent("one"), json=body, headers=session) as answer:
                        told.append(_result(await answer.text()))
    (tool,) = told[0]["tools"]
    assert (tool["name"], list(tool["inputSchema"]["properties"])) == ("seek", ["text"])
    assert told[1]["structuredContent"]["arguments"] == {"root": "/srv", "limit": 5, "text": "x"}


def _request(method: str, params: dict[str, Any]) -> dict[str, Any]:
    return {"jsonrpc": "2.0", "id": method, "method": method, "params": params}


def _result(text: str) -> Any:
    data = next((line[5:] for line in text.splitlines() if line.startswith("data:") and "{" in line), text)
    return json.loads(data)["result"]
