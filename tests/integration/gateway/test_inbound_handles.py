"""Handles are worth nothing in the hands of another principal: states, parked calls, tasks, events, cancellations."""

import json
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final

import anyio
import httpx2
import pytest

from tests.support.manifold import PATIENCE, ROOT, Home, Json, Manifold, Wire, serving
from tests.support.scripted import appear, upstream

ANN: Final = "ann-0123456789abcdef"
EVE: Final = "eve-0123456789abcdef"
META: Final = "io.modelcontextprotocol/"
UNKNOWN_STATE: Final = {"reason": "invalid_request_state"}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def manifold(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Manifold]:
    asking = str(ROOT / "tests" / "support" / "asking_server.py")
    tasks = str(ROOT / "tests" / "conformance" / "tasks_fixture.py")
    upstreams = {
        "old": {"command": sys.executable, "args": [asking], "era": "handshake", "grace": "20s"},
        "jobs": {"command": sys.executable, "args": [tasks, "--stdio"], "grace": "20s"},
        "files": upstream("files", "echo"),
    }
    # Both may see the same, and differ in nothing but their credential.
    agents = {"both": {"tokens": [ANN, EVE]}}
    home = Home(tmp_path_factory.mktemp("handles")).write(upstreams, agents=agents, log={"format": "json"})
    async with serving(home) as running:
        await running.banner()
        yield running


async def modern(url: str, token: str, method: str, params: Json, name: str = "", **able: Any) -> Json:
    """Send a request of the modern era; the last message of the answer."""
    meta = {
        f"{META}protocolVersion": "2026-07-28",
        f"{META}clientCapabilities": able,
        f"{META}clientInfo": {"name": "t", "version": "1"},
    }
    headers = {
        "Accept": "application/json, text/event-stream",
        "Authorization": f"Bearer {token}",
        "MCP-Protocol-Version": "2026-07-28",
        "Mcp-Method": method,
        "Mcp-Name": name or str(params.get("name", "")),
    }
    message = {"jsonrpc": "2.0", "id": 1, "method": method, "params": {**params, "_meta": meta}}
    async with httpx2.AsyncClient(timeout=PATIENCE) as client:
        answer = await client.post(url, json=message, headers=headers)
    events = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: {")]
    return dict(json.loads(events[-1] if events else answer.text))


async def test_a_state_and_the_parked_call_behind_it_are_their_callers(manifold: Manifold) -> None:
    call: Json = {"name": "mcp_old_greet", "arguments": {}}
    able: Any = {"elicitation": {"form": {}}}
    asked = (await modern(manifold.url, ANN, "tools/call", call, **able))["result"]
    assert asked["resultType"] == "input_required"
    (key,) = asked["inputRequests"]
    answers = {key: {"action": "accept", "content": {"value": "Ann"}}}
    again = {**call, "requestState": asked["requestState"], "inputResponses": answers}
    stolen = await modern(manifold.url, EVE, "tools/call", again, **able)
    assert stolen["error"]["data"] == UNKNOWN_STATE
    garbage = await modern(manifold.url, EVE, "tools/call", {**again, "requestState": "x"}, **able)
    assert garbage["error"] == stolen["error"]
    done = await modern(manifold.url, ANN, "tools/call", again, **able)
    assert done["result"]["content"][0]["text"] == "Hello, Ann!"


async def test_a_state_is_of_the_agent_as_which_it_was_made(manifold: Manifold) -> None:
    call: Json = {"name": "mcp_old_greet", "arguments": {}}
    able: Any = {"elicitation": {"form": {}}}
    asked = (await modern(manifold.agent("both"), ANN, "tools/call", call, **able))["result"]
    again = {**call, "requestState": asked["requestState"], "inputResponses": {}}
    same = await modern(manifold.url, ANN, "tools/call", again, **able)
    assert same["result"]["resultType"] == "input_required"  # by URL or by credential, it is the same agent


async def test_a_task_is_its_callers(manifold: Manifold) -> None:
    able: Any = {"extensions": {f"{META}tasks": {}}}
    call: Json = {"name": "slow_compute", "arguments": {"seconds": 0}}
    task = (await modern(manifold.url, ANN, "tools/call", call, **able))["result"]["taskId"]
    for method in ("tasks/get", "tasks/cancel"):
        stolen = await modern(manifold.url, EVE, method, {"taskId": task}, task, **able)
        unknown = await modern(manifold.url, EVE, method, {"taskId": "x"}, "x", **able)
        assert stolen["error"] == unknown["error"]
    assert "result" in await modern(manifold.url, ANN, "tasks/get", {"taskId": task}, task, **able)


class Session:
    """A session of the handshake era, spoken by hand."""

    def __init__(self, url: str, token: str, session: str = "") -> None:
        self.url = url
        self.headers = {"Authorization": f"Bearer {token}", "Accept": "application/json, text/event-stream"}
        if session:
            self.headers["Mcp-Session-Id"] = session

    async def open(self) -> "Session":
        hello = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": Wire.HELLO}
        self.headers["Mcp-Session-Id"] = (await self.post(hello)).headers["mcp-session-id"]
        await self.post({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return self

    async def post(self, message: Any, **headers: str) -> httpx2.Response:
        async with httpx2.AsyncClient(timeout=PATIENCE) as client:
            return await client.post(self.url, json=message, headers={**self.headers, **headers})

    def taken_by(self, token: str) -> "Session":
        """The same session in another's hands."""
        return Session(self.url, token, self.headers["Mcp-Session-Id"])


def call(number: Any, **arguments: Any) -> Json:
    params = {"name": "echo", "arguments": arguments}
    return {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}


async def test_a_call_can_be_cancelled_by_its_caller_only(manifold: Manifold, tmp_path: Path) -> None:
    session = await Session(manifold.url, ANN).open()
    over = tmp_path / "over"
    cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "slow"}}
    answers: list[httpx2.Response] = []

    async def ask() -> None:
        answers.append(await session.post(call("slow", do="wait", text="cancellable", file=str(over))))

    with anyio.fail_after(PATIENCE):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(ask)
            await manifold.event("upstream.stderr", line="cancellable")
            assert (await session.taken_by(EVE).post(cancel)).status_code == 404
            appear(over)
    assert b'"structuredContent"' in answers[0].content


async def test_events_are_told_to_the_owner_of_their_session_only(manifold: Manifold, tmp_path: Path) -> None:
    ann, eve = await Session(manifold.url, ANN).open(), await Session(manifold.url, EVE).open()
    over = tmp_path / "over"
    asked = call("mine", do="wait", text="resumable", file=str(over))
    last = ""
    with anyio.fail_after(PATIENCE):
        async with httpx2.AsyncClient(timeout=PATIENCE) as client:
            async with client.stream("POST", manifold.url, json=asked, headers=ann.headers) as broken:
                async for line in broken.aiter_lines():
                    if line.startswith("id: "):
                        last = line.removeprefix("id: ")
                        break
            appear(over)
            for thief in (ann.taken_by(EVE), eve):
                headers = {**thief.headers, "Last-Event-ID": last}
                async with client.stream("GET", manifold.url, headers=headers) as answer:
                    if answer.status_code == 200:  # a stream of its own, on which nothing of the other comes
                        assert thief is eve
                        continue
                    assert b"structuredContent" not in await answer.aread()
            async with client.stream("GET", manifold.url, headers={**ann.headers, "Last-Event-ID": last}) as answer:
                async for line in answer.aiter_lines():
                    if "structuredContent" in line:
                        return
    raise AssertionError(f"the owner did not get its answer after event {last}")


async def test_a_batch_on_anothers_session_is_refused(manifold: Manifold) -> None:
    session = Session(manifold.url, ANN)
    old = {**Wire.HELLO, "protocolVersion": "2025-03-26"}
    hello = await session.post({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": old})
    session.headers["Mcp-Session-Id"] = hello.headers["mcp-session-id"]
    await session.post({"jsonrpc": "2.0", "method": "notifications/initialized"})
    batch = [call(1), call(2)]
    assert len((await session.post(batch)).json()) == 2
    stolen = await session.taken_by(EVE).post(batch)
    assert b"structuredContent" not in stolen.content
    assert stolen.status_code >= 400
