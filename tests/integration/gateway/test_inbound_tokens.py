"""API tokens of a running Manifold: made, used, revoked; and what listening for everybody needs."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import anyio
import httpx2
import mcp
import pytest
from mcp.client.streamable_http import streamable_http_client

from tests.support.manifold import PATIENCE, Home, Json, Manifold, Wire, serving
from tests.support.scripted import appear, upstream

HELLO: Final[Json] = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": Wire.HELLO}
LIST: Final[Json] = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}
LISTEN: Final[Json] = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "subscriptions/listen",
    "params": {
        "notifications": {"toolsListChanged": True},
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
        },
    },
}
MODERN: Final = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "subscriptions/listen"}
ANYWHERE: Final = "0.0.0.0"  # noqa: S104 - what is to be refused
ACCEPT: Final = {"Accept": "application/json, text/event-stream"}


def home_of(folder: Path, **sections: Any) -> Home:
    upstreams = {"files": upstream("files", "read", "echo"), "notes": upstream("notes", "create")}
    agents = {"reader": {"servers": ["files"]}, "notes": {"servers": ["notes"]}}
    return Home(folder).write(upstreams, agents=agents, **sections)


async def token(home: Home, *arguments: str) -> str:
    made = await home.run("token", "create", *arguments)
    assert made.returncode == 0, made.stderr
    return made.stdout.strip()


async def posted(url: str, token: str, message: Json = HELLO, **headers: str) -> httpx2.Response:
    async with httpx2.AsyncClient(timeout=PATIENCE) as client:
        return await client.post(url, json=message, headers={**ACCEPT, "Authorization": f"Bearer {token}", **headers})


@asynccontextmanager
async def stream(url: str, token: str, message: Json | None = None, **headers: str) -> AsyncIterator[httpx2.Response]:
    """An answer that goes on; given when it has begun."""
    credential = {"Authorization": f"Bearer {token}"} if token else {}
    with anyio.fail_after(PATIENCE):
        async with httpx2.AsyncClient(timeout=PATIENCE) as client:
            method = "GET" if message is None else "POST"
            async with client.stream(method, url, json=message, headers={**ACCEPT, **credential, **headers}) as answer:
                assert answer.status_code == 200
                yield answer


async def ended(answer: httpx2.Response) -> bytes:
    return b"".join([chunk async for chunk in answer.aiter_bytes()])


async def tools(manifold: Manifold, token: str) -> set[str]:
    async with (
        httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=PATIENCE) as http,
        mcp.Client(streamable_http_client(manifold.url, http_client=http)) as client,
    ):
        return {tool.name for tool in (await client.list_tools()).tools}


async def test_a_token_is_good_as_soon_as_it_is_made_and_then_everybody_needs_one(tmp_path: Path) -> None:
    home = home_of(tmp_path)
    async with serving(home) as manifold:
        await manifold.banner()
        before = await posted(manifold.url, "none")
        assert before.status_code == 200
        async with stream(f"{manifold.base}/sse", "") as anonymous:
            reader = await token(home, "ann", "--agent", "reader")
            assert await tools(manifold, reader) == {"read", "echo"}
            both = await token(home, "both", "--agent", "reader", "--agent", "notes")
            assert await tools(manifold, both) == set()
            assert (await posted(manifold.url, "none")).status_code == 401
            about = {"Mcp-Session-Id": before.headers["mcp-session-id"]}
            assert (await posted(manifold.url, reader, LIST, **about)).status_code == 404
            await ended(anonymous)  # nobody may listen any longer who has not shown who it is


async def test_a_revoked_token_takes_its_sessions_and_streams_with_it(tmp_path: Path) -> None:
    home = home_of(tmp_path)
    async with serving(home) as manifold:
        await manifold.banner()
        ann, bob = await token(home, "ann"), await token(home, "bob")
        session = {"Mcp-Session-Id": (await posted(manifold.url, ann)).headers["mcp-session-id"]}
        await posted(manifold.url, ann, {"jsonrpc": "2.0", "method": "notifications/initialized"}, **session)
        async with (
            stream(manifold.url, ann, None, **session) as hearing,
            stream(f"{manifold.base}/sse", ann) as legacy,
            stream(manifold.url, ann, LISTEN, **MODERN) as listening,
            stream(manifold.url, bob, LISTEN, **MODERN) as others,
        ):
            await home.run("token", "revoke", "ann")
            assert (await posted(manifold.url, ann, LIST, **session)).status_code == 401
            for cut in (hearing, legacy, listening):
                await ended(cut)
            assert not others.is_closed
            assert (await posted(manifold.url, bob)).status_code == 200


@pytest.mark.parametrize("express", [True, False])
async def test_a_call_that_is_running_ends_when_its_token_is_revoked(tmp_path: Path, express: bool) -> None:
    home = home_of(tmp_path, server={"express": express}, log={"format": "json", "access": "all"})
    async with serving(home) as manifold:
        await manifold.banner()
        ann = await token(home, "ann")
        session = {"Mcp-Session-Id": (await posted(manifold.url, ann)).headers["mcp-session-id"]}
        await posted(manifold.url, ann, {"jsonrpc": "2.0", "method": "notifications/initialized"}, **session)
        call = {"name": "mcp_files_echo", "arguments": {"do": "wait", "text": "here", "file": str(tmp_path / "over")}}
        asked: Json = {"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": call}
        with anyio.fail_after(PATIENCE):
            async with anyio.create_task_group() as tasks:
                answers: list[httpx2.Response] = []

                async def ask() -> None:
                    answers.append(await posted(manifold.url, ann, asked, **session))

                tasks.start_soon(ask)
                await manifold.event("upstream.stderr", line="here")
                await home.run("token", "revoke", "ann")
        assert b'"result"' not in answers[0].content
        await manifold.event("call.done", outcome="cancelled", principal="ann")
        appear(tmp_path / "over")


async def test_the_list_of_tokens_has_everything_but_the_tokens(tmp_path: Path) -> None:
    home = home_of(tmp_path)
    made = await token(home, "ann", "--agent", "reader", "--scope", "operator", "--expires", "30d")
    await token(home, "bob")
    await home.run("token", "revoke", "bob")
    listed = await home.run("token", "list")
    assert made.split("_", 2)[2] not in listed.stdout
    assert "ann  for agent reader, scope operator, good until" in listed.stdout
    assert "bob  for the store, revoked" in listed.stdout
    ann, bob = json.loads((await home.run("token", "list", "--json")).stdout)
    assert (ann["name"], ann["agents"], ann["scopes"]) == ("ann", ["reader"], ["operator"])
    assert bob["revoked"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["create", "x", "--agent", "nobody"], "there is no agent 'nobody'"),
        (["create", "x", "--expires", "soon"], "is not a duration"),
        (["revoke", "x"], "there is no token 'x'"),
    ],
)
async def test_what_cannot_be_done_with_tokens_is_said(tmp_path: Path, arguments: list[str], said: str) -> None:
    done = await home_of(tmp_path).run("token", *arguments)
    assert done.returncode == 1
    assert said in done.stderr


async def test_the_operators_scope_shows_what_concerns_all(tmp_path: Path) -> None:
    home = home_of(tmp_path)
    async with serving(home) as manifold:
        operator = await token(home, "root", "--agent", "reader", "--scope", "operator")
        async with httpx2.AsyncClient(base_url=manifold.base, timeout=PATIENCE) as client:
            shown = await client.get("/status.json", headers={"Authorization": f"Bearer {operator}"})
        assert shown.status_code == 200


async def test_nobody_listens_for_everybody_without_credentials(tmp_path: Path) -> None:
    home = home_of(tmp_path, server={"host": ANYWHERE, "port": 0})
    refused = await home.run("serve", "--http")
    assert refused.returncode == 1
    assert f"{home.config}: server.host: {ANYWHERE} is reached from other machines" in refused.stderr
    assert "mcp-manifold token create" in refused.stderr
    assert "--insecure" in refused.stderr
    async with serving(home, "--insecure") as manifold:
        assert (await posted(manifold.url.replace(ANYWHERE, "127.0.0.1"), "none")).status_code == 200
    made = await token(home, "ann")
    async with serving(home) as manifold:
        url = manifold.url.replace(ANYWHERE, "127.0.0.1")
        assert (await posted(url, made)).status_code == 200
        assert (await posted(url, "none")).status_code == 401


async def test_a_reload_that_would_open_the_doors_is_rejected(tmp_path: Path) -> None:
    closed: Json = {"server": {"host": ANYWHERE, "port": 0}, "log": {"format": "json"}}
    home = home_of(tmp_path, **closed, auth={"tokens": ["0123456789abcdef0123"]})
    async with serving(home) as manifold:
        home_of(tmp_path, **closed)
        await manifold.event("config.rejected")
        url = manifold.url.replace(ANYWHERE, "127.0.0.1")
        assert (await posted(url, "none")).status_code == 401
        assert (await posted(url, "0123456789abcdef0123")).status_code == 200


async def told(home: Home, *arguments: str, **env: str) -> Json:
    """What ``connect`` answers to ``initialize``."""
    lines = json.dumps({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": Wire.HELLO}).encode() + b"\n"
    command = [*home.command("connect")[:4], *arguments]
    with anyio.fail_after(PATIENCE):
        done = await anyio.run_process(command, input=lines, cwd=home.folder, env=home.env(**env), check=False)
    return dict(json.loads(done.stdout)) if done.stdout else {"said": done.stderr.decode()}


async def test_connect_and_status_show_a_token_from_a_file_or_the_environment(tmp_path: Path) -> None:
    home = home_of(tmp_path)
    async with serving(home) as manifold:
        await manifold.banner()
        made = await token(home, "ann")
        file = tmp_path / "token"
        file.write_text(made + "\n")
        file.chmod(0o600)
        assert "result" in await told(home, "--url", manifold.url, "--token-file", str(file))
        assert "result" in await told(home, "--url", manifold.url, MCP_MANIFOLD_TOKEN=made)
        refused = await told(home, "--url", manifold.url)
        assert "asks for a credential" in refused["error"]["message"]
        assert "--token-file" in refused["error"]["message"]
        shown = await home.run("status", "--url", manifold.base, "--token-file", str(file))
        assert shown.returncode == 0, shown.stderr
        hidden = await home.run("status", "--url", manifold.base)
        assert hidden.returncode == 1
        assert "asks for a credential" in hidden.stderr
        file.chmod(0o644)
        for found in (await told(home, "--url", manifold.url, "--token-file", str(file)),):
            assert "others may read it" in found["said"]
