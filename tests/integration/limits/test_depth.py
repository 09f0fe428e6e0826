"""JSON that is nested very deeply: refused at every door, an error from every upstream, and nothing else noticed."""

import json
import sys
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import pytest
from mcp import Client

from proxy import Manifold
from proxy.errors import ManifoldError
from tests.support.manifold import Home, Json, serving, stdio
from tests.support.scripted import upstream

ACCEPT = {"Accept": "application/json, text/event-stream", "Content-Type": "application/json"}
HELLO = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}}
VERSION = "2026-07-28"
META = {
    "io.modelcontextprotocol/protocolVersion": VERSION,
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "raw", "version": "1"},
}
MODERN = {"MCP-Protocol-Version": VERSION, "Mcp-Method": "tools/call", "Mcp-Name": "mcp_a_work"}

DEEP = """
import json, sys
for line in sys.stdin:
    message = json.loads(line)
    method, depth = message["method"], 0
    if "id" not in message:
        continue
    if method == "initialize":
        about = {"name": "d", "version": "1"}
        result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": about}
    elif method == "tools/list":
        result = {"tools": [{"name": "dig", "inputSchema": {"type": "object"}}]}
    else:
        depth = message["params"].get("arguments", {}).get("depth", 0)
        result = {"content": [{"type": "text", "text": "up"}], "structuredContent": {"x": "HERE"}}
    text = json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result})
    print(text.replace('"HERE"', "[" * depth + "]" * depth), flush=True)
"""

ASKS = """
import json, sys
def say(message):
    print(json.dumps({"jsonrpc": "2.0", **message}), flush=True)
for line in sys.stdin:
    message = json.loads(line)
    method = message.get("method", "")
    if method == "initialize":
        about = {"name": "d", "version": "1"}
        result = {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": about}
        say({"id": message["id"], "result": result})
    elif method == "tools/list":
        say({"id": message["id"], "result": {"tools": [{"name": "ask", "inputSchema": {"type": "object"}}]}})
    elif method == "tools/call":
        under_way = message["id"]
        form = {"type": "object", "properties": {"x": {"type": "string"}}}
        say({"id": "q", "method": "elicitation/create", "params": {"message": "x?", "requestedSchema": form}})
    elif message.get("id") == "q":
        text = message.get("error", {}).get("message", "no error")
        say({"id": under_way, "result": {"content": [{"type": "text", "text": text}]}})
    elif "id" in message:
        say({"id": message["id"], "result": {}})
"""


def bomb(levels: int, **params: Any) -> str:
    text = json.dumps({"jsonrpc": "2.0", "id": 2, "method": "tools/call", "params": {"name": "mcp_a_work", **params}})
    return text[:-2] + ', "arguments": {"x": ' + "[" * levels + "]" * levels + "}}}"


async def post(http: aiohttp.ClientSession, url: str, body: str, **headers: str) -> tuple[int, str, str]:
    async with http.post(url, data=body, headers={**ACCEPT, **headers}) as answer:
        return answer.status, await answer.text(), answer.headers.get("Mcp-Session-Id", "")


async def handshake(http: aiohttp.ClientSession, url: str) -> dict[str, str]:
    hello = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": HELLO}
    _, _, session = await post(http, url, json.dumps(hello))
    own = {"Mcp-Session-Id": session}
    await post(http, url, '{"jsonrpc": "2.0", "method": "notifications/initialized"}', **own)
    return own


@pytest.mark.parametrize("express", [True, False], ids=["lane", "no lane"])
async def test_a_bomb_at_a_http_door_is_refused_in_both_eras(tmp_path: Path, *, express: bool) -> None:
    home = Home(tmp_path).write({"a": upstream("a", "work")}, server={"express": express})
    async with serving(home) as manifold, aiohttp.ClientSession() as http:
        with anyio.fail_after(40):
            old = await handshake(http, manifold.url)
            for headers, more in ((old, {}), (MODERN, {"_meta": META})):
                assert (await post(http, manifold.url, bomb(50, **more), **headers))[0] == 200
                for levels in (200, 900, 100_000):
                    status, text, _ = await post(http, manifold.url, bomb(levels, **more), **headers)
                    assert status == 400
                    assert json.loads(text)["error"]["code"] == -32700
                assert (await post(http, manifold.url, "[" * 200_000, **headers))[0] == 400
            assert (await post(http, manifold.base + "/messages/?session_id=1", bomb(100_000)))[0] == 400
            assert (await post(http, manifold.url, bomb(50), **old))[0] == 200
        assert "Traceback" not in manifold.said


async def test_a_bomb_in_a_batch_is_refused(tmp_path: Path) -> None:
    async with serving(Home(tmp_path).write({"a": upstream("a", "work")})) as manifold, aiohttp.ClientSession() as http:
        with anyio.fail_after(40):
            hello = {
                "jsonrpc": "2.0",
                "id": 1,
                "method": "initialize",
                "params": {**HELLO, "protocolVersion": "2025-03-26"},
            }
            _, _, session = await post(http, manifold.url, json.dumps(hello))
            own = {"Mcp-Session-Id": session}
            await post(http, manifold.url, '{"jsonrpc": "2.0", "method": "notifications/initialized"}', **own)
            status, _, _ = await post(http, manifold.url, f"[{bomb(100_000)}]", **own)
            assert status == 400
        assert "Traceback" not in manifold.said


async def test_a_bomb_on_a_pipe_is_answered_if_its_id_can_be_told_and_reported(tmp_path: Path) -> None:
    async with stdio(Home(tmp_path).write({"a": upstream("a", "work")})) as wire:
        await wire.open()
        assert wire.manifold.process.stdin is not None
        for levels in (200, 900, 100_000):
            await wire.manifold.process.stdin.send(bomb(levels).encode() + b"\n")
            answer = await wire.next()
            assert (answer["id"], answer["error"]["code"]) == (2, -32700)
            assert "nested more than 128 levels" in answer["error"]["message"]
        await wire.manifold.process.stdin.send(b"[" * 200_000 + b"\n")
        assert await wire.request("ping") == {}
        await wire.manifold.until(lambda: wire.manifold.said.count("downstream.frame_too_deep") == 4)
        assert "Traceback" not in wire.manifold.said


async def test_a_line_over_the_limit_on_a_pipe_is_answered(tmp_path: Path) -> None:
    home = Home(tmp_path).write({"a": upstream("a", "work")}, server={"max_body": "64KiB"})
    async with stdio(home) as wire:
        await wire.open()
        error = await wire.call("mcp_a_work", text="x" * 70_000)
        assert error["code"] == -32600
        assert "more than the 65536" in error["message"]
        assert await wire.request("ping") == {}
        await wire.manifold.until(lambda: wire.manifold.said.count("downstream.frame_too_large") == 1)


async def test_an_answer_over_the_limit_on_a_pipe_ends_the_question(tmp_path: Path) -> None:
    (tmp_path / "asks.py").write_text(ASKS)
    entry: Json = {"command": sys.executable, "args": ["-S", str(tmp_path / "asks.py")]}
    home = Home(tmp_path).write({"a": entry}, server={"max_body": "64KiB"})
    async with stdio(home) as wire:
        await wire.request("initialize", {**wire.HELLO, "capabilities": {"elicitation": {}}})
        await wire.send({"method": "notifications/initialized"})
        await wire.send({"id": "call", "method": "tools/call", "params": {"name": "mcp_a_ask", "arguments": {}}})
        question = await wire.next()
        while question.get("method") != "elicitation/create":
            question = await wire.next()
        await wire.send({"id": question["id"], "result": {"action": "accept", "content": {"x": "y" * 70_000}}})
        answer = await wire.next()
        assert answer["id"] == "call"
        assert "more than the 65536" in str(answer["result"]["content"])


@pytest.mark.parametrize("express", [True, False], ids=["lane", "no lane"])
@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_how_deep_a_result_may_be_does_not_depend_on_the_way(tmp_path: Path, mode: Any, *, express: bool) -> None:
    (tmp_path / "deep.py").write_text(DEEP)
    entry: Json = {"command": sys.executable, "args": ["-S", str(tmp_path / "deep.py")]}
    home = Home(tmp_path).write({"a": entry}, server={"express": express})
    async with serving(home) as manifold, Client(manifold.url, mode=mode) as client:
        with anyio.fail_after(40):
            await client.list_tools()
            found = {levels: await client.call_tool("mcp_a_dig", {"depth": levels}) for levels in (190, 210, 500)}
    assert [one.is_error for one in found.values()] == [False, True, True]
    assert "nested too deeply" in str(found[500].content)


@pytest.mark.parametrize("express", [True, False], ids=["lane", "no lane"])
@pytest.mark.parametrize("mode", ["legacy", "auto"])
async def test_an_upstream_that_answers_with_a_bomb_costs_that_call_only(
    tmp_path: Path, mode: Any, *, express: bool
) -> None:
    (tmp_path / "deep.py").write_text(DEEP)
    entry: Json = {"command": sys.executable, "args": ["-S", str(tmp_path / "deep.py")]}
    home = Home(tmp_path).write({"a": entry, "b": upstream("b", "work")}, server={"express": express})
    async with serving(home) as manifold, Client(manifold.url, mode=mode) as client:
        with anyio.fail_after(40):
            await client.list_tools()
            for levels in (300, 800, 900, 950, 100_000):
                try:
                    result = await client.call_tool("mcp_a_dig", {"depth": levels})
                    assert result.is_error
                except Exception as error:  # noqa: BLE001 - whatever the client makes of it, it is not a hang
                    assert "Internal Server Error" not in str(error)  # noqa: PT017 - same
            assert not (await client.call_tool("mcp_a_dig", {"depth": 10})).is_error
            assert not (await client.call_tool("mcp_b_work", {})).is_error
        assert "Traceback" not in manifold.said


async def test_a_program_gets_an_error_of_ours_for_an_upstream_s_bomb(tmp_path: Path) -> None:
    (tmp_path / "deep.py").write_text(DEEP)
    entry = {"command": sys.executable, "args": ["-S", str(tmp_path / "deep.py")]}
    async with Manifold({"mcpServers": {"a": entry}}) as manifold:
        with anyio.fail_after(40):
            for levels in (900, 950, 980, 100_000):
                try:
                    await manifold.for_store().call_tool("mcp_a_dig", {"depth": levels})
                except ManifoldError as error:
                    assert error.code == "protocol-fault"  # noqa: PT017 - or it is served
            assert not (await manifold.for_store().call_tool("mcp_a_dig", {"depth": 10})).is_error
