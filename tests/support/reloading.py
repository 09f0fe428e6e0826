"""A runtime that follows a configuration file, and what tests want of it."""

import json
import os
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread

from proxy.agents.view import View
from proxy.config.diff import Plan
from proxy.config.load import load
from proxy.config.model import Config
from proxy.model import Caller, Kind
from proxy.reload import Outcome, Reloader, Source
from proxy.router import Request
from proxy.runtime import Runtime

CHILD = str(Path(__file__).with_name("mcp_child.py"))
PATIENCE = 20.0
"""Seconds after which something that should happen is taken not to."""

Json = dict[str, Any]


def server(label: str, *tools: str, **more: Any) -> Json:
    """The entry of a scripted upstream that answers with a label."""
    return {"command": sys.executable, "args": ["-I", "-S", CHILD, label, *tools], **more}


def put(file: Path, parts: Mapping[str, Json] | None = None, **servers: Json) -> None:
    """Write a configuration in place: its upstreams, and other parts."""
    write(file, json.dumps({**(parts or {}), "mcpServers": servers}))


def write(file: Path, content: str) -> None:
    """Write a file in place."""
    file.write_text(content)


@dataclass
class Follower:
    """A runtime and its reloader, both running."""

    file: Path
    runtime: Runtime
    reloader: Reloader = field(init=False)
    plans: list[Plan] = field(default_factory=list)
    """What took effect, in order."""
    _more: anyio.Event = field(default_factory=anyio.Event)

    def heard(self, _config: Config, plan: Plan) -> None:
        self.plans.append(plan)
        self._more.set()

    async def applied(self, count: int = 1) -> None:
        """Wait until so many configurations took effect, and no more did."""
        with anyio.fail_after(PATIENCE):
            while len(self.plans) < count:
                self._more = anyio.Event()
                await self._more.wait()
        assert len(self.plans) == count, self.plans

    async def reload(self, parts: Mapping[str, Json] | None = None, **servers: Json) -> Outcome:
        """Write a configuration and reload."""
        put(self.file, parts, **servers)
        with anyio.fail_after(PATIENCE):
            return await self.reloader.reload()

    async def call(self, tool: str, *, agent: str | None = None, **arguments: str) -> str:
        """Call a tool and return the text of its answer."""
        request = Request("tools/call", {"name": tool, "arguments": arguments}, Caller(agent=agent))
        reply = await self.runtime.router.send(await self.runtime.router.route(request))
        text: str = reply.result["content"][0]["text"]
        return text

    def view(self, agent: str | None = None) -> View:
        return self.runtime.view(agent)

    def tools(self, agent: str | None = None) -> list[str]:
        """The names of all tools."""
        return list(self.view(agent).entries(Kind.TOOL))

    def pid(self, upstream: str) -> int:
        """The process of an upstream that is connected."""
        session = self.runtime.registry[upstream].session
        assert session is not None
        pid: int = session.link.pid  # type: ignore[attr-defined]  # all upstreams here are processes
        return pid


@asynccontextmanager
async def following(
    file: Path, *, watch: bool = False, state: Path | None = None, interval: float = 3600.0
) -> AsyncIterator[Follower]:
    """Run what a file says, and reload it; its upstreams are listed."""
    loaded = load(file)
    source = Source.of(loaded, partial(load, file), watch=watch)
    async with Runtime(loaded.config, state=state) as runtime:
        follower = Follower(file, runtime)
        follower.reloader = Reloader(runtime, Source(source.load, source.files, interval), follower.heard)
        runtime.start()
        with anyio.fail_after(PATIENCE):
            await runtime.ready(None)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(follower.reloader.run)
            yield follower
            tasks.cancel_scope.cancel()


class Held:
    """A call of ``hold`` that a test lets go."""

    def __init__(self, folder: Path, name: str = "held") -> None:
        self._running = folder / f"{name}.running"
        self._go = folder / f"{name}.go"
        os.mkfifo(self._running)
        os.mkfifo(self._go)
        self.arguments = {"running": str(self._running), "go": str(self._go)}

    async def running(self) -> None:
        """Wait until the upstream executes it."""
        with anyio.fail_after(PATIENCE):
            await anyio.to_thread.run_sync(self._running.read_text, abandon_on_cancel=True)

    async def go(self) -> None:
        """Let it end."""
        with anyio.fail_after(PATIENCE):
            await anyio.to_thread.run_sync(self._go.write_text, "", abandon_on_cancel=True)
