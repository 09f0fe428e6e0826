"""What ``serve --stdio`` answers before it is up: what it answered the last time, or what it is sure to answer."""

import json
import signal
import sys
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.support.manifold import Home, Json, Manifold, Wire, started, stdio
from tests.support.scripted import appear, upstream, vanish

ENVELOPE = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "wire", "version": "1"},
}


def mute(tmp_path: Path) -> Json:
    """An upstream that says nothing until it is told to."""
    return upstream("a", "work", waits_for=tmp_path / "speak")


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


def gated(home: Home, *arguments: str, until: tuple[str, ...] = ("cyclopts", "proxy.cli.main")) -> list[str]:
    """The command, in a process that imports nothing heavy until a file appears: what comes first came early."""
    gate = home.folder / "gate"
    code = f"""
import sys, builtins, pathlib, time
real = builtins.__import__
def slow(name, *rest, **more):
    if name in {until!r}:
        while not pathlib.Path({str(gate)!r}).exists():
            time.sleep(0.01)
    return real(name, *rest, **more)
builtins.__import__ = slow
from proxy.cli import main
sys.exit(main(sys.argv[1:]))
"""
    return [sys.executable, "-c", code, "serve", "--stdio", "--config", str(home.config), *arguments]


async def introduced(home: Home, method: str, params: Json, *arguments: str, call: str = "mcp_a_work") -> Json:
    """What a start of which nothing is remembered answers early; it must be just what the real door says later."""
    assert not memories(home)
    async with started(gated(home, *arguments), home.folder, home.env()) as process:
        wire = Wire(process)
        early = await wire.request(method, params)
        (home.folder / "gate").touch()
        if method == "initialize":
            await wire.send({"method": "notifications/initialized"})
            await wire.request("ping")
        else:
            assert await wire.request(method, params) == early
        appear(home.folder / "speak")  # until now the upstream has said nothing: both knew the same
        meta = {"_meta": params["_meta"]} if "_meta" in params else {}
        assert "isError" not in await wire.request("tools/call", {"name": call, "arguments": {}, **meta})
        assert await wire.close() == 0
        assert [json.loads(line).get("id") for line in wire.lines].count(1) == 1
        assert "front.answered_too_early" not in process.said
    (path,) = memories(home)
    (learned,) = json.loads(path.read_text())["answers"].values()
    assert learned[method] == early
    path.unlink()
    return early


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


async def test_the_first_start_of_all_introduces_itself_before_it_is_up(tmp_path: Path) -> None:
    home = Home(tmp_path).write({"a": mute(tmp_path)})
    first = await introduced(home, "initialize", Wire.HELLO)
    assert first["serverInfo"]["name"] == "manifold"
    assert first["capabilities"]["resources"] == {"listChanged": True, "subscribe": True}


@pytest.mark.parametrize("version", ["2024-11-05", "2025-06-18", "2026-07-28", "2099-01-01"])
async def test_a_first_start_agrees_on_a_revision_as_the_real_door_does(tmp_path: Path, version: str) -> None:
    home = Home(tmp_path).write({"a": mute(tmp_path)})
    await introduced(home, "initialize", {**Wire.HELLO, "protocolVersion": version})


async def test_a_first_start_is_discovered_early_too(tmp_path: Path) -> None:
    home = Home(tmp_path).write({"a": mute(tmp_path)}, server={"name": "mine", "instructions": "Be kind."})
    found = await introduced(home, "server/discover", {"_meta": ENVELOPE})
    assert found["instructions"] == "Be kind."


async def test_a_first_start_speaks_for_what_its_agent_sees(tmp_path: Path) -> None:
    home = Home(tmp_path).write({"a": mute(tmp_path)}, agents={"none": {"servers": []}, "all": {"servers": ["*"]}})
    seen = await introduced(home, "initialize", Wire.HELLO, "--agent", "all", call="work")
    assert "completions" in seen["capabilities"]


async def test_a_first_start_knows_what_was_listed_before(tmp_path: Path) -> None:
    home = Home(tmp_path).write({"a": mute(tmp_path)})
    appear(tmp_path / "speak")
    await remembered(home)
    assert home.listings
    vanish(tmp_path / "speak")
    memories(home)[0].unlink()
    seen = await introduced(home, "initialize", Wire.HELLO)
    assert "completions" not in seen["capabilities"]


async def test_upstreams_start_while_the_gateway_is_still_being_imported(tmp_path: Path) -> None:
    home = Home(tmp_path).write({"a": upstream("a", "work")})
    async with started(gated(home, until=("fastmcp",)), home.folder, home.env()) as process:
        wire = Wire(process)
        await wire.open()
        await process.event("upstream.state", upstream="a", new="ready")
        (tmp_path / "gate").touch()
        assert [tool["name"] for tool in (await wire.request("tools/list"))["tools"]] == ["mcp_a_work"]
        assert len([one for one in process.events if one["event"] == "upstream.state" and one["new"] == "ready"]) == 1
        assert await wire.close() == 0


async def test_a_signal_ends_a_start_that_is_under_way(tmp_path: Path) -> None:
    home = Home(tmp_path).write({"a": upstream("a", "work")})
    async with started(gated(home, until=("fastmcp",)), home.folder, home.env()) as process:
        wire = Wire(process)
        await wire.open()
        await process.event("upstream.state", upstream="a", new="ready")
        process.process.send_signal(signal.SIGTERM)
        await process.event("manifold.stopped")
        (tmp_path / "gate").touch()
        assert await process.process.wait() == 0


@pytest.mark.parametrize("fault", [{"clientInfo": None}, {"capabilities": {"roots": 5}}, {"protocolVersion": 7}])
async def test_an_introduction_with_a_fault_is_left_to_the_real_door(tmp_path: Path, fault: dict[str, Any]) -> None:
    home = Home(tmp_path).write({"a": upstream("a", "work")})
    async with stdio(home) as wire:
        await wire.send({"id": 1, "method": "initialize", "params": {**Wire.HELLO, **fault}})
        assert (await wire.next())["error"]["code"] == -32602


UNUSABLE = {"command": "x", "url": "http://127.0.0.1:1/mcp"}


@pytest.mark.parametrize(
    ("entry", "options", "said"),
    [(UNUSABLE, (), "mcpServers.a"), (upstream("a", "work"), ("--agent", "x"), "'x'")],
    ids=["a configuration that cannot be used", "an agent that does not exist"],
)
async def test_nothing_is_answered_for(
    tmp_path: Path, entry: dict[str, Any], options: tuple[str, ...], said: str
) -> None:
    home = Home(tmp_path).write({"a": entry})
    async with started(home.command("serve", "--stdio", *options), home.folder, home.env()) as process:
        wire = Wire(process)
        await wire.send({"id": 1, "method": "initialize", "params": Wire.HELLO})
        assert process.process.stdout is not None
        assert b"".join([chunk async for chunk in process.process.stdout]) == b""
        assert await process.process.wait() == 1
        await process.until(lambda: said in process.said)


async def test_a_start_whose_standard_error_goes_to_a_file_serves_all_the_same(tmp_path: Path) -> None:
    home = Home(tmp_path).write({"a": upstream("a", "work")})
    with (tmp_path / "log").open("wb") as log:
        command = home.command("serve", "--stdio")
        async with await anyio.open_process(command, stderr=log, cwd=home.folder, env=home.env()) as process:
            wire = Wire(Manifold(process))
            await wire.open()
            assert "isError" not in await wire.call("mcp_a_work")
            assert await wire.close() == 0


async def test_what_is_printed_while_everything_is_imported_is_not_on_the_wire(tmp_path: Path) -> None:
    home = Home(tmp_path).write({"a": upstream("a", "work")})
    (tmp_path / "sitecustomize.py").write_text(
        "import builtins\nreal = builtins.__import__\n"
        "def loud(name, *rest, **more):\n"
        "    if name == 'cyclopts':\n        print('noise', flush=True)\n"
        "    return real(name, *rest, **more)\n"
        "builtins.__import__ = loud\n"
    )
    path = f"{tmp_path}:{home.env()['PYTHONPATH']}"
    async with stdio(home, PYTHONPATH=path) as wire:
        await wire.open()
        await wire.call("mcp_a_work")
        assert await wire.close() == 0
        assert "noise" in wire.manifold.said
    assert all(json.loads(line)["jsonrpc"] == "2.0" for line in wire.lines)
