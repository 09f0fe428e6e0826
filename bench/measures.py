"""The measures. Each is small and bounded, runs its targets in turns, and returns raw data."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import psutil

from bench import talk
from bench.driving import (
    LOAD,
    STREAM,
    Load,
    Row,
    Size,
    driven,
    in_turns,
    load,
    over_pipes,
    over_sse,
    side_by_side,
    under_load,
)
from bench.products import ALL, BARE, DIRECT, LANE_OFF, MANIFOLD, OTHERS, PIPED, SSE
from bench.start import starts
from bench.targets import ROOT, Served, Upstreams, echo, running

STREAMS: Final = (
    ("as fast as it goes", 1, ("1000", "0")),
    ("as fast as it goes", 8, ("1000", "0")),
    ("500 a second on each", 1, ("250", "0.002")),
    ("500 a second on each", 8, ("250", "0.002")),
)
"""How fast, on how many connections; messages in a stream, and seconds between them."""


OPENING: Final = 20.0
"""Seconds in which idle sessions are opened; some get fewer open than are wanted."""


def calls_http(size: Size) -> list[Row]:
    """Calls over HTTP to one HTTP upstream, on both wires."""
    asked = [Load(count, wire) for wire in ("handshake", "modern") for count in size.connections]
    return under_load(Upstreams(), ALL, asked, size)


def calls_halves(size: Size) -> list[Row]:
    """The same, with head and body of each request in one piece and in two."""
    counts = (size.connections[0], size.connections[-1])
    asked = [Load(count, halves=halves) for count in counts for halves in (False, True)]
    return under_load(Upstreams(), (DIRECT, BARE, MANIFOLD), asked, size)


def calls_stdio(size: Size) -> list[Row]:
    """Calls over HTTP to one stdio upstream."""
    targets = [target for target in ALL if target is not DIRECT]
    return under_load(Upstreams(kind="stdio"), targets, [Load(count) for count in size.connections], size)


def calls_pipes(size: Size) -> list[Row]:
    """Calls over standard input and output, to an HTTP upstream and to a stdio upstream."""
    found = [over_pipes(Upstreams(kind=kind), PIPED, (1, 32), size) for kind in ("http", "stdio")]
    return [row for rows in found for row in rows]


def calls_sse(size: Size) -> list[Row]:
    """Calls over legacy SSE, to an HTTP upstream and to a stdio upstream."""
    found = [over_sse(Upstreams(kind=kind), SSE, (1, 32), size) for kind in ("http", "stdio")]
    return [row for rows in found for row in rows]


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


def streams(size: Size) -> list[Row]:
    """Calls that are answered with a long stream: many progress notifications, and then the result."""
    rows: list[Row] = []
    with side_by_side(Upstreams(), (DIRECT, BARE, MANIFOLD, OTHERS[0]), rows) as served:
        for pace, connections, asked in STREAMS:

            def turn(target: Served, most: int = connections, asked: Sequence[str] = asked) -> Row:
                command = [*STREAM, target.url, target.tool, str(most), str(size.seconds), *asked]
                return driven(target, command, size.seconds)

            rows += in_turns(served, size, {"pace": pace, "connections": connections}, turn)
    return rows


def neighbours(size: Size) -> list[Row]:
    """Calls to one upstream while all calls to its neighbour take 5 s and its queue is full.

    64 calls are under way and 256 wait; a few more are refused all the time.
    """
    return _beside(Upstreams(count=2, delay=5.0), "u1", {"a quiet neighbour": 0, "a slow neighbour": 330}, size)


def dying(size: Size) -> list[Row]:
    """Calls to one upstream while its neighbour dies of each call that it gets."""
    return _beside(Upstreams(mortal=1), "mortal0", {"a quiet neighbour": 0, "a dying neighbour": 8}, size)


def _beside(shape: Upstreams, faulty: str, callers: dict[str, int], size: Size) -> list[Row]:
    """Calls to the first upstream while so many call a tool of another one, in turns."""
    rows: list[Row] = []
    with side_by_side(shape, (MANIFOLD,), rows) as served:
        for target in served:
            names = talk.Session(target.url).tools()
            good, bad = (echo([name for name in names if key in name]) for key in ("u0", faulty))
            for number in range(size.rounds + 2):  # a few more, as a tail is less steady than a middle
                for beside, count in callers.items():
                    with ExitStack() as stack:
                        if count:
                            stack.enter_context(_flood(target.url, bad, count))
                        one = Served(target.name, target.url, target.pids, good)
                        about = {"target": target.name, "beside": beside, "round": number}
                        rows.append(about | load(one, Load(8), size.seconds))
    return rows


@contextmanager
def _flood(url: str, tool: str, callers: int) -> Iterator[None]:
    """Keep so many calls to a tool under way, whatever becomes of them."""
    with tempfile.TemporaryDirectory() as folder:
        command = [*LOAD, url, tool, str(callers), "600", "modern", "tools/call", "careless"]
        with running(command, Path(folder)):
            time.sleep(1.0)
            yield


def memory(size: Size) -> list[Row]:
    """Memory of an idle session and of an upstream, and the CPU of idle sessions."""
    rows: list[Row] = []
    with side_by_side(Upstreams(), (MANIFOLD, *OTHERS), rows) as served:
        for target in served:
            try:
                rows.append({"target": target.name} | _idle(target, size))
            except (OSError, ValueError, talk.Refused, psutil.Error) as error:
                rows.append({"target": target.name, "reason": f"refused a session: {error}"})
    for kind in ("http", "stdio"):
        for count in (1, 10):
            about = {"kind": kind, "upstreams": count}
            with side_by_side(Upstreams(kind, count, tools=20), (MANIFOLD, OTHERS[0]), rows) as served:
                rows += [{"target": one.name, **about, **_held(one)} for one in served]
    return rows


def _idle(target: Served, size: Size) -> Row:
    """What sessions cost that do nothing: memory, and CPU above that of the same process before."""
    talk.Session(target.url).close()
    quiet, before = _burnt(target, size.idle), target.rss()
    opened, until = 0, time.monotonic() + OPENING
    while opened < size.sessions and time.monotonic() < until:
        talk.Session(target.url).close()
        opened += 1
    after = target.rss()
    time.sleep(1.0)  # for what follows the last of them
    return {
        "sessions": opened,
        "bytes_a_session": round((after - before) / opened),
        "cpu_ms_a_second": _burnt(target, size.idle),
        "cpu_ms_a_second_before": quiet,
    }


def _held(target: Served) -> Row:
    """Bytes of the process of a target, without its children."""
    try:
        return {"rss": target.family()[0].memory_info().rss}
    except psutil.Error:
        return {"fault": "it ended"}


def _burnt(target: Served, seconds: float) -> float:
    """CPU milliseconds a second."""
    before = target.cpu_exactly()
    time.sleep(seconds)
    return round(1000 * (target.cpu_exactly() - before) / seconds, 2)


def layers(size: Size) -> list[Row]:
    """Nanoseconds a call of each layer of the tower."""
    command = [sys.executable, "-m", "bench.layers", "--uvloop", "--json", "--rounds", str(max(3, size.rounds))]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=300, cwd=ROOT, env=env)
    rows: list[Row] = json.loads(done.stdout)
    return rows


def cold_start(size: Size) -> list[Row]:
    """From spawning to the first answers."""
    return starts(size.starts, size.shapes)


MEASURES: Final[dict[str, Callable[[Size], list[Row]]]] = {
    "calls-http": calls_http,
    "calls-halves": calls_halves,
    "calls-stdio": calls_stdio,
    "calls-pipes": calls_pipes,
    "calls-sse": calls_sse,
    "calls-10-upstreams": calls_10,
    "lists-200": lists_200,
    "lists-10x20": lists_10x20,
    "results": results,
    "streams": streams,
    "start": cold_start,
    "neighbours": neighbours,
    "dying": dying,
    "memory": memory,
    "layers": layers,
}
QUICK_ONES: Final = ("calls-http", "calls-halves", "calls-stdio", "calls-pipes", "lists-200", "streams", "start")
