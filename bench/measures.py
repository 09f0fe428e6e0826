"""The measures. Each is small and bounded, runs its targets in turns (A B C A B C ...), and returns raw data."""

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench import talk
from bench.start import starts
from bench.targets import (
    ALL,
    BARE,
    DIRECT,
    LANE_OFF,
    MANIFOLD,
    OTHERS,
    Bench,
    Served,
    Target,
    Unsuitable,
    Upstreams,
    running,
    serving,
    upstreams,
)

LOAD: Final = Path(__file__).parent / "load.py"

Row = dict[str, Any]


@dataclass(frozen=True)
class Size:
    """How long everything takes."""

    rounds: int = 5
    seconds: float = 3.0
    connections: tuple[int, ...] = (1, 8, 32, 64)
    starts: int = 5
    shapes: int = 3
    sessions: int = 500


FULL: Final = Size()
QUICK: Final = Size(rounds=1, seconds=0.5, connections=(1, 32), starts=1, shapes=2, sessions=100)


@dataclass(frozen=True)
class Load:
    """What is asked: how many at once, on which wire, by which method."""

    connections: int = 8
    wire: str = "handshake"
    method: str = "tools/call"


def load(served: Served, asked: Load, seconds: float) -> Row:
    """Put one target under load; calls a second, latencies in microseconds, CPU milliseconds a call."""
    command = [sys.executable, str(LOAD), served.url, served.tool, str(asked.connections), str(seconds)]
    before = served.cpu()
    done = subprocess.run(
        [*command, asked.wire, asked.method], capture_output=True, text=True, check=False, timeout=60 + 4 * seconds
    )
    if done.returncode:
        return {"fault": (done.stderr.strip().splitlines() or ["it failed"])[-1][:200]}
    found: Row = json.loads(done.stdout)
    spent = served.cpu() - before
    # The warm-up is a quarter of the measured time, at about the same rate.
    found["cpu_ms_a_call"] = round(1000 * spent / max(1, found["calls"] * 1.25), 4) if served.pid else None
    return found


@contextmanager
def side_by_side(shape: Upstreams, targets: Sequence[Target], rows: list[Row]) -> Iterator[list[Served]]:
    """All targets that can serve some upstreams, serving; why the others cannot goes to the rows."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        bench = stack.enter_context(upstreams(shape, folder))
        found = []
        for target in targets:
            try:
                found.append(stack.enter_context(serving(target, bench)))
            except Unsuitable as error:
                rows.append({"target": target.name, "reason": str(error)})
        yield found


def under_load(shape: Upstreams, targets: Sequence[Target], asked: Sequence[Load], size: Size) -> list[Row]:
    """Targets under load in turns."""
    rows: list[Row] = []
    with side_by_side(shape, targets, rows) as served:
        for one in asked:
            for number in range(size.rounds):
                for target in served:
                    about = {"target": target.name, "wire": one.wire, "connections": one.connections, "round": number}
                    rows.append(about | load(target, one, size.seconds) | {"rss": target.rss()})
    return rows


def calls_http(size: Size) -> list[Row]:
    """Calls over HTTP to one HTTP upstream, on both wires."""
    asked = [Load(count, wire) for wire in ("handshake", "modern") for count in size.connections]
    return under_load(Upstreams(), ALL, asked, size)


def calls_stdio(size: Size) -> list[Row]:
    """Calls over HTTP to one stdio upstream."""
    targets = [target for target in ALL if target is not DIRECT]
    return under_load(Upstreams(kind="stdio"), targets, [Load(count) for count in size.connections], size)


def lists_200(size: Size) -> list[Row]:
    """``tools/list`` with 200 tools of one upstream."""
    return under_load(Upstreams(tools=200), ALL, [Load(8, method="tools/list")], size)


def lists_10x20(size: Size) -> list[Row]:
    """``tools/list`` with 200 tools of ten upstreams."""
    targets = (MANIFOLD, LANE_OFF, *OTHERS)
    return under_load(Upstreams(count=10, tools=20), targets, [Load(8, method="tools/list")], size)


def calls_10(size: Size) -> list[Row]:
    """Calls with ten upstreams of 20 tools each."""
    return under_load(Upstreams(count=10, tools=20), (MANIFOLD, LANE_OFF, *OTHERS), [Load(8)], size)


def results(size: Size) -> list[Row]:
    """Calls with results of 1 KB, 100 KB and 5 MB."""
    rows: list[Row] = []
    for length in (1_000, 100_000, 5_000_000):
        found = under_load(Upstreams(size=length), (DIRECT, BARE, MANIFOLD, LANE_OFF, OTHERS[0]), [Load(4)], size)
        rows += [{"bytes": length} | row for row in found]
    return rows


def neighbours(size: Size) -> list[Row]:
    """Calls to one upstream while all calls to its neighbour take 5 s and its queue is full."""
    rows: list[Row] = []
    with side_by_side(Upstreams(count=2, delay=5.0), (MANIFOLD,), rows) as served:
        for target in served:
            names = talk.Session(target.url).tools()
            fast, slow = (next(name for name in names if key in name and name.endswith("echo")) for key in ("u0", "u1"))
            for number in range(size.rounds):
                for beside in ("a quiet neighbour", "a slow neighbour"):
                    with ExitStack() as stack:
                        if beside == "a slow neighbour":
                            stack.enter_context(_flood(target.url, slow))
                        one = Served(target.name, target.url, target.pid, fast)
                        rows.append(
                            {"target": target.name, "beside": beside, "round": number}
                            | load(one, Load(8), size.seconds)
                        )
    return rows


def dying(size: Size) -> list[Row]:
    """Calls to one upstream while three neighbours die as often as they are started."""
    rows: list[Row] = []
    with ExitStack() as stack:
        sides = [
            (beside, stack.enter_context(side_by_side(Upstreams(dead=dead), (MANIFOLD,), rows)))
            for beside, dead in (("quiet neighbours", 0), ("dying neighbours", 3))
        ]
        for number in range(size.rounds):
            for beside, served in sides:
                for target in served:
                    about = {"target": target.name, "beside": beside, "round": number}
                    rows.append(about | load(target, Load(8), size.seconds))
    return rows


@contextmanager
def _flood(url: str, tool: str) -> Iterator[None]:
    """Keep 400 calls to a slow tool under way; most wait in its queue, and some are refused."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(LOAD), url, tool, "300", "600"]
        with running([*command, "handshake", "tools/call", "careless"], Path(folder)):
            time.sleep(1.0)
            yield


def memory(size: Size) -> list[Row]:
    """Memory of an idle session and of an upstream, and the CPU of idle sessions."""
    rows: list[Row] = []
    with side_by_side(Upstreams(), (MANIFOLD, *OTHERS), rows) as served:
        for target in served:
            before = target.rss()
            try:
                for _ in range(size.sessions):
                    talk.Session(target.url).close()
            except (OSError, ValueError, talk.Refused) as error:
                rows.append({"target": target.name, "reason": f"refused a session: {error}"})
                continue
            after, spent = target.rss(), target.cpu()
            time.sleep(2.0)
            rows.append(
                {
                    "target": target.name,
                    "sessions": size.sessions,
                    "bytes_a_session": round((after - before) / size.sessions),
                    "cpu_ms_a_second": round(1000 * (target.cpu() - spent) / 2, 2),
                }
            )
    for count in (1, 10):
        found: list[Row] = []
        with side_by_side(Upstreams(count=count, tools=20), (MANIFOLD, OTHERS[0]), found) as served:
            rows += [{"target": target.name, "upstreams": count, "rss": target.rss()} for target in served]
    return rows


def layers(size: Size) -> list[Row]:
    """Nanoseconds a call of each layer of the tower."""
    command = [sys.executable, "-m", "bench.layers", "--uvloop", "--json", "--rounds", str(max(3, size.rounds))]
    root = Path(__file__).parents[1]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=True,
        timeout=300,
        cwd=root,
        env={**os.environ, "PYTHONPATH": str(root)},
    )
    rows: list[Row] = json.loads(done.stdout)
    return rows


def cold_start(size: Size) -> list[Row]:
    """From spawning to the first answers."""
    return starts(size.starts, size.shapes)


MEASURES: Final[dict[str, Callable[[Size], list[Row]]]] = {
    "calls-http": calls_http,
    "calls-stdio": calls_stdio,
    "calls-10-upstreams": calls_10,
    "lists-200": lists_200,
    "lists-10x20": lists_10x20,
    "results": results,
    "start": cold_start,
    "neighbours": neighbours,
    "dying": dying,
    "memory": memory,
    "layers": layers,
}
QUICK_ONES: Final = ("calls-http", "calls-stdio", "lists-200", "start")


def median(values: Sequence[float]) -> float:
    """The median."""
    return statistics.median(values)


__all__ = ["FULL", "MEASURES", "QUICK", "QUICK_ONES", "Bench", "Row", "Size", "median"]
