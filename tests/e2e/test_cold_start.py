"""What ``serve --stdio`` answers before it is up: what it answered the last time."""

import json
import sys
from pathlib import Path

from tests.support.manifold import Home, Json, Wire, started, stdio
from tests.support.scripted import upstream

ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "wire", "version": "1"},
}


def memories(home: Home) -> list[Path]:
    return sorted((home.state / "mcp-manifold" / "introductions").glob("*.json"))


async def remembered(home: Home, *arguments: str) -> Json:
    """Serve once, so that there is something to remember; returns the introduction."""
    async with stdio(home, *arguments) as wire:
        introduction = await wire.open()
        await wire.request("tools/list")
        await wire.call("mcp_a_work")
        await wire.close()
    assert len(memories(home)) == 1
    return introduction


def gated(home: Home) -> list[str]:
    """The command, in a process that imports nothing heavy until a file appears: what comes first came early."""
    gate = home.folder / "gate"
    code = f"""
import sys, builtins, pathlib, time
real = builtins.__import__
def slow(name, *rest, **more):
    if name in ("cyclopts", "proxy.cli.main"):
        while not pathlib.Path({str(gate)!r}).exists():
            time.sleep(0.01)
    return real(name, *rest, **more)
builtins.__import__ = slow
from proxy.cli import main
sys.exit(main(sys.argv[1:]))
"""
    return [sys.executable, "-c", code, "serve", "--stdio", "--config", str(home.config)]


async def test_a_second_start_answers_before_it_is_up_and_then_carries_on(tmp_path: Path) -> None:
    home = Home(tmp_path).write({"a": upstream("a", "work")})
    introduction = await remembered(home)
    async with started(gated(home), home.folder, home.env()) as process:
        wire = Wire(process)
        again = await wire.open()
        assert again["serverInfo"] == introduction["serverInfo"]
        assert [tool["name"] for tool in (await wire.request("tools/list"))["tools"]] == ["mcp_a_work"]
        await wire.send({"id": "late", "method": "tools/call", "params": {"name": "mcp_a_work", "arguments": {}}})
        (tmp_path / "gate").touch()
        assert (await wire.next())["id"] == "late"
        assert "isError" not in await wire.call("mcp_a_work")
        assert await wire.close() == 0
        answered = [json.loads(line).get("id") for line in wire.lines]
        assert answered == [1, 2, "late", 3]


async def test_the_modern_era_is_answered_early_too(tmp_path: Path) -> None:
    home = Home(tmp_path).write({"a": upstream("a", "work")})
    async with stdio(home) as wire:
        await wire.request("server/discover", {"_meta": ENVELOPE})
        await wire.request("tools/call", {"name": "mcp_a_work", "arguments": {}, "_meta": ENVELOPE})
        await wire.request("tools/list", {"_meta": ENVELOPE})
        await wire.close()
    async with started(gated(home), home.folder, home.env()) as process:
        wire = Wire(process)
        assert "2026-07-28" in (await wire.request("server/discover", {"_meta": ENVELOPE}))["supportedVersions"]
        listed = await wire.request("tools/list", {"_meta": ENVELOPE})
        assert [tool["name"] for tool in listed["tools"]] == ["mcp_a_work"]
        (tmp_path / "gate").touch()
        called = await wire.request("tools/call", {"name": "mcp_a_work", "arguments": {}, "_meta": ENVELOPE})
        assert called["resultType"] == "complete"


async def test_requests_in_pieces_and_all_at_once_are_each_answered_once(tmp_path: Path) -> None:
    home = Home(tmp_path).write({"a": upstream("a", "work")})
    await remembered(home)
    async with started(gated(home), home.folder, home.env()) as process:
        wire = Wire(process)
        stdin = process.process.stdin
        assert stdin is not None
        for byte in Wire.OPENING[:60].encode():
            await stdin.send(bytes([byte]))
        call = {"jsonrpc": "2.0", "id": 5, "method": "tools/call", "params": {"name": "mcp_a_work", "arguments": {}}}
        text = json.dumps(call)
        await stdin.send((Wire.OPENING[60:] + text[:30]).encode())
        assert (await wire.next())["id"] == 0
        (tmp_path / "gate").touch()
        await stdin.send((text[30:] + "\n").encode())
        assert (await wire.next())["id"] == 5
        await wire.close()
        assert [json.loads(line).get("id") for line in wire.lines] == [0, 5]


async def test_a_first_message_that_memory_does_not_know_is_left_to_the_real_door(tmp_path: Path) -> None:
    home = Home(tmp_path).write({"a": upstream("a", "work")})
    await remembered(home)
    async with stdio(home) as wire:
        hello = {**Wire.HELLO, "protocolVersion": "2025-06-18"}
        assert (await wire.request("initialize", hello))["protocolVersion"] == "2025-06-18"
        await wire.send({"method": "notifications/initialized"})
        assert "isError" not in await wire.call("mcp_a_work")


async def test_another_configuration_is_not_answered_for(tmp_path: Path) -> None:
    home = Home(tmp_path).write({"a": upstream("a", "work")}, server={"instructions": "first"})
    assert (await remembered(home))["instructions"] == "first"
    home.write({"a": upstream("a", "work")}, server={"instructions": "second"})
    async with stdio(home) as wire:
        assert (await wire.open())["instructions"] == "second"


async def test_a_variable_with_another_value_is_another_configuration(tmp_path: Path) -> None:
    home = Home(tmp_path).write({"a": upstream("a", "work")}, server={"instructions": "${env:WORDS}"})
    async with stdio(home, WORDS="first") as wire:
        assert (await wire.open())["instructions"] == "first"
        await wire.call("mcp_a_work")
        await wire.close()
    async with stdio(home, WORDS="second") as wire:
        assert (await wire.open())["instructions"] == "second"


async def test_a_list_that_was_out_of_date_is_corrected(tmp_path: Path) -> None:
    home = Home(tmp_path).write({"a": upstream("a", "work")})
    await remembered(home)
    (path,) = memories(home)
    memory = json.loads(path.read_text())
    (answers,) = memory["answers"].values()
    answers["tools/list"]["tools"] = []
    path.write_text(json.dumps(memory))
    async with stdio(home) as wire:
        await wire.open()
        assert (await wire.request("tools/list"))["tools"] == []
        await wire.heard("notifications/tools/list_changed")
        assert [tool["name"] for tool in (await wire.request("tools/list"))["tools"]] == ["mcp_a_work"]


async def test_an_early_end_of_input_ends_the_process(tmp_path: Path) -> None:
    home = Home(tmp_path).write({"a": upstream("a", "work")})
    await remembered(home)
    async with stdio(home) as wire:
        await wire.open()
        assert await wire.close() == 0


async def test_a_damaged_memory_is_as_good_as_none(tmp_path: Path) -> None:
    home = Home(tmp_path).write({"a": upstream("a", "work")})
    await remembered(home)
    (path,) = memories(home)
    path.write_text('{"state": 1, "answers": [')
    async with stdio(home) as wire:
        await wire.open()
        assert "isError" not in await wire.call("mcp_a_work")


async def test_what_is_remembered_is_for_the_owner_only(tmp_path: Path) -> None:
    home = Home(tmp_path).write({"a": upstream("a", "work")})
    await remembered(home)
    (path,) = memories(home)
    assert oct(path.stat().st_mode & 0o777) == "0o600"
    assert oct(path.parent.stat().st_mode & 0o777) == "0o700"
