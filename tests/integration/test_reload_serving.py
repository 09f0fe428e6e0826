"""Hot reload of the real command: signals, options, and what downstreams hear."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import AnyByteReceiveStream, Process
from anyio.streams.buffered import BufferedByteReceiveStream

from tests.support.reloading import PATIENCE, put, server

ROOT = Path(__file__).parents[2]


class Served:
    """``mcp-manifold serve --stdio`` and a downstream of it that speaks 2025-11-25."""

    def __init__(self, process: Process) -> None:
        assert process.stdin is not None
        self.process = process
        self._stdin = process.stdin
        self._stdout = _lines(process.stdout)
        self._stderr = _lines(process.stderr)
        self._next = 0
        self.notified: list[str] = []

    async def start(self) -> None:
        about = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
        await self.request("initialize", about)
        await self._send({"method": "notifications/initialized"})

    async def request(self, method: str, params: dict[str, Any] | None = None) -> Any:
        self._next += 1
        number = self._next
        await self._send({"id": number, "method": method, "params": params or {}})
        with anyio.fail_after(PATIENCE):
            while (message := await self._heard()).get("id") != number:
                pass
        return message["result"]

    async def tools(self) -> list[str]:
        return [tool["name"] for tool in (await self.request("tools/list"))["tools"]]

    async def notification(self) -> str:
        """Wait for the next notification."""
        told = len(self.notified)
        with anyio.fail_after(PATIENCE):
            while len(self.notified) == told:
                await self._heard()
        return self.notified[-1]

    async def told_of(self, tools: list[str]) -> None:
        """Wait for a notification after which these are the tools."""
        await self.notification()
        while await self.tools() != tools:
            await self.notification()

    async def event(self, name: str) -> dict[str, Any]:
        """Wait for an event in the log."""
        with anyio.fail_after(PATIENCE):
            async for line in self._stderr:
                with suppress(ValueError):
                    if (event := json.loads(line)).get("event") == name:
                        return dict(event)
        raise AssertionError(f"the log ended before {name}")

    async def _send(self, message: dict[str, Any]) -> None:
        await self._stdin.send(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    async def _heard(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(await anext(self._stdout))
        if "id" not in message:
            self.notified.append(message["method"])
        return message


async def _lines(stream: AnyByteReceiveStream | None) -> AsyncIterator[bytes]:
    assert stream is not None
    buffered = BufferedByteReceiveStream(stream)
    with suppress(anyio.IncompleteRead):
        while True:
            yield await buffered.receive_until(b"\n", 1 << 20)


@asynccontextmanager
async def served(file: Path, *options: str) -> AsyncIterator[Served]:
    command = [sys.executable, "-m", "proxy", "serve", "--stdio", "--config", str(file), *options]
    env = {**os.environ, "XDG_STATE_HOME": str(file.parent / "state")}
    process = await anyio.open_process(command, cwd=ROOT, env=env, start_new_session=True)
    try:
        manifold = Served(process)
        await manifold.start()
        yield manifold
    finally:
        with anyio.CancelScope(shield=True):
            with suppress(ProcessLookupError):
                process.terminate()
            with anyio.move_on_after(10):
                await process.wait()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            await process.aclose()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "manifold.json"
    put(path, {"agents": {"coder": {"servers": ["a"]}}}, a=server("a1"), b=server("b1"))
    return path


async def test_a_downstream_is_told_once_when_the_file_changes(file: Path) -> None:
    async with served(file) as manifold:
        assert await manifold.tools() == ["mcp_a_who", "mcp_a_hold", "mcp_b_who", "mcp_b_hold"]
        put(file, {"naming": {"pattern": "{server}.{tool}"}}, a=server("a2", "other"), c=server("c1"))
        await manifold.told_of(["a_other", "c_who", "c_hold"])
        told = len(manifold.notified)
        put(file, a=server("a3", "last"), d=server("d1"), c=server("c1", tools=["who"]))
        await manifold.told_of(["mcp_a_last", "mcp_d_who", "mcp_d_hold", "mcp_c_who"])
        assert manifold.notified[told:] == ["notifications/tools/list_changed"]


async def test_an_agent_is_told_when_only_its_view_changes(file: Path) -> None:
    async with served(file, "--agent", "coder") as manifold:
        assert await manifold.tools() == ["who", "hold"]
        put(file, {"agents": {"coder": {"tools": ["who"]}}}, a=server("a1"), b=server("b1"))
        await manifold.told_of(["mcp_a_who", "mcp_b_who"])


async def test_the_agent_that_is_served_cannot_be_taken_away(file: Path) -> None:
    async with served(file, "--agent", "coder") as manifold:
        put(file, a=server("a1"))
        assert (await manifold.event("config.rejected"))["path"] == "agents.coder"
        assert await manifold.tools() == ["who", "hold"]


async def test_sighup_reloads_also_where_files_are_not_watched(file: Path) -> None:
    async with served(file, "--no-watch") as manifold:
        assert len(await manifold.tools()) == 4
        put(file, a=server("a2"))
        manifold.process.send_signal(signal.SIGHUP)
        assert (await manifold.event("config.applied"))["trigger"] == ["SIGHUP"]
        assert await manifold.tools() == ["mcp_a_who", "mcp_a_hold"]
        manifold.process.send_signal(signal.SIGHUP)
        assert (await manifold.event("config.unchanged"))["level"] == "info"


async def test_another_log_level_takes_effect(file: Path) -> None:
    async with served(file) as manifold:
        await manifold.tools()
        put(file, {"log": {"level": "debug"}}, a=server("a1"))
        assert (await manifold.event("config.applied"))["log"] is True
        put(file, {"log": {"level": "debug"}}, a=server("a1", enabled=True))
        assert (await manifold.event("config.unchanged"))["level"] == "debug"


def test_manifold_ends_with_the_terminal_in_which_it_was_started(file: Path) -> None:
    leader, terminal = os.openpty()
    # The child becomes the leader of a session which this terminal controls, as a shell would make it.
    script = (
        "import fcntl, os, sys, termios; fcntl.ioctl(0, termios.TIOCSCTTY, 0); os.execv(sys.executable, sys.argv[1:])"
    )
    arguments = [sys.executable, "-m", "proxy", "serve", "--port", "0", "--config", str(file)]
    with subprocess.Popen(
        [sys.executable, "-c", script, *arguments],
        cwd=ROOT,
        env={**os.environ, "XDG_STATE_HOME": str(file.parent / "state")},
        stdin=terminal,
        stderr=subprocess.PIPE,
        start_new_session=True,
    ) as process:
        try:
            os.close(terminal)
            assert process.stderr is not None
            assert any(b'"new": "ready"' in line for line in process.stderr)
            os.close(leader)
            assert b"SIGTERM" in process.stderr.read()
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()
