"""``mcp-manifold connect``: many windows on one Manifold that runs in the background."""

import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import anyio.lowlevel
import anyio.to_thread
import psutil
import pytest

from tests.support.manifold import PATIENCE, ROOT, Home, Json, Wire, serving, started
from tests.support.scripted import upstream

CLIENT = {"name": "wire", "version": "1"}
ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": CLIENT,
}


def notes(home: Home) -> list[Path]:
    return sorted((home.state / "mcp-manifold" / "running").glob("*.json"))


def served_by(home: Home) -> Json:
    found: Json = json.loads(notes(home)[0].read_text())
    return found


async def ended(pid: int, number: signal.Signals = signal.SIGTERM) -> None:
    process = psutil.Process(pid)
    process.send_signal(number)
    await anyio.to_thread.run_sync(process.wait, PATIENCE)


@asynccontextmanager
async def background(home: Home) -> AsyncIterator[Home]:
    """A home whose background Manifold is ended with the block."""
    try:
        yield home
    finally:
        for note in notes(home):
            with suppress(psutil.NoSuchProcess), anyio.CancelScope(shield=True):
                await ended(json.loads(note.read_text())["pid"])


@asynccontextmanager
async def window(home: Home, *arguments: str) -> AsyncIterator[Wire]:
    command = [sys.executable, "-m", "proxy", "connect", *(arguments or ("--config", str(home.config)))]
    async with started(command, home.folder, home.env()) as front:
        yield Wire(front)


async def test_two_windows_share_the_manifold_that_the_first_one_started(tmp_path: Path) -> None:
    async with background(Home(tmp_path).write({"a": upstream("a", "work")})) as home:
        async with window(home) as one, window(home) as other:
            for wire in (one, other):
                assert (await wire.open())["serverInfo"]["name"] == "manifold"
            pids = [(await wire.call("mcp_a_work"))["structuredContent"]["pid"] for wire in (one, other)]
            assert pids[0] == pids[1]
            assert [await wire.close() for wire in (one, other)] == [0, 0]
        assert len(notes(home)) == 1
        assert psutil.pid_exists(served_by(home)["pid"])


async def test_nobody_else_may_read_where_it_runs(tmp_path: Path) -> None:
    async with background(Home(tmp_path).write({})) as home, window(home) as wire:
        await wire.open()
        assert oct(notes(home)[0].stat().st_mode & 0o777) == "0o600"
        assert oct(notes(home)[0].parent.stat().st_mode & 0o777) == "0o700"


async def test_a_manifold_that_serves_the_configuration_already_is_used_and_its_note_goes_with_it(
    tmp_path: Path,
) -> None:
    home = Home(tmp_path).write({"a": upstream("a", "work")})
    async with serving(home) as manifold:
        await manifold.banner()
        async with window(home) as wire:
            await wire.open()
            await wire.call("mcp_a_work")
            assert served_by(home)["pid"] == manifold.pid
            await wire.close()
    assert notes(home) == []


async def test_an_agent_sees_what_it_may(tmp_path: Path) -> None:
    home = Home(tmp_path).write(
        {"a": upstream("a", "work"), "b": upstream("b", "rest")}, agents={"x": {"servers": ["b"]}}
    )
    async with serving(home) as manifold, window(home, "--url", manifold.url, "--agent", "x") as wire:
        await wire.open()
        assert [tool["name"] for tool in (await wire.request("tools/list"))["tools"]] == ["rest"]


async def test_a_restarted_manifold_is_taken_up_again_and_the_client_told_to_list(tmp_path: Path) -> None:
    async with background(Home(tmp_path).write({"a": upstream("a", "work")})) as home, window(home) as wire:
        await wire.open()
        await wire.call("mcp_a_work")
        first = served_by(home)["pid"]
        await ended(first, signal.SIGKILL)
        assert "isError" not in await wire.call("mcp_a_work")
        assert served_by(home)["pid"] != first
        await wire.heard("notifications/tools/list_changed")


async def test_a_call_that_was_cut_off_is_not_sent_twice(tmp_path: Path) -> None:
    home = Home(tmp_path).write({"a": upstream("a", "work")})
    async with background(home), window(home) as wire:
        await wire.open()
        go_on = tmp_path / "go_on"
        await wire.call("mcp_a_work")
        await wire.send(
            {
                "id": "cut",
                "method": "tools/call",
                "params": {"name": "mcp_a_work", "arguments": {"do": "wait", "file": str(go_on)}},
            }
        )
        await wire.request("ping")
        await ended(served_by(home)["pid"], signal.SIGKILL)
        while (message := await wire.next()).get("id") != "cut":
            pass
        assert "may have been executed" in message["error"]["message"]
        go_on.touch()  # the upstream, which nobody is left to end, would wait for ever


async def test_list_changes_arrive_without_a_request(tmp_path: Path) -> None:
    async with background(Home(tmp_path).write({"a": upstream("a", "work")})) as home, window(home) as wire:
        await wire.open()
        await wire.request("tools/list")
        await wire.call("mcp_a_work", do="offer", tool="more")
        await wire.heard("notifications/tools/list_changed")
        listed = await wire.request("tools/list")
        assert [tool["name"] for tool in listed["tools"]] == ["mcp_a_work", "mcp_a_more"]


async def test_a_question_of_a_server_reaches_the_client_and_its_answer_the_server(tmp_path: Path) -> None:
    peer = {
        "command": sys.executable,
        "args": [str(ROOT / "tests" / "support" / "link_fastmcp.py"), "stdio"],
        "era": "handshake",
    }
    async with background(Home(tmp_path).write({"a": peer})) as home, window(home) as wire:
        await wire.request("initialize", {**Wire.HELLO, "capabilities": {"elicitation": {}}})
        await wire.send({"method": "notifications/initialized"})
        await wire.send({"id": "asks", "method": "tools/call", "params": {"name": "mcp_a_ask", "arguments": {}}})
        while (question := await wire.next()).get("method") != "elicitation/create":
            pass
        await wire.send({"id": question["id"], "result": {"action": "accept", "content": {"value": "Ada"}}})
        while (message := await wire.next()).get("id") != "asks":
            pass
        assert message["result"]["content"][0]["text"] == "accept: Ada"


async def test_the_modern_era_passes_with_its_headers(tmp_path: Path) -> None:
    annotated = {
        "name": "where",
        "inputSchema": {"type": "object", "properties": {"zone": {"type": "string", "x-mcp-header": "Zone"}}},
    }
    async with background(Home(tmp_path).write({"a": upstream("a", annotated)})) as home, window(home) as wire:
        assert "2026-07-28" in (await wire.request("server/discover", {"_meta": ENVELOPE}))["supportedVersions"]
        params = {"name": "mcp_a_where", "arguments": {"zone": "mitte süd"}, "_meta": ENVELOPE}
        called = await wire.request("tools/call", params)  # it never listed, so the front has to
        assert called["structuredContent"]["arguments"] == {"zone": "mitte süd"}
        assert called["resultType"] == "complete"


async def test_a_modern_cancellation_ends_the_call_and_nothing_else(tmp_path: Path) -> None:
    async with background(Home(tmp_path).write({"a": upstream("a", "work")})) as home, window(home) as wire:
        await wire.request("server/discover", {"_meta": ENVELOPE})
        waiting = {"name": "mcp_a_work", "arguments": {"do": "wait", "file": str(tmp_path / "go")}, "_meta": ENVELOPE}
        await wire.send({"id": "gone", "method": "tools/call", "params": waiting})
        await wire.send({"method": "notifications/cancelled", "params": {"requestId": "gone"}})
        (tmp_path / "go").touch()
        await wire.request("tools/call", {"name": "mcp_a_work", "arguments": {}, "_meta": ENVELOPE})
        await wire.close()
        assert all('"gone"' not in line for line in wire.lines)


async def test_a_listener_hears_on_after_a_restart(tmp_path: Path) -> None:
    async with background(Home(tmp_path).write({"a": upstream("a", "work")})) as home, window(home) as wire:
        await wire.request("server/discover", {"_meta": ENVELOPE})
        wanted = {"notifications": {"toolsListChanged": True}, "_meta": ENVELOPE}
        await wire.send({"id": "listen", "method": "subscriptions/listen", "params": wanted})
        await wire.heard("notifications/subscriptions/acknowledged")
        await ended(served_by(home)["pid"], signal.SIGKILL)
        await wire.heard("notifications/tools/list_changed")
        assert not [one for one in wire.notifications if one["method"].endswith("acknowledged")]


async def test_what_comes_in_pieces_is_put_together_and_what_is_no_json_is_answered(tmp_path: Path) -> None:
    async with background(Home(tmp_path).write({})) as home, window(home) as wire:
        assert wire.manifold.process.stdin is not None
        for piece in (
            b'{"jsonrpc":"2.0","id":',
            b'7,"method":"ini',
            b'tialize","params":',
            json.dumps(Wire.HELLO).encode(),
        ):
            await wire.manifold.process.stdin.send(piece)
            await anyio.lowlevel.checkpoint()
        await wire.manifold.process.stdin.send(b"}\nnonsense\n")
        assert (await wire.next())["id"] == 7
        assert (await wire.next())["error"]["code"] == -32700


async def test_answers_that_are_on_their_way_come_before_the_end(tmp_path: Path) -> None:
    async with background(Home(tmp_path).write({"a": upstream("a", "work")})) as home, window(home) as wire:
        await wire.open()
        for number in range(5):
            await wire.send(
                {"id": f"n{number}", "method": "tools/call", "params": {"name": "mcp_a_work", "arguments": {}}}
            )
        assert await wire.close() == 0
        assert {json.loads(line).get("id") for line in wire.lines} >= {f"n{number}" for number in range(5)}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--url", "ftp://x"), "starts with http"),
        (("--config", "broken.json"), "could not be started"),
        (("--header", "nonsense", "--url", "http://127.0.0.1:1/mcp"), "NAME: VALUE"),
    ],
)
async def test_what_cannot_work_is_said_in_words(tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    home = Home(tmp_path)
    (tmp_path / "broken.json").write_text("{")
    with anyio.fail_after(PATIENCE):
        command = [sys.executable, "-m", "proxy", "connect", *arguments]
        done = await anyio.run_process(command, check=False, cwd=tmp_path, env=home.env(), stdin=None)
    assert (done.returncode, done.stdout) == (1, b"")
    assert words in done.stderr.decode()


async def test_an_idle_manifold_ends_when_it_was_told_to_and_the_next_request_starts_another(tmp_path: Path) -> None:
    home = Home(tmp_path).write({})
    async with background(home), window(home, "--config", str(home.config), "--idle-exit", "200ms") as wire:
        await wire.request("server/discover", {"_meta": ENVELOPE})
        first = served_by(home)["pid"]
        await anyio.to_thread.run_sync(_gone, first)
        assert notes(home) == []
        await wire.request("tools/list", {"_meta": ENVELOPE})
        assert served_by(home)["pid"] != first


def _gone(pid: int) -> None:
    handle = os.pidfd_open(pid)
    psutil.Process(pid).wait(PATIENCE)
    os.close(handle)
