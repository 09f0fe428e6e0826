"""Overrides that do not fit what the upstreams offer: told, never passed over in silence."""

from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

import structlog

from proxy.agents.view import View
from proxy.config.model import AgentConfig
from proxy.model import Kind
from proxy.upstream.kinds import AnyUpstream

log = structlog.get_logger(__name__)

ViewOf = Callable[[str], View]
"""The view of an agent."""


@dataclass(frozen=True, slots=True)
class Misfit:
    """One thing about an override that an operator should look at."""

    agent: str
    override: str
    """The name of the tool, as it is written in the configuration."""
    what: str

    def __str__(self) -> str:
        return f'agents.{self.agent}.overrides."{self.override}": {self.what}'


def misfits(agents: Mapping[str, AgentConfig], view: ViewOf) -> Iterator[Misfit]:
    """Everything that does not fit now; what an upstream lists later may still make it fit."""
    for name, agent in agents.items():
        if agent.overrides:
            yield from _of_agent(name, view(name))


def _of_agent(agent: str, view: View) -> Iterator[Misfit]:
    missing = [upstream for upstream in view.upstreams if upstream not in view.catalog.listings]
    late = f"; not listed yet: {', '.join(missing)}" if missing else ""
    for text in view.tailored.unknown:
        yield Misfit(agent, text, f"no tool that the agent sees is called so{late}")
    for entry in view.catalog.of(Kind.TOOL):
        lines = view.tailored.lines.get(entry.key, ())
        bound = view.tailored.bound(entry)
        wrong = view.tailored.faults.get(entry.key)
        for what in (
            *((f"{_named(entry.key)} is not seen: {wrong}",) if wrong else ()),
            *(bound.misfits if bound else ()),
        ):
            yield Misfit(agent, lines[0] if lines else entry.route.public, what)


def _named(key: tuple[str, str]) -> str:
    return ".".join(key)


class Misfits:
    """Logs what does not fit, each once for as long as it lasts.

    Args:
        agents: the configured agents, as they are now.
        view: the view of an agent.
    """

    def __init__(self, agents: Callable[[], Mapping[str, AgentConfig]], view: ViewOf) -> None:
        self._agents = agents
        self._view = view
        self._told: frozenset[Misfit] = frozenset()
        self._ready = False

    async def begin(self, upstreams: Iterable[AnyUpstream], grace: Callable[[AnyUpstream], Awaitable[None]]) -> None:
        """Look for the first time, when all who start now had their grace to be listed."""
        for upstream in upstreams:
            if upstream.listing is None and not upstream.config.lazy:
                await grace(upstream)
        self._ready = True
        self.look()

    def look(self) -> None:
        """Something changed: tell what does not fit now and did before."""
        if not self._ready:
            return
        found = tuple(misfits(self._agents(), self._view))
        for one in found:
            if one not in self._told:
                log.warning("agent.override.misfit", agent=one.agent, override=one.override, problem=one.what)
        self._told = frozenset(found)
