"""Ten upstreams of which three are broken: they cost their own tools and nothing else."""

from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.support.manifold import PATIENCE, Home, Json, Manifold, Wire, serving, stdio
from tests.support.scripted import appear, crashing, upstream, vanish

HEALTHY = [f"healthy{number}" for number in range(7)]
HEALTHY_TOOLS = {f"mcp_{name}_work" for name in HEALTHY}
LATE = "mcp_slow_late"


def ten_upstreams(awaited: Path, **slow: Any) -> Json:
    """Seven healthy ones, one that crashes, one that is no command, and one silent until a file appears."""
    return {
        "slow": upstream("slow", "late", waits_for=awaited, **slow),
        "crashing": crashing("boom: API_KEY is not set"),
        "missing": {"command": "no-such-mcp-server"},
        **{name: upstream(name, "work") for name in HEALTHY},
    }


@pytest.fixture
def awaited(tmp_path: Path) -> Path:
    """The file for which the slow upstream waits; it is not there yet."""
    return tmp_path / "go"


async def tools(wire: Wire) -> set[str]:
    return {tool["name"] for tool in (await wire.request("tools/list"))["tools"]}


def settled(manifold: Manifold) -> set[str]:
    """The upstreams whose first attempt has ended."""
    ends = ("ready", "backing_off", "error")
    return {one["upstream"] for one in manifold.events if one["event"] == "upstream.state" and one["new"] in ends}


async def test_initialize_waits_for_no_upstream(tmp_path: Path, awaited: Path) -> None:
    never = {f"silent{number}": upstream("silent", "late", waits_for=awaited, grace=600) for number in range(9)}
    home = Home(tmp_path).write({**never, "missing": {"command": "no-such-mcp-server"}})
    async with stdio(home) as wire:
        # Were it to wait for one of them, this would take the ten minutes of their grace.
        hello = await wire.open()
    assert hello["serverInfo"]["name"] == "manifold"
    assert hello["capabilities"]["tools"] == {"listChanged": True}


async def test_the_healthy_tools_are_listed_although_one_upstream_never_answers(tmp_path: Path, awaited: Path) -> None:
    async with stdio(Home(tmp_path).write(ten_upstreams(awaited, grace="1s"))) as wire:
        await wire.open()
        assert await tools(wire) == HEALTHY_TOOLS
        answer = await wire.call("mcp_healthy3_work", x=1)
        assert answer["structuredContent"]["server"] == "healthy3"
        assert settled(wire.manifold) >= {*HEALTHY, "crashing", "missing"}
        assert "slow" not in settled(wire.manifold)


async def test_a_list_waits_for_nobody_beyond_the_grace(tmp_path: Path, awaited: Path) -> None:
    home = Home(tmp_path).write(ten_upstreams(awaited, grace=0) | {"other": upstream("other", "work", grace=600)})
    async with stdio(home) as wire:
        await wire.open()
        assert await tools(wire) >= {"mcp_other_work"}


async def test_the_log_names_the_broken_ones_with_cause_and_remedy(tmp_path: Path, awaited: Path) -> None:
    home = Home(tmp_path).write(ten_upstreams(awaited, start_timeout="1s"))
    async with stdio(home) as wire:
        await wire.open()
        told = {
            name: (await wire.manifold.event("upstream.state", upstream=name, new="backing_off", level="warning"))[
                "reason"
            ]
            for name in ("slow", "crashing", "missing")
        }
    assert "boom: API_KEY is not set" in told["crashing"]
    assert "no-such-mcp-server was not found" in told["missing"]
    assert "give its full path as command" in told["missing"]
    assert "did not answer within 1 s of its start" in told["slow"]
    assert "Raise start_timeout" in told["slow"]


async def test_check_names_the_broken_ones_with_cause_and_remedy(tmp_path: Path, awaited: Path) -> None:
    home = Home(tmp_path).write(ten_upstreams(awaited, start_timeout="1s"))
    done = await home.run("check")
    lines = {line.split()[1]: line for line in done.stdout.splitlines() if line[:1] in "●○✗" and len(line.split()) > 1}
    assert done.returncode == 1
    assert "3 problems" in done.stdout
    assert "boom: API_KEY is not set" in lines["crashing"]
    assert "no-such-mcp-server was not found" in lines["missing"]
    assert "did not answer within 1 s of its start" in lines["slow"]
    assert all("1 tool" in lines[name] for name in HEALTHY)


async def test_a_late_upstream_announces_its_tools(tmp_path: Path, awaited: Path) -> None:
    async with stdio(Home(tmp_path).write(ten_upstreams(awaited, grace=0))) as wire:
        await wire.open()
        assert LATE not in await tools(wire)
        appear(awaited)
        await wire.heard("notifications/tools/list_changed")
        # The healthy ones may still have been on their way, too: each change is announced.
        with anyio.fail_after(PATIENCE):
            while LATE not in await tools(wire):
                await wire.heard("notifications/tools/list_changed")
        assert (await wire.call(LATE))["structuredContent"]["server"] == "slow"


async def test_a_second_start_has_the_whole_list_from_disk(tmp_path: Path, awaited: Path) -> None:
    home = Home(tmp_path).write(ten_upstreams(awaited))
    appear(awaited)
    async with stdio(home) as wire:
        await wire.open()
        assert await tools(wire) == HEALTHY_TOOLS | {LATE}
    assert len(home.listings) == len(HEALTHY) + 1
    vanish(awaited)
    patient = ten_upstreams(awaited, grace=600)
    async with stdio(home.write(patient)) as wire:
        await wire.open()
        assert await tools(wire) == HEALTHY_TOOLS | {LATE}
        assert "slow" not in settled(wire.manifold)


async def test_the_http_door_opens_before_the_upstreams_are_there(tmp_path: Path, awaited: Path) -> None:
    async with serving(Home(tmp_path).write(ten_upstreams(awaited, grace=600))) as manifold:
        listening = manifold.events.index(await manifold.event("manifold.listening"))
        ready = await manifold.event("upstream.state", upstream="healthy0", new="ready")
        assert manifold.events.index(ready) > listening
