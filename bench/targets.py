"""What a target of the benchmark is: upstreams, a process in front of them, and whether it serves."""

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil

from bench import talk

ROOT: Final = Path(__file__).parents[1]
PEERS: Final = Path(__file__).parent / "peers"
PATIENCE: Final = 60.0
"""Seconds for a target to come up."""


@dataclass(frozen=True)
class Upstreams:
    """The servers behind: how many, over what, how much they offer."""

    kind: str = "http"
    count: int = 1
    tools: int = 1
    size: int = 16
    delay: float = 0.0
    """Seconds that a call to the last of them takes."""
    dead: int = 0
    """How many more that end at their start."""
    hanging: int = 0
    """How many more that never say anything."""
    mortal: int = 0
    """How many more that end whenever they are called."""


class Unsuitable(Exception):
    """A target cannot serve this measure; the message says why."""


@dataclass
class Bench:
    """A folder, processes, and the upstreams that run in it."""

    folder: Path
    upstreams: Upstreams
    urls: list[str] = field(default_factory=list)

    def child(self, *, tools: int | None = None) -> list[str]:
        """The command of a stdio upstream."""
        shape = self.upstreams
        return [sys.executable, "-S", str(PEERS / "echo_stdio.py"), str(tools or shape.tools), str(shape.size)]

    def offered(self) -> int:
        """How many tools there are, those of upstreams that never answer aside."""
        shape = self.upstreams
        return shape.count * shape.tools + shape.mortal

    def servers(self) -> dict[str, Any]:
        """The upstreams as ``mcpServers``."""
        if self.upstreams.kind == "http":
            found: dict[str, Any] = {f"u{number}": {"url": url} for number, url in enumerate(self.urls)}
        else:
            command, *args = self.child()
            found = {f"u{number}": {"command": command, "args": args} for number in range(self.upstreams.count)}
        for number in range(self.upstreams.dead):
            found[f"dead{number}"] = {"command": sys.executable, "args": ["-S", "-c", "raise SystemExit(1)"]}
        for number in range(self.upstreams.hanging):
            found[f"hanging{number}"] = {
                "command": sys.executable,
                "args": ["-S", "-c", "import time; time.sleep(600)"],
            }
        for number in range(self.upstreams.mortal):
            found[f"mortal{number}"] = {
                "command": sys.executable,
                "args": ["-S", str(PEERS / "echo_stdio.py"), "1", "16", "mortal"],
            }
        return found

    def config(self, name: str, **sections: Any) -> Path:
        """A configuration file."""
        path = self.folder / f"{name}.json"
        path.write_text(json.dumps({"mcpServers": self.servers(), **sections}))
        return path

    def one_http(self) -> str:
        """The only upstream, over HTTP."""
        if self.upstreams.kind != "http" or len(self.servers()) != 1:
            raise Unsuitable("relays to one HTTP server only")
        return self.urls[0]

    def one_child(self) -> list[str]:
        """The only upstream, over stdio."""
        if self.upstreams.kind != "stdio" or len(self.servers()) != 1:
            raise Unsuitable("relays to one stdio server only")
        return self.child()


Build = Callable[[Bench, int], Sequence[str]]
"""The command that serves at a port."""


@dataclass(frozen=True)
class Target:
    """Something that serves MCP over HTTP."""

    name: str
    build: Build
    path: str = "/mcp"
    sse: bool = False
    """Whether it is spoken to by the legacy transport, a GET stream and POSTs."""
    prepare: Callable[[Bench, int], None] | None = None
    """What has to be done at its port before it serves. Raises Unsuitable."""


@dataclass(frozen=True)
class Served:
    """A target that serves."""

    name: str
    url: str
    pids: tuple[int, ...]
    """The processes that were started for it; none if it is the upstream itself."""
    tool: str
    """What it calls the tool that is called."""

    def family(self) -> list[psutil.Process]:
        """Its processes. Raises psutil.Error if one of those that were started has ended."""
        started = [psutil.Process(pid) for pid in self.pids]
        return [one for each in started for one in (each, *each.children(recursive=True))]

    def cpu(self) -> float:
        """CPU seconds of its processes so far. Raises psutil.Error if it has ended."""
        return sum(sum(one.cpu_times()[:2]) for one in self.family())

    def cpu_exactly(self) -> float:
        """The same to the nanosecond where the system tells (Linux); ``cpu`` counts ticks of 10 ms."""
        tasks = [task for one in self.family() for task in Path(f"/proc/{one.pid}/task").glob("*/schedstat")]
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9 if tasks else self.cpu()

    def rss(self) -> int:
        """Bytes of memory of its processes. Raises psutil.Error if it has ended."""
        return sum(one.memory_info().rss for one in self.family())


def free_port() -> int:
    """A port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def environment(folder: Path) -> dict[str, str]:
    """The environment of every process that is measured."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "XDG_STATE_HOME": str(folder / "state"), "HOME": str(folder)}


@contextmanager
def running(command: Sequence[str], folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A process in a group of its own, ended with everything it has started."""
    with (folder / "said.log").open("ab") as log:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=environment(folder),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    try:
        yield process
    finally:
        family = _children(process.pid)
        process.terminate()
        for one in family:
            _signal(one, signal.SIGTERM)
        _, alive = psutil.wait_procs(family, timeout=3)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
        for one in alive:
            _signal(one, signal.SIGKILL)


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def _signal(process: psutil.Process, number: signal.Signals) -> None:
    with suppress(psutil.NoSuchProcess):
        process.send_signal(number)


@contextmanager
def upstreams(shape: Upstreams, folder: Path) -> Iterator[Bench]:
    """The HTTP upstreams of a bench, running."""
    bench = Bench(folder, shape)
    with ExitStack() as stack:
        for number in range(shape.count if shape.kind == "http" else 0):
            port = free_port()
            delay = shape.delay if number == shape.count - 1 else 0.0
            command = [sys.executable, str(PEERS / "echo_upstream.py"), str(port), str(shape.tools), str(shape.size)]
            stack.enter_context(running([*command, str(delay)], folder))
            bench.urls.append(f"http://127.0.0.1:{port}/mcp")
            talk.until_listening(port, PATIENCE)
        yield bench


@contextmanager
def serving(target: Target, bench: Bench) -> Iterator[Served]:
    """A target that serves all its upstreams.

    Raises:
        Unsuitable: it cannot, or does not.
    """
    port = free_port()
    command = target.build(bench, port)
    if not command:
        yield Served(target.name, bench.urls[0], (), "echo")
        return
    with ExitStack() as stack:
        try:
            process = stack.enter_context(running(command, bench.folder))
        except OSError as error:
            raise Unsuitable(f"cannot be started: {error}") from error
        if target.prepare is not None:
            target.prepare(bench, port)
        url = f"http://127.0.0.1:{port}{target.path}"
        yield Served(target.name, url, (process.pid,), echo(_tools(process, target, url, bench.offered())))


def echo(names: Sequence[str]) -> str:
    """What the tool that is called is called here. Raises Unsuitable."""
    for name in names:
        if name.endswith("echo"):
            return name
    raise Unsuitable(f"lists no tool of the upstream's name, but {', '.join(names)[:80]}")


def _tools(process: subprocess.Popen[bytes], target: Target, url: str, offered: int) -> list[str]:
    """The names of all tools, as soon as it lists them."""
    until = time.monotonic() + PATIENCE
    fault: object = "it did not start"
    while time.monotonic() < until:
        if process.poll() is not None:
            raise Unsuitable(f"ended with status {process.returncode} at its start")
        try:
            names = _listed(target, url)
            if len(names) >= offered:
                return names
            fault = f"it lists {len(names)} of {offered} tools"
        except (OSError, ValueError, KeyError, http.client.HTTPException, talk.Refused) as error:
            fault = error
            if isinstance(error, talk.Refused) and error.status in (404, 405):
                break
        time.sleep(0.1)
    words = " ".join(re.sub(r"<[^>]*>", " ", str(fault)).split())[:160]
    transport = "legacy SSE" if target.sse else "streamable HTTP"
    raise Unsuitable(f"does not serve {transport} as measured: {words}")


def _listed(target: Target, url: str) -> list[str]:
    session = talk.LegacySession(url) if target.sse else talk.Session(url)
    with closing(session):
        return session.tools()
