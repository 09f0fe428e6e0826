"""``mcp-manifold serve``: what it prints, and that what it tells people to paste works."""

import json
import shlex
import socket
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import fastmcp
import mcp
import pytest

from tests.support.manifold import PATIENCE, Home, Json, Manifold, serving, stdio
from tests.support.scripted import appear, crashing, upstream

CLIENTS = ("Claude Desktop", "Cursor", "VS Code", "Claude Code")


def snippet(banner: str, client: str) -> str:
    """What the banner says to paste into a client: the line below its name."""
    lines = banner.splitlines()
    index = next(index for index, line in enumerate(lines) if line.strip().startswith(client))
    return lines[index + 1].strip()


async def names(config: Any) -> set[str]:
    async with fastmcp.Client(config) as client:
        return {tool.name for tool in await client.list_tools()}


async def test_the_banner_shows_the_endpoint_the_upstreams_and_what_to_paste(tmp_path: Path) -> None:
    home = Home(tmp_path).write(
        {"good": upstream("good", "work", resources=["x://y"]), "bad": crashing("boom: no key")},
        agents={"reader": {"servers": ["good"]}},
    )
    async with serving(home) as manifold:
        banner = await manifold.banner()
    assert f"serves at  {manifold.url}" in banner
    assert manifold.agent("reader") in banner
    assert "● good  ready        1 tool, 1 resource (2025-11-25)" in banner
    (bad,) = [line for line in banner.splitlines() if "✗ bad" in line]
    assert "boom: no key" in bad
    assert all(client in banner for client in CLIENTS)


async def test_every_snippet_works_as_it_is_pasted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Home(tmp_path).write({"good": upstream("good", "work")})
    async with serving(home) as manifold:
        banner = await manifold.banner()
        desktop, cursor, code = [json.loads(snippet(banner, client)) for client in CLIENTS[:3]]
        monkeypatch.chdir("/")  # a desktop client starts servers wherever it is
        desktop["mcpServers"]["manifold"]["env"] = home.env()
        assert await names(desktop) == {"mcp_good_work"}
        assert await names(cursor) == {"mcp_good_work"}
        assert code["servers"]["manifold"]["type"] == "http"
        assert await names(code["servers"]["manifold"]["url"]) == {"mcp_good_work"}
        assert shlex.split(snippet(banner, "Claude Code"))[-1] == manifold.url


async def test_the_snippet_for_an_agent_starts_as_that_agent(tmp_path: Path) -> None:
    home = Home(tmp_path).write({"good": upstream("good", "read", "write")}, agents={"reader": {"tools": ["read"]}})
    async with serving(home, "--agent", "reader") as manifold:
        desktop = json.loads(snippet(await manifold.banner(), "Claude Desktop"))
    desktop["mcpServers"]["manifold"]["env"] = home.env()
    assert await names(desktop) == {"read"}


async def test_readiness_is_told_apart_from_life(tmp_path: Path) -> None:
    go = tmp_path / "go"
    home = Home(tmp_path).write({"slow": upstream("slow", "work", waits_for=go, grace=600)})
    async with serving(home) as manifold:
        assert await probe(manifold, "livez") == (200, {"status": "alive"})
        status, body = await probe(manifold, "readyz")
        assert (status, body["status"]) == (503, "starting")
        appear(go)
        await manifold.event("upstream.state", upstream="slow", new="ready")
        status, body = await probe(manifold, "readyz")
        assert (status, body["status"], body["upstreams"]) == (200, "ready", {"ready": 1})


async def probe(manifold: Manifold, path: str) -> tuple[int, Json]:
    async with aiohttp.ClientSession() as http, http.get(f"{manifold.base}/{path}") as answer:
        return answer.status, await answer.json()


async def test_a_broken_upstream_does_not_keep_it_from_being_ready(tmp_path: Path) -> None:
    async with serving(Home(tmp_path).write({"bad": {"command": "no-such-thing", "grace": 600}})) as manifold:
        await manifold.event("upstream.state", upstream="bad", new="backing_off")
        assert (await probe(manifold, "readyz"))[0] == 200


async def test_a_taken_port_is_told_and_nothing_is_started(tmp_path: Path) -> None:
    marker = tmp_path / "started"
    home = Home(tmp_path).write({"a": {"command": "touch", "args": [str(marker)]}})
    with socket.create_server(("127.0.0.1", 0)) as taken:
        done = await home.run("serve", "--port", str(taken.getsockname()[1]))
    assert done.returncode == 1
    assert done.stdout == ""
    assert "cannot listen on 127.0.0.1" in done.stderr
    assert not marker.exists()


async def test_a_wrong_configuration_is_told_and_nothing_is_started(tmp_path: Path) -> None:
    marker = tmp_path / "started"
    home = Home(tmp_path).write({"a": {"command": "touch", "args": [str(marker)]}, "b": {"comand": "x"}})
    done = await home.run("serve", "--stdio")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "command" in done.stderr
    assert "manifold.json" in done.stderr
    assert not marker.exists()


async def test_the_path_of_the_endpoint_can_be_changed(tmp_path: Path) -> None:
    home = Home(tmp_path).write({"a": upstream("a", "work")}, server={"path": "/tools"})
    async with serving(home) as manifold:
        assert manifold.url.endswith("/tools")
        assert await names(manifold.url) == {"mcp_a_work"}


async def test_many_clients_at_once_over_every_http_door(tmp_path: Path) -> None:
    home = Home(tmp_path).write({"a": upstream("a", "work")})
    answers: list[Json] = []

    async def use(manifold: Manifold, mode: str, number: int) -> None:
        async with mcp.Client(manifold.url, mode=mode) as client:
            answer = await client.call_tool("mcp_a_work", {"number": number})
            answers.append((answer.structured_content or {})["arguments"])

    async with serving(home) as manifold:
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as tasks:
                for number in range(20):
                    tasks.start_soon(use, manifold, ("legacy", "auto")[number % 2], number)
    assert sorted(one["number"] for one in answers) == list(range(20))


async def test_a_stdio_door_serves_an_agent_that_there_is(tmp_path: Path) -> None:
    home = Home(tmp_path).write({}, agents={"reader": {}})
    done = await home.run("serve", "--stdio", "--agent", "writer")
    assert done.returncode == 1
    assert "There is no agent 'writer'" in done.stderr
    async with stdio(home, "--agent", "reader") as wire:
        assert (await wire.open())["serverInfo"]["name"] == "manifold"
