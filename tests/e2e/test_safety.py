"""Safe by default: who may come in, what goes out, and what never does."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import anyio
import psutil
import pytest

from tests.support.link_http import serve
from tests.support.manifold import Home, Json, Manifold, serving, stdio
from tests.support.planted import CHILD_VARIABLE
from tests.support.recording import speaking
from tests.support.scripted import upstream

HELLO = {"jsonrpc": "2.0", "id": 1, "method": "initialize"}
CLIENT = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}}
ACCEPT = {"Accept": "application/json, text/event-stream"}
MINIMAL = {"HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER", "LANG", "LC_ALL", "TMPDIR"}
DOORS = ("/mcp", "/agents/reader/mcp", "/sse", "/messages/?session_id=1", "/agents/reader/sse", "/livez")


@asynccontextmanager
async def asking() -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(total=20)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        yield session


async def post(manifold: Manifold, method: str, params: Json, **headers: str) -> tuple[int, Json]:
    """One request with no session; the status and, if it went well, the JSON-RPC answer."""
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    async with asking() as http, http.post(manifold.url, json=body, headers={**ACCEPT, **headers}) as answer:
        text = await answer.text()
    data = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: {")]
    return answer.status, json.loads(data[-1] if data else text) if answer.ok else {}


async def status(manifold: Manifold, path: str, **headers: str) -> int:
    async with asking() as http, http.get(manifold.base + path, headers=headers) as answer:
        return answer.status


# -- who may come in -------------------------------------------------------------------------------------------------


async def test_it_listens_on_loopback_only(tmp_path: Path) -> None:
    async with serving(Home(tmp_path).write({})) as manifold:
        listening = [one for one in psutil.Process(manifold.pid).net_connections() if one.status == "LISTEN"]
        assert [one.laddr.ip for one in listening] == ["127.0.0.1"]


async def test_foreign_hosts_and_origins_are_refused_at_every_door(tmp_path: Path) -> None:
    home = Home(tmp_path).write({}, agents={"reader": {}})
    async with serving(home) as manifold:
        for path in DOORS:
            assert (path, await status(manifold, path, Host="evil.example")) == (path, 421)
            assert (path, await status(manifold, path, Origin="http://evil.example")) == (path, 403)
        assert await status(manifold, "/livez") == 200
        assert (await post(manifold, "initialize", CLIENT))[0] == 200


async def test_hosts_and_origins_can_be_allowed(tmp_path: Path) -> None:
    door = {"allowed_hosts": ["gate.example"], "allowed_origins": ["https://app.example"]}
    async with serving(Home(tmp_path).write({}, server=door)) as manifold:
        assert await status(manifold, "/livez", Host="gate.example") == 200
        assert await status(manifold, "/livez", Origin="https://app.example") == 200
        assert await status(manifold, "/livez", Host="evil.example") == 421
        assert await status(manifold, "/livez", Origin="https://evil.example") == 403


async def test_a_body_over_the_limit_is_refused(tmp_path: Path) -> None:
    async def chunks() -> AsyncIterator[bytes]:
        for _ in range(40):
            yield b" " * 1024

    async with serving(Home(tmp_path).write({}, server={"max_body": "32KiB"})) as manifold:
        small, _ = await post(manifold, "initialize", {**CLIENT, "_meta": {"x": "y" * 10_000}})
        large, _ = await post(manifold, "initialize", {**CLIENT, "_meta": {"x": "y" * 40_000}})
        assert (small, large) == (200, 413)
        headers = {**ACCEPT, "Content-Type": "application/json"}
        async with asking() as http, http.post(manifold.url, data=chunks(), headers=headers) as answer:
            assert answer.status == 413


async def test_a_line_over_the_limit_is_skipped_and_reported(tmp_path: Path) -> None:
    async with stdio(Home(tmp_path).write({}, server={"max_body": "32KiB"})) as wire:
        await wire.open()
        await wire.send({"id": 99, "method": "ping", "params": {"_meta": {"x": "y" * 40_000}}})
        assert await wire.request("ping") == {}
        told = await wire.manifold.event("downstream.frame_too_large")
        assert told["limit"] == 32 * 1024
        assert told["size"] > 40_000


async def test_a_message_over_the_limit_of_an_upstream_costs_that_call_only(tmp_path: Path) -> None:
    async with stdio(Home(tmp_path).write({"a": upstream("a", "work", max_message="32KiB")})) as wire:
        await wire.open()
        first = await wire.call("mcp_a_work", do="swell", size=10)
        large = await wire.call("mcp_a_work", do="swell", size=40_000)
        assert large["isError"] is True
        assert "32768" in large["content"][0]["text"]
        after = await wire.call("mcp_a_work")
        assert after["structuredContent"]["pid"] == first["structuredContent"]["pid"]


# -- what goes out ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["2025-11-25", "2026-07-28"])
async def test_no_inbound_header_reaches_an_upstream(tmp_path: Path, version: str) -> None:
    inbound = {"Authorization": "Bearer inbound-token", "Cookie": "inbound=1", "X-Foo": "inbound-foo"}
    inbound |= {"User-Agent": "inbound-agent", "X-Forwarded-For": "192.0.2.1", "Referer": "http://inbound.example/"}
    async with serve(speaking()) as site:
        own = {"url": site.url, "headers": {"Authorization": "Bearer configured"}, "grace": "20s"}
        async with serving(Home(tmp_path).write({"a": own})) as manifold:
            answer = await called(manifold, version, inbound)
            assert answer["result"]["content"] == [{"type": "text", "text": "work"}]
    call = site.of("tools/call")[0]
    assert call.headers["authorization"] == "Bearer configured"
    assert "inbound" not in json.dumps([dict(one.headers) for one in site.requests])
    assert {"cookie", "x-foo", "x-forwarded-for", "referer"}.isdisjoint(call.headers)


async def called(manifold: Manifold, version: str, headers: Json) -> Json:
    """Call the tool with some headers, in the era of a revision."""
    params: Json = {"name": "mcp_a_work", "arguments": {}}
    if version == "2026-07-28":
        meta = {"protocolVersion": version, "clientCapabilities": {}, "clientInfo": CLIENT["clientInfo"]}
        params["_meta"] = {f"io.modelcontextprotocol/{key}": value for key, value in meta.items()}
        more = {"MCP-Protocol-Version": version, "Mcp-Method": "tools/call", "Mcp-Name": "mcp_a_work"}
        code, answer = await post(manifold, "tools/call", params, **more, **headers)
        assert code == 200
        return answer
    async with asking() as http:
        hello = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": CLIENT}
        async with http.post(manifold.url, json=hello, headers={**ACCEPT, **headers}) as opened:
            session = {**ACCEPT, **headers, "Mcp-Session-Id": opened.headers["Mcp-Session-Id"]}
        async with http.post(manifold.url, json={"jsonrpc": "2.0", "method": INITIALIZED}, headers=session) as noted:
            assert noted.status == 202
    _, answer = await post(manifold, "tools/call", params, **session)
    return answer


INITIALIZED = "notifications/initialized"


async def test_a_child_gets_the_minimal_environment(tmp_path: Path) -> None:
    given = {"env": {"OWN": "own"}, "inherit_env": ["LET_THROUGH"]}
    home = Home(tmp_path).write({"a": upstream("a", "work", **given), "b": upstream("b", "work")})
    ours = {"AWS_SECRET_ACCESS_KEY": "no", "PYTHONHASHSEED": "0"}
    async with stdio(home, LET_THROUGH="yes", **ours) as wire:
        await wire.open()
        a, b = [
            (await wire.call(f"mcp_{name}_work", do="environment"))["structuredContent"]["done"] for name in ("a", "b")
        ]
    assert a["OWN"] == "own"
    assert a["LET_THROUGH"] == "yes"
    assert set(a) - MINIMAL - {"LC_CTYPE"} == {"OWN", "LET_THROUGH", CHILD_VARIABLE}
    assert set(b) - MINIMAL - {"LC_CTYPE"} == {CHILD_VARIABLE}


# -- what never goes out ---------------------------------------------------------------------------------------------

STRAY = """
import os, pathlib, sys, threading, time
def stray():
    folder = pathlib.Path(os.environ["STRAY"])
    while not (folder / "go").exists():
        time.sleep(0.01)
    os.write(1, b"stray write\\n")
    print("stray print", flush=True)
    os.system("echo stray child")
    sys.__stdout__.write("stray stdout\\n")
    sys.__stdout__.flush()
if "STRAY" in os.environ:
    threading.Thread(target=stray, daemon=True).start()
"""


async def test_standard_output_carries_the_protocol_only(tmp_path: Path) -> None:
    (tmp_path / "sitecustomize.py").write_text(STRAY)
    home = Home(tmp_path).write({"a": upstream("a", "work")})
    path = f"{tmp_path}:{home.env()['PYTHONPATH']}"
    async with stdio(home, STRAY=str(tmp_path), PYTHONPATH=path) as wire:
        await wire.open()
        (tmp_path / "go").touch()
        for kind in ("write", "print", "child", "stdout"):
            await wire.manifold.until(lambda kind=kind: f"stray {kind}" in wire.manifold.said)  # type: ignore[misc]
        await wire.call("mcp_a_work", do="babble", text="noise on a child's standard output")
        assert await wire.close() == 0
    assert len(wire.lines) >= 2
    assert all(json.loads(line)["jsonrpc"] == "2.0" for line in wire.lines)


async def test_logs_are_structured_events_on_standard_error(tmp_path: Path) -> None:
    async with stdio(Home(tmp_path).write({"a": upstream("a", "work")})) as wire:
        await wire.open()
        await wire.call("mcp_a_work", do="complain", text="careful")
        told = await wire.manifold.event("upstream.stderr", upstream="a", line="careful")
        assert await wire.close() == 0
    assert {"timestamp", "level"} <= told.keys()
    assert len(wire.manifold.events) == len(wire.manifold.said.splitlines())


async def test_secrets_are_in_no_log_no_report_and_no_error(tmp_path: Path) -> None:
    secret = "s3cr3t-Value-42"  # noqa: S105 - this is the test's own
    leaking: Any = upstream("leaking", "work", env={"API_TOKEN": secret})
    async with serve(refusing) as site:
        address = site.url.replace("://", f"://user:{secret}@")
        home = Home(tmp_path).write(
            {
                "leaking": leaking,
                "remote": {"url": site.url, "headers": {"Authorization": f"Bearer {secret}"}},
                "named": {"url": f"{address}?key={secret}"},
                "missing": {"command": "no-such-server", "env": {"API_TOKEN": secret}},
                "dying": {**leaking, "args": ["-S", "-c", "import os; raise SystemExit(os.environ['API_TOKEN'])"]},
            },
            log={"level": "debug"},
        )
        async with stdio(home) as wire:
            await wire.open()
            await wire.request("tools/list")
            await wire.call("mcp_leaking_work", do="complain", text=f"my token is {secret}")
            await wire.manifold.until(lambda: "my token is" in wire.manifold.said)
            refused = [await wire.call(f"{name}.work") for name in ("remote", "named", "missing", "dying")]
            for name in ("remote", "named"):
                await wire.manifold.event("upstream.state", upstream=name, new="auth_required")
        checked = await home.run("check")
    assert site.of("POST")[0].headers["authorization"]
    assert checked.returncode == 1
    told = (wire.manifold.said, json.dumps(refused), checked.stdout, checked.stderr)
    assert [secret in text for text in told] == [False] * len(told)
    assert all(secret not in path.read_text() for path in home.listings)


async def refusing(request: Any, response: Any) -> None:
    await anyio.lowlevel.checkpoint()
    # The server itself repeats what it was sent.
    response.json({"error": f"not allowed: {request.headers.get('authorization')}"}, 401)
