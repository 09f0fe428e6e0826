"""What the express lane of standard input and output has alone (proxy/gateway/stdio_lane.py).

What it has in common with that of legacy SSE is in ``test_stream_lanes.py``.
"""

import json
from pathlib import Path
from typing import Final

import anyio
import pytest

from tests.support.lanes import EITHER, LARGE, call, opened, say
from tests.support.manifold import PATIENCE


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@EITHER
async def test_a_client_that_goes_away_in_the_middle_of_a_large_answer_ends_it(tmp_path: Path, express: bool) -> None:
    async with opened(tmp_path, express=express) as wire:
        await say(wire, call("large", "large", size=LARGE), call("held", "hold"))
        process = wire.manifold.process
        assert process.stdout is not None
        assert process.stdin is not None
        with anyio.fail_after(PATIENCE):
            assert await process.stdout.receive()
            await process.stdout.aclose()
            await process.stdin.aclose()
            assert await process.wait() == 0
        assert "Traceback" not in wire.manifold.said


@EITHER
async def test_what_is_under_way_when_the_client_says_no_more_is_answered_with_an_error(
    tmp_path: Path, express: bool
) -> None:
    async with opened(tmp_path, express=express) as wire:
        await say(wire, call("held", "hold"))
        await wire.manifold.until(lambda: "held" in wire.manifold.said)
        assert await wire.close() == 0
        found = [json.loads(line) for line in wire.lines]
    assert [one["error"]["code"] for one in found if one.get("id") == "held"] == [-32000]


GARBAGE: Final = [
    b"",
    b"{",
    b"[]",
    b"[1]",
    b"null",
    b'"x"',
    b"\xff\xfe",
    b"{}",
    b'{"jsonrpc":"2.0"}',
    b"{" * 300,
    b"\r",
]


@EITHER
async def test_lines_that_are_no_messages_are_passed_over(tmp_path: Path, express: bool) -> None:
    async with opened(tmp_path, express=express) as wire:
        for garbage in GARBAGE:
            await say(wire, call("before", "echo"), garbage, call("next", "echo"))
            assert {one["id"] for one in [await wire.next(), await wire.next()]} == {"before", "next"}
        assert "Traceback" not in wire.manifold.said


@EITHER
async def test_what_a_client_has_seen_is_remembered_for_the_next_start(tmp_path: Path, express: bool) -> None:
    async with opened(tmp_path, express=express) as wire:
        await wire.call("mcp_b_work", do="offer", tool="late")
        await wire.heard("notifications/tools/list_changed")
        listed = await wire.request("tools/list")
        assert await wire.close() == 0
        memory = [json.loads(kept.read_text()) for kept in tmp_path.glob("state/**/introductions/*.json")]  # noqa: ASYNC240 - nobody else waits
    assert [one["answers"]["2025-11-25"]["tools/list"] for one in memory] == [listed]
