"""``CatalogProvider``: the catalog as a FastMCP provider, to mount Manifold into a FastMCP server of one's own."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import TypeVar

import anyio
import structlog
from fastmcp.prompts.base import Prompt
from fastmcp.resources.base import Resource
from fastmcp.resources.template import ResourceTemplate
from fastmcp.server.providers import Provider
from fastmcp.tools.base import Tool
from fastmcp.utilities.components import FastMCPComponent
from fastmcp.utilities.versions import VersionSpec
from pydantic import ValidationError

from proxy.config.model import Config
from proxy.gateway.components import RelayedPrompt, RelayedResource, RelayedTemplate, RelayedTool, Target
from proxy.model import Kind, Params
from proxy.runtime import Runtime

log = structlog.get_logger(__name__)

C = TypeVar("C", bound=FastMCPComponent)


class CatalogProvider(Provider):
    """What a runtime's upstreams offer, as FastMCP components.

    ``FastMCP("mine", providers=[CatalogProvider(runtime)])`` for a runtime that runs already, or
    ``CatalogProvider.of(config)``, which runs one for as long as the server lives.

    Args:
        runtime: where the catalog and the router are.
        agent: whose view to offer; None for everything.
    """

    def __init__(self, runtime: Runtime, *, agent: str | None = None) -> None:
        super().__init__()
        self.runtime = runtime
        self.agent = agent
        self._target = Target(runtime, agent)
        self._owned = False

    @classmethod
    def of(cls, config: Config, *, agent: str | None = None) -> "CatalogProvider":
        """A provider with a runtime of its own, started and stopped with the server."""
        provider = cls(Runtime(config), agent=agent)
        provider._owned = True
        return provider

    @asynccontextmanager
    async def lifespan(self) -> AsyncIterator[None]:
        """Run the runtime, if it is our own."""
        if not self._owned:
            yield
            return
        async with _in_a_task_of_its_own(self.runtime):
            yield

    async def _list_tools(self) -> Sequence[Tool]:
        return await self._all(Kind.TOOL, RelayedTool.of)

    async def _list_resources(self) -> Sequence[Resource]:
        return await self._all(Kind.RESOURCE, RelayedResource.of)

    async def _list_resource_templates(self) -> Sequence[ResourceTemplate]:
        return await self._all(Kind.TEMPLATE, RelayedTemplate.of)

    async def _list_prompts(self) -> Sequence[Prompt]:
        return await self._all(Kind.PROMPT, RelayedPrompt.of)

    async def _get_tool(self, name: str, version: VersionSpec | None = None) -> Tool | None:
        del version
        return await self._one(Kind.TOOL, name, RelayedTool.of)

    async def _get_resource(self, uri: str, version: VersionSpec | None = None) -> Resource | None:
        del version
        return await self._one(Kind.RESOURCE, uri, RelayedResource.of)

    async def _get_prompt(self, name: str, version: VersionSpec | None = None) -> Prompt | None:
        del version
        return await self._one(Kind.PROMPT, name, RelayedPrompt.of)

    async def _all(self, kind: Kind, make: Callable[[Target, Params], C]) -> list[C]:
        await self.runtime.ready(self.agent)
        made = (self._made(raw, make) for raw in self.runtime.view(self.agent).listing(kind))
        return [one for one in made if one is not None]

    async def _one(self, kind: Kind, name: str, make: Callable[[Target, Params], C]) -> C | None:
        await self.runtime.ready(self.agent)
        shown = self.runtime.view(self.agent).entries(kind)
        if name not in shown:
            return None
        index = list(shown).index(name)
        return self._made(self.runtime.view(self.agent).listing(kind)[index], make)

    def _made(self, raw: Params, make: Callable[[Target, Params], C]) -> C | None:
        try:
            return make(self._target, raw)
        except ValidationError as error:
            # FastMCP's models are stricter than the protocol: such an entry costs itself only.
            log.warning("provider.entry_left_out", name=str(raw.get("name"))[:200], problems=error.error_count())
            return None


@asynccontextmanager
async def _in_a_task_of_its_own(runtime: Runtime) -> AsyncIterator[None]:
    """Run a runtime while the block runs.

    FastMCP leaves the lifespans of providers inside a cancel scope in which it did not enter them. Task groups cannot
    be left so; they must be entered and left by a task that does nothing else.
    """
    started, wanted = anyio.Event(), anyio.Event()

    async def own() -> None:
        try:
            async with runtime:
                runtime.start()
                started.set()
                await wanted.wait()
        finally:
            started.set()

    task = asyncio.create_task(own(), name="manifold")
    try:
        await started.wait()
        if not task.done():  # otherwise it failed, and says so below
            yield
    finally:
        wanted.set()
        with anyio.CancelScope(shield=True):
            await task
