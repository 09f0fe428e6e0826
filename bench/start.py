"""Start-up: from spawning a process that speaks over standard input and output to its first answers."""

import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from bench import talk
from bench.child import Child
from bench.products import STARTERS, Starter, joined
from bench.speaking import HELLO
from bench.targets import Bench, Unsuitable, Upstreams, upstreams

PATIENCE: Final = 20.0
"""Seconds for the first list; some never give one."""

Row = dict[str, Any]


SHAPES: Final = {
    "1 upstream": Upstreams(tools=20),
    "10 upstreams, 1 dead, 1 hanging": Upstreams(count=8, tools=20, dead=1, hanging=1),
    "50 upstreams, 1 dead, 1 hanging": Upstreams(count=48, tools=4, dead=1, hanging=1),
}


def starts(rounds: int, shapes: int = len(SHAPES)) -> list[Row]:
    """All starters with some shapes, in turns; seconds."""
    rows: list[Row] = []
    for shape, found in list(SHAPES.items())[:shapes]:
        with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder, upstreams(found, Path(folder)) as bench:
            if not rows:
                _in_turns(1, bench)  # for the bytecode and the disk; it does not count
            rows += [{"shape": shape} | row for row in _in_turns(rounds, bench)]
    return rows


def _in_turns(rounds: int, bench: Bench) -> list[Row]:
    """Every starter with the same upstreams. One that gave no answer once is not asked again."""
    rows: list[Row] = []
    refused: set[str] = set()
    for number in range(rounds):
        for starter in STARTERS:
            if starter.name in refused:
                continue
            about: Row = {"target": starter.name, "peer": starter.peer, "round": number}
            try:
                found = _once(starter, bench)
            except Unsuitable as error:
                found = {"reason": str(error)}
            except (OSError, ValueError, talk.Refused) as error:
                found = {"fault": f"cannot be started: {error}"}
            if "reason" in found or "fault" in found:
                refused.add(starter.name)
            rows.append(about | found)
    return rows


def _once(starter: Starter, shared: Bench) -> Row:
    """One start, with a folder of its own for what it remembers."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        bench, shape = replace(shared, folder=folder), shared.upstreams
        command = starter.command(bench)
        if starter.joins:
            stack.enter_context(joined(bench))
        elif starter.rehearsed:
            _timed(command, folder, shape, patient=True)
        return _timed(command, folder, shape) | {"offered": shape.count * shape.tools}


def _timed(command: Sequence[str], folder: Path, shape: Upstreams, *, patient: bool = False) -> Row:
    """Shake hands and list. A patient one lists until everything is there, so that all of it is remembered."""
    row: Row = {}
    began = time.perf_counter()
    with Child(command, folder, PATIENCE) as child:
        try:
            child.ask("initialize", HELLO)
            row["initialize"] = round(time.perf_counter() - began, 4)
            child.tell({"method": "notifications/initialized"})
            row["tools"] = len(child.ask("tools/list", {})["tools"])
            row["list"] = round(time.perf_counter() - began, 4)
            until = time.monotonic() + PATIENCE
            while patient and row["tools"] < shape.count * shape.tools and time.monotonic() < until:
                time.sleep(0.05)
                row["tools"] = len(child.ask("tools/list", {})["tools"])
        except (OSError, ValueError, KeyError) as error:
            row["fault"] = str(error)[:160]
    return row
