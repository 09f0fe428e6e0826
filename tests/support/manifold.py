"""Starts Manifold as a real process, as people do, and listens to what it says."""

import json
import os
import re
import signal
import sys
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from subprocess import PIPE, CompletedProcess
from typing import Any, Final

import anyio
from anyio.abc import Process

from proxy.runtime import background
from tests.support.planted import SEARCH, SECRET, VARIABLE, plant

ROOT: Final = Path(__file__).parents[2]
PATIENCE: Final = 20.0
"""Seconds for anything that a test waits for."""

Json = dict[str, Any]
Upstreams = Mapping[str, Any]


@dataclass(frozen=True)
class Home:
    """A folder with a configuration file in it, and a place for Manifold's state."""

    folder: Path

    @property
    def config(self) -> Path:
        """The configuration file."""
        return self.folder / "manifold.json"

    @property
    def state(self) -> Path:
        """Where Manifold keeps what it knows."""
        return self.folder / "state"

    @property
    def listings(self) -> list[Path]:
        """The files with last-known listings."""
        return sorted((self.state / "mcp-manifold" / "listings").glob("*.json"))

    def write(self, upstreams: Upstreams, **sections: Any) -> "Home":
        """Write the configuration; returns itself."""
        self.config.write_text(json.dumps({"mcpServers": plant(upstreams), **sections}, default=str))
        return self

    def command(self, *arguments: str) -> list[str]:
        """A command of ``mcp-manifold`` on this configuration."""
        return [sys.executable, "-m", "proxy", *arguments, "--config", str(self.config)]

    def env(self, **more: str) -> dict[str, str]:
        """The environment for it."""
        return {**os.environ, "XDG_STATE_HOME": str(self.state), "PYTHONPATH": str(ROOT), VARIABLE: SECRET, **more}

    async def run(self, *arguments: str, **env: str) -> "CompletedProcess[str]":
        """Run a command that ends by itself."""
        with anyio.fail_after(PATIENCE):
            done = await anyio.run_process(
                self.command(*arguments), check=False, cwd=self.folder, env=self.env(**env), stdin=None
            )
        SEARCH.look(f"{done.stdout.decode()}\n{done.stderr.decode()}", f"mcp-manifold {' '.join(arguments)}")
        return CompletedProcess(done.args, done.returncode, done.stdout.decode(), done.stderr.decode())


class Manifold:
    """A running Manifold. Its standard error is read all the time."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.url = ""
        """The endpoint, when it serves over HTTP."""
        self._said: list[str] = []
        self._news = anyio.Event()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def said(self) -> str:
        """All that it wrote to its standard error so far."""
        if len(self._said) > 1:  # joined when somebody looks: a test that measures must not copy it for each line
            self._said = ["".join(self._said)]
        return self._said[0] if self._said else ""

    @property
    def base(self) -> str:
        """The address of its listener."""
        return self.url.removesuffix("/mcp")

    def agent(self, name: str) -> str:
        """The endpoint of an agent."""
        return f"{self.base}/agents/{name}/mcp"

    @property
    def events(self) -> list[Json]:
        """What it has logged."""
        lines = [line for line in self.said.splitlines() if line.startswith("{")]
        return [json.loads(line) for line in lines if line.endswith("}")]

    async def listen(self) -> None:
        """Take in what it says until it closes its standard error."""
        assert self.process.stderr is not None
        async for chunk in self.process.stderr:
            self._said.append(chunk.decode(errors="replace"))
            self._tell()
        self._tell()

    def _tell(self) -> None:
        news, self._news = self._news, anyio.Event()
        news.set()

    async def until(self, known: Callable[[], Any]) -> Any:
        """Wait until something that it said makes ``known`` true; returns that."""
        try:
            with anyio.fail_after(PATIENCE):
                while not (found := known()):
                    await self._news.wait()
        except TimeoutError:
            raise AssertionError(f"never seen; Manifold said:\n{self.said}") from None
        return found

    async def event(self, name: str, **members: Any) -> Json:
        """Wait for an event of its log."""
        wanted = {"event": name, **members}
        found: Json = await self.until(
            lambda: next((one for one in self.events if wanted.items() <= one.items()), None)
        )
        return found

    async def banner(self) -> str:
        """Wait until it has printed everything for people."""
        await self.until(lambda: "claude mcp add" in self.said)
        return self.said

    async def end(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; returns the exit status."""
        if self.process.returncode is None:
            self.process.send_signal(number)
        with anyio.fail_after(PATIENCE):
            return await self.process.wait()


@asynccontextmanager
async def serving(home: Home, *arguments: str, port: int = 0, **env: str) -> AsyncIterator[Manifold]:
    """Serve a configuration over HTTP, on a free port unless one is named; given as soon as it listens."""
    command = home.command("serve", "--http", "--port", str(port), *arguments)
    async with started(command, home.folder, home.env(**env), stdin=None) as manifold:
        manifold.url = (await manifold.event("manifold.listening"))["url"]
        yield manifold


@asynccontextmanager
async def started(
    command: Sequence[str], cwd: Path, env: Mapping[str, str], *, stdin: int | None = PIPE
) -> AsyncIterator[Manifold]:
    """Run a command as a Manifold, and end it at the latest when the block is left."""
    process = await anyio.open_process(command, cwd=cwd, env=env, stdin=stdin, start_new_session=True)
    manifold = Manifold(process)
    async with background() as tasks:
        tasks.start_soon(manifold.listen)
        try:
            yield manifold
        finally:
            with anyio.CancelScope(shield=True):
                await _ended(manifold)


async def _ended(manifold: Manifold) -> None:
    try:
        await manifold.end()
        SEARCH.look(manifold.said, f"standard error of process {manifold.pid}")
    except TimeoutError:
        manifold.process.kill()
        raise
    finally:
        await manifold.process.aclose()


class Wire:
    """A client that speaks plain lines over the standard streams of a Manifold."""

    HELLO: Final = {
        "protocolVersion": "2025-11-25",
        "capabilities": {},
        "clientInfo": {"name": "wire", "version": "1"},
    }
    OPENING: Final = "".join(
        json.dumps({"jsonrpc": "2.0", **message}) + "\n"
        for message in (
            {"id": 0, "method": "initialize", "params": HELLO},
            {"method": "notifications/initialized"},
        )
    )
    """The whole handshake, for those who do not wait for the answer."""

    def __init__(self, manifold: Manifold) -> None:
        self.manifold = manifold
        self.lines: list[str] = []
        """Everything that came on standard output."""
        self.notifications: list[Json] = []
        self._numbers = 0
        self._rest = b""

    async def open(self) -> Json:
        """Shake hands."""
        result = await self.request("initialize", self.HELLO)
        await self.send({"method": "notifications/initialized"})
        return result

    async def request(self, method: str, params: Json | None = None) -> Json:
        """Send a request and wait for its answer: the result, or the whole error."""
        self._numbers += 1
        await self.send({"id": self._numbers, "method": method, "params": params or {}})
        while (message := await self.next()).get("id") != self._numbers:
            self.notifications.append(message)
        return message["error"] if "error" in message else dict(message["result"])

    async def call(self, name: str, **arguments: Any) -> Json:
        """Call a tool."""
        return await self.request("tools/call", {"name": name, "arguments": arguments})

    async def heard(self, method: str) -> Json:
        """Wait for a notification."""
        while True:
            for position, message in enumerate(self.notifications):
                if message.get("method") == method:
                    return self.notifications.pop(position)
            self.notifications.append(await self.next())

    async def send(self, message: Json) -> None:
        """Send one message."""
        assert self.manifold.process.stdin is not None
        await self.manifold.process.stdin.send(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")

    async def say(self, *messages: bytes) -> list[int]:
        """Send messages, in one go."""
        assert self.manifold.process.stdin is not None
        await self.manifold.process.stdin.send(b"".join(message + b"\n" for message in messages))
        return []

    async def next(self) -> Json:
        """The next message; every line must be one."""
        line = await self.line()
        message: Json = json.loads(line)
        assert message["jsonrpc"] == "2.0"
        return message

    async def line(self) -> str:
        """The next line."""
        assert self.manifold.process.stdout is not None
        with anyio.fail_after(PATIENCE):
            while b"\n" not in self._rest:
                self._rest += await self.manifold.process.stdout.receive()
        line, _, self._rest = self._rest.partition(b"\n")
        self.lines.append(line.decode())
        return self.lines[-1]

    async def close(self) -> int:
        """Close standard input and wait for Manifold to end; what else it wrote goes to ``lines``."""
        process = self.manifold.process
        assert process.stdin is not None
        assert process.stdout is not None
        await process.stdin.aclose()
        with anyio.fail_after(PATIENCE):
            async for chunk in process.stdout:
                self._rest += chunk
            self.lines += [line for line in self._rest.decode().splitlines() if line]
            return await process.wait()


@asynccontextmanager
async def stdio(home: Home, *arguments: str, **env: str) -> AsyncIterator[Wire]:
    """Serve a configuration over stdio, with a plain client at the other end; not opened yet."""
    async with started(home.command("serve", "--stdio", *arguments), home.folder, home.env(**env)) as manifold:
        yield Wire(manifold)


def endpoints(said: str) -> list[str]:
    """The endpoints that a banner names."""
    return re.findall(r"http://\S+/mcp\b", said)
