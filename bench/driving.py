"""Targets under load: all of them serve at the same time, and are driven in turns (A B C A B C ...)."""

import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import psutil

from bench.targets import Served, Target, Unsuitable, Upstreams, serving, upstreams

HERE: Final = Path(__file__).parent
LOAD: Final = HERE / "load.py"
STREAM: Final = HERE / "stream.py"

Row = dict[str, Any]


@dataclass(frozen=True)
class Size:
    """How long everything takes."""

    rounds: int = 3
    seconds: float = 1.2
    connections: tuple[int, ...] = (1, 8, 32, 64)
    starts: int = 3
    shapes: int = 3
    sessions: int = 1000
    idle: float = 5.0
    """Seconds for which idle sessions are watched."""


FULL: Final = Size()
QUICK: Final = Size(rounds=1, seconds=0.5, connections=(1, 32), starts=1, shapes=2, sessions=100, idle=2.0)


@dataclass(frozen=True)
class Load:
    """What is asked: how many at once, on which wire, by which method."""

    connections: int = 8
    wire: str = "handshake"
    method: str = "tools/call"
    halves: bool = False
    """Whether head and body of a request are written apart."""


def load(served: Served, asked: Load, seconds: float) -> Row:
    """Put one target under load; calls a second, latencies in microseconds, CPU milliseconds a call."""
    command = [sys.executable, str(LOAD), served.url, served.tool, str(asked.connections), str(seconds)]
    command += [asked.wire, asked.method, *(["halves"] if asked.halves else [])]
    # The warm-up is a quarter of the measured time, at about the same rate.
    return driven(served, command, seconds, warm=1.25)


def driven(served: Served, command: Sequence[str], seconds: float, *, warm: float = 1.0) -> Row:
    """Let a client drive a target.

    Args:
        served: the target.
        command: the client; it prints one JSON object with ``calls`` in it.
        seconds: how long it means to take.
        warm: how many calls there are for each that is counted.
    """
    try:
        before = served.cpu()
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60 + 4 * seconds)
        spent, rss = served.cpu() - before, served.rss()
    except psutil.Error:
        return {"fault": "it ended"}
    except subprocess.TimeoutExpired:
        return {"fault": "it left calls unanswered for a minute"}
    if done.returncode:
        return {"fault": (done.stderr.strip().splitlines() or ["it failed"])[-1][:200]}
    found: Row = json.loads(done.stdout)
    found["cpu_ms_a_call"] = round(1000 * spent / max(1, found["calls"] * warm), 4) if served.pid else None
    return found | {"rss": rss}


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
                    sent = {"sent": "in two pieces" if one.halves else "in one piece"}
                    rows.append(about | sent | load(target, one, size.seconds))
    return rows
