"""Start-up: from spawning a process that speaks over standard input and output to its first answers."""

import json
import os
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, Final, Self

from bench import talk
from bench.peers import install
from bench.targets import PEERS, Bench, Unsuitable, Upstreams, environment, free_port, running, upstreams

PATIENCE: Final = 20.0
"""Seconds for the first list; some never give one."""

Row = dict[str, Any]


@dataclass(frozen=True)
class Starter:
    """A command that serves over stdio."""

    name: str
    command: Callable[[Bench], Sequence[str]]
    rehearsed: bool = False
    """Whether it is run once before, so that it has something to remember."""
    peer: bool = False
    """Whether it comes from a registry."""


def _manifold(bench: Bench) -> Sequence[str]:
    config = bench.config("manifold", log={"level": "error"})
    return [sys.executable, "-m", "proxy", "serve", "--stdio", "--config", str(config)]


def _connect(bench: Bench) -> Sequence[str]:
    return [sys.executable, "-m", "proxy", "connect", "--config", str(bench.config("manifold", log={"level": "error"}))]


def _create_proxy(bench: Bench) -> Sequence[str]:
    return [sys.executable, str(PEERS / "create_proxy.py"), "stdio", "0", str(bench.config("create-proxy"))]


def _python_proxy(bench: Bench) -> Sequence[str]:
    part = install.python()
    if part.reason:
        raise Unsuitable(part.reason)
    return [*part.command("mcp-proxy"), "--transport", "streamablehttp", bench.one_http()]


def _supergateway(bench: Bench) -> Sequence[str]:
    part = install.npm()
    if part.reason:
        raise Unsuitable(part.reason)
    return [*part.command("supergateway"), "--streamableHttp", bench.one_http(), "--logLevel", "none"]


STARTERS: Final = (
    Starter("Manifold, first time", _manifold),
    Starter("Manifold, again", _manifold, rehearsed=True),
    Starter("connect to a running Manifold", _connect, rehearsed=True),
    Starter("fastmcp create_proxy", _create_proxy),
    Starter("PyPI mcp-proxy", _python_proxy, peer=True),
    Starter("supergateway", _supergateway, peer=True),
)

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
        if starter.command is _connect:
            stack.enter_context(_served(bench, shape))
        elif starter.rehearsed:
            _timed(command, folder, shape, patient=True)
        return _timed(command, folder, shape) | {"offered": shape.count * shape.tools}


@contextmanager
def _served(bench: Bench, shape: Upstreams) -> Iterator[None]:
    """A Manifold that runs, with everything listed that can be."""
    port = free_port()
    config = bench.config("manifold", log={"level": "error"})
    command = [sys.executable, "-m", "proxy", "serve", "--http", "--port", str(port), "--config", str(config)]
    with running(command, bench.folder):
        talk.until_listening(port, 60)
        session = talk.Session(f"http://127.0.0.1:{port}/mcp")
        until = time.monotonic() + 60
        while len(session.tools()) < shape.count * shape.tools and time.monotonic() < until:
            time.sleep(0.1)
        yield


def _timed(command: Sequence[str], folder: Path, shape: Upstreams, *, patient: bool = False) -> Row:
    """Shake hands and list. A patient one lists until everything is there, so that all of it is remembered."""
    row: Row = {}
    began = time.perf_counter()
    with _Child(command, folder) as child:
        try:
            child.ask("initialize", talk.HELLO)
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


class _Child:
    """A process that speaks over standard input and output."""

    def __init__(self, command: Sequence[str], folder: Path) -> None:
        with (folder / "said.log").open("ab") as log:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                env=environment(folder),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
                start_new_session=True,
            )
        self._rest = b""
        self._numbers = count(1)

    def tell(self, message: dict[str, Any]) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    def ask(self, method: str, params: Any) -> Any:
        number = next(self._numbers)
        self.tell({"id": number, "method": method, "params": params})
        until = time.monotonic() + PATIENCE
        while True:
            try:
                message = json.loads(self._line(until))
            except json.JSONDecodeError:
                continue  # some print other things there
            if message.get("id") == number and "method" not in message:
                return message["result"]

    def _line(self, until: float) -> bytes:
        assert self._process.stdout is not None
        handle = self._process.stdout.fileno()
        while b"\n" not in self._rest:
            if not select.select([handle], [], [], max(0.0, until - time.monotonic()))[0]:
                raise ValueError(f"no answer for {PATIENCE:.0f} s")
            chunk = os.read(handle, 1 << 18)
            if not chunk:
                raise ValueError("it ended")
            self._rest += chunk
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        for number in (signal.SIGTERM, signal.SIGKILL):
            try:
                self._process.wait(3)
            except subprocess.TimeoutExpired:
                os.killpg(self._process.pid, number)
        self._process.wait()
        self._process.stdout.close()
