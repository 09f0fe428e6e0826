"""Targets under load: all of them serve at the same time, and are driven in turns (A B C A B C ...)."""

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import count
from pathlib import Path
from typing import Any, Final

import psutil

from bench import talk
from bench.child import Child
from bench.products import Starter, joined
from bench.speaking import HELLO
from bench.targets import PATIENCE, ROOT, Bench, Served, Target, Unsuitable, Upstreams, echo, serving, upstreams

LOAD: Final = (sys.executable, "-m", "bench.load")
SSE: Final = (sys.executable, "-m", "bench.load_sse")
PIPE: Final = (sys.executable, "-m", "bench.load_pipe")
STREAM: Final = (sys.executable, "-m", "bench.stream")

ALLOTTED: Final = 2.0
"""How long all turns of a target may take at one load, in terms of what they mean to take."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Size:
    """How long everything takes."""

    rounds: int = 3
    seconds: float = 1.0
    connections: tuple[int, ...] = (1, 8, 32, 64)
    starts: int = 2
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
    command = [*LOAD, served.url, served.tool, str(asked.connections), str(seconds)]
    command += [asked.wire, asked.method, *(["halves"] if asked.halves else [])]
    # The warm-up is a quarter of the measured time, at about the same rate.
    return driven(served, command, seconds, warm=1.25)


def driven(
    served: Served, command: Sequence[str], seconds: float, *, warm: float = 1.0, pipes: Sequence[int] = ()
) -> Row:
    """Let a client drive a target.

    Args:
        served: the target.
        command: the client; it prints one JSON object with ``calls`` in it.
        seconds: how long it means to take.
        warm: how many calls there are for each that is counted.
        pipes: descriptors that the client is given.
    """
    allowed = 30 + 4 * seconds
    try:
        before = served.cpu()
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=allowed, cwd=ROOT, pass_fds=pipes
        )
        spent, rss = served.cpu() - before, served.rss()
    except psutil.Error:
        return {"fault": "it ended", "gone": True}
    except subprocess.TimeoutExpired:
        return {"fault": f"it left calls unanswered for {allowed:.0f} s", "gone": True}
    if done.returncode:
        return {"fault": (done.stderr.strip().splitlines() or ["it failed"])[-1][:200]}
    found: Row = json.loads(done.stdout)
    found["cpu_ms_a_call"] = round(1000 * spent / max(1, found["calls"] * warm), 4) if served.pids else None
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


Turn = Callable[[Served], Row]
"""Puts a target under load once."""


def in_turns(served: list[Served], size: Size, about: Row, turn: Turn) -> list[Row]:
    """Every target once in each round. One that has gone, or hangs, is taken out of the list.

    One that takes long over each call may have fewer turns, so that it does not use up the time of all.
    """
    rows: list[Row] = []
    used: dict[str, float] = {}
    for number in range(size.rounds):
        for target in tuple(served):
            if used.get(target.name, 0.0) > ALLOTTED * size.rounds * size.seconds:
                continue
            began = time.monotonic()
            found = turn(target)
            used[target.name] = used.get(target.name, 0.0) + time.monotonic() - began
            rows.append({"target": target.name} | about | {"round": number} | found)
            if found.get("gone"):
                served.remove(target)
    return rows


def under_load(shape: Upstreams, targets: Sequence[Target], asked: Sequence[Load], size: Size) -> list[Row]:
    """Targets under load in turns."""
    rows: list[Row] = []
    with side_by_side(shape, targets, rows) as served:
        for one in asked:
            sent = "in two pieces" if one.halves else "in one piece"
            about = {"wire": one.wire, "connections": one.connections, "sent": sent}
            rows += in_turns(served, size, about, partial(load, asked=one, seconds=size.seconds))
    return rows


def over_sse(shape: Upstreams, targets: Sequence[Target], connections: Sequence[int], size: Size) -> list[Row]:
    """Sessions of the legacy transport in turns."""

    def turn(target: Served, sessions: int) -> Row:
        command = [*SSE, target.url, target.tool, str(sessions), str(size.seconds)]
        return driven(target, command, size.seconds, warm=1.25)

    rows: list[Row] = []
    with side_by_side(shape, targets, rows) as served:
        for sessions in connections:
            rows += in_turns(served, size, {"connections": sessions}, partial(turn, sessions=sessions))
    return [{"upstream": shape.kind} | row for row in rows]


def over_pipes(shape: Upstreams, starters: Sequence[Starter], in_flight: Sequence[int], size: Size) -> list[Row]:
    """Requests on one pipe in turns."""
    rows: list[Row] = []
    numbers = count(1_000_000, 1_000_000)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        shared = stack.enter_context(upstreams(shape, folder))
        served, pipes = [], {}
        for starter in starters:
            try:
                target, child = stack.enter_context(piped(starter, shared))
            except Unsuitable as error:
                rows.append({"target": starter.name, "upstream": shape.kind, "reason": str(error)})
            else:
                served.append(target)
                pipes[starter.name] = child.pipes

        def turn(target: Served, most: int) -> Row:
            ends = pipes[target.name]
            command = [*PIPE, *map(str, ends), target.tool, str(most), str(size.seconds), str(next(numbers))]
            return driven(target, command, size.seconds, warm=1.25, pipes=ends)

        for most in in_flight:
            rows += in_turns(served, size, {"upstream": shape.kind, "in_flight": most}, partial(turn, most=most))
    return rows


@contextmanager
def piped(starter: Starter, shared: Bench) -> Iterator[tuple[Served, Child]]:
    """A process that serves over its pipes, in a folder of its own. Raises Unsuitable."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        bench = replace(shared, folder=folder)
        command = starter.command(bench)
        try:
            behind = (stack.enter_context(joined(bench)),) if starter.joins else ()
            child = stack.enter_context(Child(command, folder, PATIENCE))
            names = _introduced(child, bench.offered())
        except (OSError, ValueError, KeyError, talk.Refused) as error:
            raise Unsuitable(f"does not serve over pipes as measured: {str(error)[:160]}") from error
        yield Served(starter.name, "", (child.pid, *behind), echo(names)), child


def _introduced(child: Child, offered: int) -> list[str]:
    """Shake hands; the names of all tools, as soon as it lists them. Raises ValueError."""
    child.ask("initialize", HELLO)
    child.tell({"method": "notifications/initialized"})
    until = time.monotonic() + PATIENCE
    while time.monotonic() < until:
        names = [tool["name"] for tool in child.ask("tools/list", {})["tools"]]
        if len(names) >= offered:
            return names
        time.sleep(0.1)
    raise ValueError(f"it lists {len(names)} of {offered} tools")
