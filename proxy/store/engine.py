"""What all contexts of one ``Manifold`` share: runtime, figures, prepared schemas, and what is known of each view."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, Literal

import anyio
import structlog

from proxy.agents.view import View
from proxy.errors import UpstreamError
from proxy.model import Kind, Route
from proxy.runtime import Runtime
from proxy.store.caching import CacheFigures, Tally
from proxy.store.figures import Recorder
from proxy.store.servers import Place
from proxy.store.storage import Storage
from proxy.store.tool import Tool, function_names
from proxy.store.validation import Validators

log = structlog.get_logger(__name__)

Validate = Literal["off", "warn", "strict"]
"""What happens to arguments that do not fit a tool's schema: nothing, a warning in the result, or an error."""
Errors = Literal["raise", "result"]
"""How a call that fails comes back: as an exception, or as a result with ``error``."""

MAX_NAMES: Final = 4096
"""How many written forms of names are remembered for each view."""


@dataclass
class Known:
    """The tools of one view, ready made."""

    view: View
    tools: tuple[Tool, ...]
    by_name: dict[str, Tool]
    by_function: dict[str, Tool]
    found: dict[str, Tool] = field(default_factory=dict)
    """Other forms of names that were looked up."""

    @classmethod
    def of(cls, view: View, shown: Callable[[str], str]) -> "Known":
        """Make the tools of a view.

        Args:
            view: the view.
            shown: how an upstream is called in it.
        """
        entries = view.entries(Kind.TOOL)
        functions = function_names(entries)
        tools = tuple(
            Tool(name, shown(entry.route.upstream), entry.route.name, functions[name], raw)
            for (name, entry), raw in zip(entries.items(), view.listing(Kind.TOOL), strict=True)
        )
        return cls(view, tools, {tool.name: tool for tool in tools}, {tool.function: tool for tool in tools})


@dataclass
class Engine:
    """The shared parts, and the look-ups that contexts make in them."""

    runtime: Runtime
    recorder: Recorder
    storage: Storage
    place: Place
    validate: Validate = "off"
    errors: Errors = "raise"
    validators: Validators = field(default_factory=Validators)
    _known: dict[str | None, Known] = field(default_factory=dict)
    _stale: set[str] = field(default_factory=set)
    _catalog: Tally = field(default_factory=Tally)
    _names: Tally = field(default_factory=Tally)
    _renewing: anyio.Lock = field(default_factory=anyio.Lock)

    # -- look-ups ------------------------------------------------------------------------------------------------------

    def known(self, agent: str | None) -> Known:
        """The tools of an agent or the store.

        Raises:
            UnknownServer: there is no such agent.
        """
        view = self.runtime.view(agent)
        known = self._known.get(agent)
        if known is None or known.view is not view:
            self._catalog.misses += 1
            known = self._known[agent] = Known.of(view, self.place.registration.of(agent).shown)
        else:
            self._catalog.hits += 1
        return known

    def tool(self, agent: str | None, name: str) -> Tool:
        """The tool that a name means, however it is written; names of functions come first.

        Raises:
            RoutingError: it means none that the agent may see, or several.
        """
        known = self.known(agent)
        tool = known.by_function.get(name) or known.by_name.get(name) or known.found.get(name)
        if tool is not None:
            self._names.hits += 1
            return tool
        self._names.misses += 1
        route = self._own(known.view, agent, name) or known.view.tool(name)
        shown = known.view.names(Kind.TOOL).name_of((route.upstream, route.name))
        tool = known.by_name[shown] if shown is not None else None
        if tool is None:  # pragma: no cover - a view routes only to what it shows
            raise known.view.names(Kind.TOOL).error(name)
        if len(known.found) >= MAX_NAMES:
            known.found.clear()
        known.found[name] = tool
        return tool

    def _own(self, view: View, agent: str | None, name: str) -> Route | None:
        """What a name means among the servers of the agent's own, as ``server.tool``."""
        for written in self.place.registration.of(agent).written(name):
            found = view.names(Kind.TOOL).matches(written)
            if len(found) == 1:
                return found[0].route
        return None

    # -- freshness -----------------------------------------------------------------------------------------------------

    async def wait(self, agent: str | None, wait: bool | float) -> None:
        """The smart wait: True until each upstream's grace is over, a number so many seconds at most, False not at all.

        What was cleared is listed anew.
        """
        if wait is False:
            return
        await self.renew(agent)
        if wait is True:
            await self.runtime.ready(agent)
            return
        visible = self.runtime.view(agent).upstreams
        with anyio.move_on_after(wait):
            for upstream in tuple(self.runtime.registry):
                if upstream.name in visible and upstream.listing is None:
                    upstream.start()
                    await upstream.settled()

    async def refresh(self, names: Iterable[str]) -> dict[str, UpstreamError]:
        """List upstreams anew, all at once; what cannot be reached keeps its last-known listing.

        Returns:
            Why some of them could not be listed.
        """
        failed: dict[str, UpstreamError] = {}

        async def one(name: str) -> None:
            try:
                await self.runtime.registry[name].refresh()
            except UpstreamError as error:
                log.warning("upstream.refresh.failed", upstream=name, error=error.message)
                failed[name] = error

        async with anyio.create_task_group() as tasks:
            for name in names:
                tasks.start_soon(one, name)
        return failed

    async def renew(self, agent: str | None) -> None:
        """List anew what was cleared and is seen by an agent."""
        if not self._stale:
            return
        async with self._renewing:
            there = {upstream.name for upstream in self.runtime.registry}
            due = self._stale.intersection(self.runtime.view(agent).upstreams)
            await self.refresh(due & there)
            self._stale -= due

    def clear(self, agent: str | None = None, server: str | None = None) -> None:
        """Forget what is known: of what an agent sees, of one server, or everything. It is listed anew when asked for.

        Raises:
            UnknownServer: there is no such agent.
        """
        everything = agent is None and server is None
        there = {upstream.name for upstream in self.runtime.registry}
        seen = there if everything else set(self.runtime.view(agent).upstreams)
        self._stale |= seen if server is None else seen & {server}
        if agent is None:
            self._known.clear()
        else:
            self._known.pop(agent, None)
        if everything:
            self.validators.clear()

    def forget_agent(self, agent: str) -> None:
        """An agent is gone, and its figures with it."""
        self._known.pop(agent, None)
        self.recorder.forget(agent)

    def caches(self) -> dict[str, CacheFigures]:
        """How each cache does."""
        tools = sum(len(known.tools) for known in self._known.values())
        names = sum(len(known.by_name) + len(known.found) for known in self._known.values())
        schemas = self.validators.tally
        return {
            "tools": CacheFigures(tools, self._catalog.hits, self._catalog.misses),
            "names": CacheFigures(names, self._names.hits, self._names.misses),
            "schemas": CacheFigures(len(self.validators), schemas.hits, schemas.misses),
        }
