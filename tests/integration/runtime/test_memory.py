"""Last-known listings: kept on disk, and used at the next start until the upstream is there."""

import json
import stat
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from proxy.model import UpstreamState
from tests.support.running import running
from tests.support.scripted import appear, upstream, vanish

READY = UpstreamState.READY


@pytest.fixture
def awaited(tmp_path: Path) -> Path:
    """The file for which a silent upstream waits; never there."""
    return tmp_path / "never"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def kept(state: Path) -> Path:
    """The file of the only upstream."""
    (file,) = (state / "listings").iterdir()
    return file


def modes(state: Path) -> list[int]:
    return [stat.S_IMODE(path.stat().st_mode) for path in (kept(state).parent, kept(state))]


def overwrite(state: Path, content: bytes) -> None:
    kept(state).write_bytes(content)


def rename_the_tool(state: Path, name: str) -> None:
    content = json.loads(kept(state).read_bytes())
    content["listing"]["tools"][0]["name"] = name
    overwrite(state, json.dumps(content).encode())


async def remembered(state: Path, awaited: Path, *tools: str) -> None:
    """Have the upstream ``a`` listed and kept; afterwards it is silent, under the same configuration."""
    appear(awaited)
    async with running({"a": upstream("a", *tools, waits_for=awaited)}, state) as one:
        await one.status("a", READY)
    vanish(awaited)


async def test_a_listing_is_there_at_once_after_a_restart(state: Path, awaited: Path) -> None:
    await remembered(state, awaited, "work", "rest")
    async with running({"a": upstream("a", "work", "rest", waits_for=awaited)}, state) as one:
        assert one.names() == {"mcp_a_work", "mcp_a_rest"}
        assert one.told == []
        assert not one.runtime.waiting()


async def test_what_is_kept_is_for_the_owner_only(state: Path, awaited: Path) -> None:
    await remembered(state, awaited, "work")
    assert modes(state) == [0o700, 0o600]


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b'{"format": "something-else/9"}'])
async def test_a_corrupt_file_is_ignored_and_reported(state: Path, awaited: Path, content: bytes) -> None:
    await remembered(state, awaited, "work")
    overwrite(state, content)
    with capture_logs() as logs:
        async with running({"a": upstream("a", "work", waits_for=awaited)}, state) as one:
            assert one.names() == set()
    assert [log["upstream"] for log in logs if log["event"] == "catalog.file_ignored"] == ["a"]


async def test_a_file_of_another_configuration_is_not_used(state: Path, awaited: Path) -> None:
    await remembered(state, awaited, "work")
    async with running({"a": upstream("a", "other", waits_for=awaited)}, state) as one:
        assert one.names() == set()


async def test_what_the_upstream_says_replaces_what_was_kept(state: Path, awaited: Path) -> None:
    await remembered(state, awaited, "work")
    rename_the_tool(state, "old")
    async with running({"a": upstream("a", "work", waits_for=awaited)}, state) as one:
        assert one.names() == {"mcp_a_old"}
        appear(awaited)
        await one.offers("mcp_a_work")
        assert one.names() == {"mcp_a_work"}


async def test_a_folder_that_cannot_be_written_costs_nothing_but_the_memory(tmp_path: Path) -> None:
    appear(tmp_path / "listings")  # a file where the folder would be
    with capture_logs() as logs:
        async with running({"a": upstream("a", "work")}, tmp_path) as one:
            assert (await one.call("mcp_a_work"))["server"] == "a"
            await one.status("a", READY)
    assert "catalog.not_saved" in {log["event"] for log in logs}


async def test_names_of_a_manifold_behind_are_not_prefixed_again_even_from_disk(state: Path, awaited: Path) -> None:
    def chained() -> dict[str, object]:
        return {"first": upstream("first", "mcp_a_work", chain=True, waits_for=awaited)}

    appear(awaited)
    async with running(chained(), state) as one:
        await one.offers("mcp_a_work")
    vanish(awaited)
    async with running(chained(), state) as one:
        assert one.names() == {"mcp_a_work"}
