"""A runtime in the test's own process, and waiting for what its upstreams do."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio

from proxy.config.model import Config
from proxy.model import Caller, Kind, StatusEvent, UpstreamState
from proxy.router import Request
from proxy.runtime import Runtime
from tests.support.planted import SECRET, plant

PATIENCE = 20.0
"""Seconds for anything that a test waits for."""


class Running:
    """A runtime that is running, and everything that its upstreams have told."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.told: list[StatusEvent] = []
        self._news = anyio.Event()
        runtime.on_status.append(self._note)
        runtime.holder.subscribe(lambda _change: self._news.set())

    def _note(self, event: StatusEvent) -> None:
        self.told.append(event)
        self._news.set()

    async def status(self, upstream: str, state: UpstreamState, times: int = 1) -> StatusEvent:
        """Wait until an upstream has gone into a state for so many times; that event."""

        def found() -> list[StatusEvent]:
            return [one for one in self.told if (one.upstream, one.new) == (upstream, state)]

        with anyio.fail_after(PATIENCE):
            while len(found()) < times:
                self._news = anyio.Event()
                await self._news.wait()
        return found()[times - 1]

    def names(self, agent: str | None = None) -> set[str]:
        """The tools on offer now."""
        return set(self.runtime.view(agent).entries(Kind.TOOL))

    async def offers(self, *names: str) -> None:
        """Wait until these tools are on offer."""
        with anyio.fail_after(PATIENCE):
            while not self.names() >= set(names):
                self._news = anyio.Event()
                await self._news.wait()

    async def call(self, name: str, **arguments: Any) -> Any:
        """Call a tool; what it told."""
        request = Request("tools/call", {"name": name, "arguments": arguments}, Caller())
        with anyio.fail_after(PATIENCE):
            routed = await self.runtime.router.route(request)
            result = (await self.runtime.router.send(routed)).result
        return result.get("structuredContent", result)


@asynccontextmanager
async def running(upstreams: Mapping[str, Any], state: Path | None = None, **sections: Any) -> AsyncIterator[Running]:
    """Run a configuration until the block is left."""
    async with Runtime(configured(upstreams, **sections), state=state) as runtime:
        found = Running(runtime)
        runtime.start()
        yield found


def configured(upstreams: Mapping[str, Any], **sections: Any) -> Config:
    """A configuration with these upstreams."""
    return Config.model_validate({"upstreams": plant(upstreams, SECRET), **sections})
