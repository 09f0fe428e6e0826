"""What is measured: an upstream alone, yardsticks, Manifold, and the proxies of the registries."""

import json
import os
import re
import shlex
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil

from bench import talk
from bench.peers import install

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


def _direct(bench: Bench, _port: int) -> Sequence[str]:
    bench.one_http()
    return ()


def _bare(bench: Bench, port: int) -> Sequence[str]:
    if bench.upstreams.kind == "stdio":
        return [sys.executable, str(PEERS / "bare_stdio_relay.py"), str(port), *bench.one_child()]
    return [sys.executable, str(PEERS / "bare_relay.py"), str(port), bench.one_http()]


def _manifold(bench: Bench, port: int, *, express: bool = True) -> Sequence[str]:
    config = bench.config(f"manifold-{port}", server={"express": express}, log={"level": "warning"})
    return [sys.executable, "-m", "proxy", "serve", "--http", "--port", str(port), "--config", str(config)]


def _lane_off(bench: Bench, port: int) -> Sequence[str]:
    return _manifold(bench, port, express=False)


def _create_proxy(bench: Bench, port: int) -> Sequence[str]:
    config = bench.config(f"create-proxy-{port}")
    return [sys.executable, str(PEERS / "create_proxy.py"), "http", str(port), str(config)]


def _program(part: install.Part, name: str) -> list[str]:
    if part.reason:
        raise Unsuitable(part.reason)
    return part.command(name)


def _npm_proxy(bench: Bench, port: int) -> Sequence[str]:
    options = ["--host", "127.0.0.1", "--port", str(port), "--server", "stream"]
    return [*_program(install.npm(), "mcp-proxy"), *options, "--", *bench.one_child()]


def _supergateway(bench: Bench, port: int) -> Sequence[str]:
    options = ["--outputTransport", "streamableHttp", "--stateful", "--port", str(port), "--logLevel", "none"]
    return [*_program(install.npm(), "supergateway"), "--stdio", shlex.join(bench.one_child()), *options]


def _hub(bench: Bench, port: int) -> Sequence[str]:
    return [*_program(install.npm(), "mcp-hub"), "--port", str(port), "--config", str(bench.config(f"hub-{port}"))]


def _python_proxy(bench: Bench, port: int) -> Sequence[str]:
    options = ["--host", "127.0.0.1", "--port", str(port), "--pass-environment", "--log-level", "ERROR"]
    return [*_program(install.python(), "mcp-proxy"), *options, "--", *bench.one_child()]


def _contextforge(_bench: Bench, _port: int) -> Sequence[str]:
    raise Unsuitable("needs a database, an administrator and a registration of each server by its API; not automated")


DIRECT: Final = Target("direct", _direct)
BARE: Final = Target("bare relay", _bare)
MANIFOLD: Final = Target("Manifold", _manifold)
LANE_OFF: Final = Target("Manifold, lane off", _lane_off)
OTHERS: Final = (
    Target("fastmcp create_proxy", _create_proxy),
    Target("npm mcp-proxy", _npm_proxy),
    Target("supergateway", _supergateway),
    Target("mcp-hub", _hub),
    Target("PyPI mcp-proxy", _python_proxy),
    Target("mcp-contextforge-gateway", _contextforge),
)
ALL: Final = (DIRECT, BARE, MANIFOLD, LANE_OFF, *OTHERS)


@dataclass(frozen=True)
class Served:
    """A target that serves."""

    name: str
    url: str
    pid: int | None
    tool: str
    """What it calls the tool that is called."""

    def family(self) -> list[psutil.Process]:
        """Its processes."""
        if self.pid is None:
            return []
        process = psutil.Process(self.pid)
        return [process, *process.children(recursive=True)]

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
def serving(target: Target, bench: Bench, *, ready: Callable[[list[str]], bool] | None = None) -> Iterator[Served]:
    """A target that serves all its upstreams.

    Raises:
        Unsuitable: it cannot, or does not.
    """
    port = free_port()
    command = target.build(bench, port)
    if not command:
        yield Served(target.name, bench.urls[0], None, "echo")
        return
    with running(command, bench.folder) as process:
        url = f"http://127.0.0.1:{port}{target.path}"
        names = _tools(process, url, port, ready or bool)
        yield Served(target.name, url, process.pid, next(name for name in names if name.endswith("echo")))


def _tools(process: subprocess.Popen[bytes], url: str, port: int, ready: Callable[[list[str]], bool]) -> list[str]:
    until = time.monotonic() + PATIENCE
    fault: object = "it did not start"
    while time.monotonic() < until:
        if process.poll() is not None:
            raise Unsuitable(f"ended with status {process.returncode} at its start")
        try:
            talk.until_listening(port, 1)
            names = talk.Session(url).tools()
            if ready(names):
                return names
            fault = f"it lists {len(names)} tools"
        except (OSError, ValueError, KeyError, talk.Refused) as error:
            fault = error
            if isinstance(error, talk.Refused) and error.status in (404, 405):
                break
        time.sleep(0.1)
    words = " ".join(re.sub(r"<[^>]*>", " ", str(fault)).split())[:160]
    raise Unsuitable(f"does not serve streamable HTTP as measured: {words}")
