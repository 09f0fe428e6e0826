"""Fuzzing every side from which bytes come: the HTTP door, the stdio door, and upstreams of both kinds.

Nothing crashes, hangs, or shows a stack trace to the outside; the log has no exception that nobody expected; memory
stays bounded; and good requests are answered in between and afterwards. ``MANIFOLD_FUZZ=20`` goes deeper.
"""

import json
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, Final

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.security.fuzzing import ANSWERS, FRAMES, HTTP, LINES, ROUND, SESSION, TIMES, effort
from tests.security.rig import ANN, EVE, LANES, Party, battlefield, raw, rss, statuses, still_serves
from tests.support.link_http import Request, Response, serve
from tests.support.manifold import PATIENCE, Home, Json, Manifold, Wire, stdio
from tests.support.scripted import upstream

pytestmark = pytest.mark.timeout(60 * max(1, TIMES))

MOST_GROWTH: Final = 64 << 20
"""Bytes that a process may grow while it is fuzzed: caches fill, and pages of the heap are not given back."""
MOMENT: Final = 0.25
"""Seconds that are waited for an answer which may never come."""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


class Figures:
    """What was tried, and what it cost."""

    def __init__(self, manifold: Manifold, door: str) -> None:
        self._manifold = manifold
        self._door = door
        self._before = 0
        self._rounds = 0
        self.pieces = 0

    async def round(self, pieces: int) -> None:
        """One round is over: the process lives, and serves."""
        self._rounds += 1
        self.pieces += pieces
        assert self._manifold.process.returncode is None, self._manifold.said
        if self._rounds == 3:
            self._before = rss(self._manifold.pid)

    def end(self) -> None:
        """No more is tried."""
        after = rss(self._manifold.pid)
        grown = (after - self._before) >> 10
        print(f"fuzz {self._door}: {self.pieces} pieces, RSS {self._before >> 20} -> {after >> 20} MiB ({grown:+} KiB)")
        assert after - self._before < MOST_GROWTH
        check_log(self._manifold)


def check_log(manifold: Manifold) -> None:
    """Nothing unexpected is in the log."""
    for sign in ("Traceback", "Unhandled", "unhandled", "never retrieved", "never awaited", "Fatal error"):
        assert sign not in manifold.said, manifold.said[max(0, manifold.said.index(sign) - 500) :][:3000]


def check_answer(told: bytes, asked: bytes) -> None:
    """Nothing of our insides is shown."""
    for sign in (b"Traceback", b'File "', b"site-packages", b"Error(", b"Internal Server Error"):
        assert sign not in told, (asked, told)
    assert not any(status >= 500 and status != 503 for status in statuses(told)), (asked, told)


# -- the HTTP door -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=LANES)
async def http_door(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[Manifold, Figures]]:
    server = {"max_sessions": 100}
    upstreams = {
        "files": upstream("files", "echo", resources=["file:///open"], prompts=["ask"], templates=["file:///{a}"])
    }
    agents = {"eve": {"servers": ["files"], "tokens": [EVE]}, "ann": {"servers": ["files"], "tokens": [ANN]}}
    express = LANES[request.param]
    sections: Json = {"mcpServers": upstreams, "agents": agents, "express": express}
    async with battlefield(tmp_path_factory.mktemp("fuzz"), server=server, **sections) as running:
        await still_serves(running, EVE)
        yield running, Figures(running, f"HTTP ({request.param})")


async def say_raw(manifold: Manifold, piece: bytes) -> None:
    told = b""
    async with raw(manifold) as stream:
        with anyio.move_on_after(MOMENT):
            try:
                await stream.send(piece)
                while True:
                    told += await stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                pass
    check_answer(told, piece)


@effort(25)
@given(pieces=st.lists(HTTP, min_size=ROUND, max_size=ROUND))
async def test_no_bytes_at_the_http_door_crash_hang_or_uncover_anything(
    http_door: tuple[Manifold, Figures], pieces: list[bytes]
) -> None:
    manifold, figures = http_door
    session = (await Party(manifold.url, EVE).open()).session.encode()
    assert len(session) == len(SESSION)
    async with anyio.create_task_group() as tasks:
        for piece in pieces:
            tasks.start_soon(say_raw, manifold, piece.replace(SESSION.encode(), session))
        tasks.start_soon(still_serves, manifold, ANN)
    await figures.round(len(pieces))


async def test_the_http_door_serves_after_fuzzing_within_its_memory(http_door: tuple[Manifold, Figures]) -> None:
    manifold, figures = http_door
    await still_serves(manifold, ANN)
    await still_serves(manifold, EVE)
    figures.end()


# -- the stdio door ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
async def stdio_door(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Wire, Figures]]:
    home = Home(tmp_path_factory.mktemp("fuzz-stdio"))
    home.write({"files": upstream("files", "echo")}, log={"format": "json"})
    async with stdio(home) as wire:
        await wire.open()
        assert "tools" in await wire.request("tools/list")
        yield wire, Figures(wire.manifold, "stdio")


@effort(25)
@given(pieces=st.lists(LINES, min_size=ROUND, max_size=ROUND))
async def test_no_line_at_the_stdio_door_crashes_or_stops_it(
    stdio_door: tuple[Wire, Figures], pieces: list[bytes]
) -> None:
    wire, figures = stdio_door
    stdin = wire.manifold.process.stdin
    assert stdin is not None
    await stdin.send(b"\n".join(pieces) + b"\n")
    wire._numbers += 1
    mark = f"mark-{wire._numbers}"
    await wire.send({"id": mark, "method": "ping"})
    with anyio.fail_after(PATIENCE):
        while True:
            line = await wire.line()
            message = json.loads(line)
            assert "Traceback" not in line
            assert 'File \\"' not in line
            if isinstance(message, dict) and message.get("id") == mark:
                break
    await figures.round(len(pieces))


async def test_the_stdio_door_serves_after_fuzzing_within_its_memory(stdio_door: tuple[Wire, Figures]) -> None:
    wire, figures = stdio_door
    result = await wire.request("tools/call", {"name": "mcp_files_echo", "arguments": {}})
    assert "structuredContent" in result
    figures.end()


# -- upstreams ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
async def bad_child(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Manifold, Figures]]:
    child = {"command": sys.executable, "args": ["-S", str(Path(__file__).parent / "fuzz_child.py")]}
    upstreams = {"bad": {**child, "timeout": "3s", "era": "handshake"}, "files": upstream("files", "echo")}
    sections: Json = {"mcpServers": upstreams, "agents": {"ann": {"tokens": [ANN]}}}
    async with battlefield(tmp_path_factory.mktemp("fuzz-child"), **sections) as running:
        yield running, Figures(running, "stdio upstream")


@effort(20)
@given(pieces=st.lists(FRAMES, min_size=ROUND, max_size=ROUND))
async def test_no_frames_of_a_stdio_upstream_reach_its_neighbours_or_uncover_anything(
    bad_child: tuple[Manifold, Figures], pieces: list[bytes]
) -> None:
    manifold, figures = bad_child
    party = Party(manifold.url, ANN)
    with anyio.fail_after(PATIENCE):
        said = {"name": "say", "arguments": {"pieces": [piece.hex() for piece in pieces]}}
        answer = await party.modern_post("tools/call", said)
        check_answer(answer.content, b"\n".join(pieces))
        neighbour = await party.modern("tools/call", {"name": "echo", "arguments": {}})
        assert "structuredContent" in neighbour["result"]
    await figures.round(len(pieces))


async def test_manifold_serves_after_bad_frames_within_its_memory(bad_child: tuple[Manifold, Figures]) -> None:
    manifold, figures = bad_child
    await still_serves(manifold, ANN)
    figures.end()


class Site:
    """An HTTP upstream that answers calls with the bytes at hand."""

    def __init__(self) -> None:
        self.bytes = b""
        self.paths: list[str] = []

    async def __call__(self, request: Request, response: Response) -> None:
        self.paths.append(request.path)
        about = {"name": "bad", "version": "1"}
        answers: dict[str, Callable[[], Any]] = {
            "initialize": lambda: {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": about},
            "tools/list": lambda: {"tools": [{"name": "say", "inputSchema": {"type": "object"}}]},
            "ping": dict,
        }
        if request.rpc in answers:
            response.result(answers[request.rpc]())
        elif request.rpc == "tools/call":
            response.raw(self.bytes)
            await response.drop()
        else:
            response.whole(202 if request.method == "POST" else 405)


@pytest.fixture(scope="module")
async def bad_site(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[tuple[Manifold, Figures, Site]]:
    site = Site()
    async with serve(site) as server:
        bad = {"url": server.url, "timeout": "3s", "era": "handshake", "type": "http", "breaker": {"enabled": False}}
        upstreams = {"bad": bad, "files": upstream("files", "echo")}
        sections: Json = {"mcpServers": upstreams, "agents": {"ann": {"tokens": [ANN]}}}
        async with battlefield(tmp_path_factory.mktemp("fuzz-site"), **sections) as running:
            yield running, Figures(running, "HTTP upstream"), site


@effort(60)
@given(piece=ANSWERS)
async def test_no_answer_of_an_http_upstream_reaches_its_neighbours_or_uncovers_anything(
    bad_site: tuple[Manifold, Figures, Site], piece: bytes
) -> None:
    manifold, figures, site = bad_site
    site.bytes = piece
    party = Party(manifold.url, ANN)
    with anyio.fail_after(PATIENCE):
        answer = await party.modern_post("tools/call", {"name": "say", "arguments": {}})
        check_answer(answer.content, piece)
        neighbour = await party.modern("tools/call", {"name": "echo", "arguments": {}})
        assert "structuredContent" in neighbour["result"]
    await figures.round(1)


async def test_manifold_serves_after_bad_answers_within_its_memory(bad_site: tuple[Manifold, Figures, Site]) -> None:
    manifold, figures, site = bad_site
    await still_serves(manifold, ANN)
    assert set(site.paths) <= {"/mcp"} | {path for path in site.paths if path.startswith("/.well-known/")}
    figures.end()
