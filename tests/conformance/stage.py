"""Starts the fixture and a Manifold before it, each in a process of its own."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from tests.e2e.peers.rig import ROOT
from tests.e2e.peers.serving import free_port

HERE: Final = Path(__file__).parent
START: Final = 30.0
"""Seconds a process may take until it listens."""
STOP: Final = 5.0

NAME: Final = "everything"
"""The upstream that counts, in the configuration of every stage."""
DECOY: Final = "decoy"
"""An upstream with the same names, where there is one."""
STATE_KEY: Final = "0123456789abcdef0123456789abcdef"


@dataclass(frozen=True)
class Cast:
    """How a stage is set up."""

    era: str
    """What the upstream speaks: ``legacy``, ``modern`` or ``dual``."""
    upstream: str = "http"
    """How it is reached: ``http`` or ``stdio``."""
    prefixed: bool = False
    """Whether names are prefixed, with a decoy beside the upstream and the shim in front of Manifold."""
    options: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Further options of the upstream in the configuration."""

    def __str__(self) -> str:
        return f"{self.era}-{self.upstream}{'-prefixed' if self.prefixed else ''}"


@dataclass(frozen=True)
class Stage:
    """What was started."""

    url: str
    """Where the suite connects to: Manifold, or the shim before it."""
    direct: str
    """The fixture itself; empty when it is reached over stdio."""
    config: Path
    cast: Cast


def fixture_command(*arguments: str) -> list[str]:
    """Starts the fixture."""
    return [sys.executable, str(HERE / "fixture.py"), *arguments]


def manifold_command(config: Path, *arguments: str) -> list[str]:
    """Starts Manifold."""
    return [sys.executable, "-m", "proxy", "serve", "--config", str(config), *arguments]


@contextmanager
def staged(folder: Path, cast: Cast) -> Iterator[Stage]:
    """Start everything, and end it."""
    with ExitStack() as stack:
        upstreams: dict[str, Any] = {}
        direct = ""
        for name in (NAME, DECOY) if cast.prefixed else (NAME,):
            upstreams[name], url = stack.enter_context(upstream_of(folder, name, cast))
            direct = direct or url
        config = configured(folder, upstreams, prefixed=cast.prefixed)
        url = stack.enter_context(manifold(folder, config))
        if cast.prefixed:
            url = stack.enter_context(_shim(folder, url))
        yield Stage(url, direct, config, cast)


@contextmanager
def upstream_of(folder: Path, name: str, cast: Cast) -> Iterator[tuple[dict[str, Any], str]]:
    """Start an upstream, or say how it is started; its configuration, and its URL if it has one."""
    if cast.upstream == "stdio":
        program, *arguments = fixture_command("--stdio", "--era", cast.era)
        yield {"command": program, "args": arguments, **cast.options}, ""
        return
    port = free_port()
    with running(folder / f"{name}.log", fixture_command("--port", str(port), "--era", cast.era), port):
        url = f"http://127.0.0.1:{port}/mcp"
        yield {"url": url, **cast.options}, url


def configured(
    folder: Path, upstreams: Mapping[str, Any], *, prefixed: bool = False, express: bool = True, **rest: Any
) -> Path:
    """A configuration file for these upstreams."""
    naming = {"pattern": "mcp_{server}_{tool}" if prefixed else "{tool}"}
    path = folder / "manifold.json"
    server = {"state_keys": [STATE_KEY], "express": express}
    path.write_text(json.dumps({"server": server, "naming": naming, "mcpServers": dict(upstreams), **rest}))
    return path


@contextmanager
def manifold(folder: Path, config: Path) -> Iterator[str]:
    """Serve a configuration over HTTP; yields the URL once every upstream is listed."""
    port = free_port()
    command = manifold_command(config, "--http", "--port", str(port))
    with running(
        folder / "manifold.log", command, port, env={"XDG_STATE_HOME": str(folder / "state")}, ready="/readyz"
    ):
        yield f"http://127.0.0.1:{port}/mcp"


@contextmanager
def _shim(folder: Path, target: str) -> Iterator[str]:
    port = free_port()
    command = [sys.executable, str(HERE / "shim.py"), str(port), target, NAME]
    with running(folder / "shim.log", command, port):
        yield f"http://127.0.0.1:{port}/mcp"


@contextmanager
def running(
    log: Path, command: Sequence[str], port: int, *, env: Mapping[str, str] | None = None, ready: str = ""
) -> Iterator[None]:
    """Run a server for as long as the block runs; the block begins when it listens, and ``ready`` answers 200."""
    with log.open("w") as out:
        process = subprocess.Popen(
            command, cwd=ROOT, env=os.environ | (env or {}), stdout=out, stderr=out, start_new_session=True
        )
        try:
            _wait(process, port, ready, log)
            yield
        finally:
            _end(process)


def _wait(process: "subprocess.Popen[bytes]", port: int, ready: str, log: Path) -> None:
    deadline = time.monotonic() + START
    while not _listens(port, ready):
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"{' '.join(process.args)} does not listen:\n{log.read_text()}")  # type: ignore[arg-type]
        time.sleep(0.05)  # nothing tells when a process of somebody else begins to listen


def _listens(port: int, ready: str) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
            if not ready:
                return True
            connection.sendall(f"GET {ready} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
            return b" 200 " in connection.recv(64)
    except OSError:
        return False


def _end(process: "subprocess.Popen[bytes]") -> None:
    for number in (signal.SIGTERM, signal.SIGKILL):
        with suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(STOP)
            return
