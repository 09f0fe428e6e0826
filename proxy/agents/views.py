"""The views of all agents, kept from catalog to catalog, and what differs between two of them."""

from collections.abc import Mapping
from typing import Final

from proxy.agents.view import View
from proxy.catalog.snapshot import Catalog
from proxy.config.model import AgentConfig
from proxy.errors import UnknownServer
from proxy.model import Kind
from proxy.service.steps import Steps

_LIST_KINDS: Final[Mapping[Kind, str]] = {
    Kind.TOOL: "notifications/tools/list_changed",
    Kind.PROMPT: "notifications/prompts/list_changed",
    Kind.RESOURCE: "notifications/resources/list_changed",
    Kind.TEMPLATE: "notifications/resources/list_changed",
}


def changed_lists(old: View, new: View) -> tuple[str, ...]:
    """The notifications to send to those who saw one view and now see another: only for lists that differ."""
    methods = (method for kind, method in _LIST_KINDS.items() if old.listing(kind) != new.listing(kind))
    return tuple(dict.fromkeys(methods))


class Views:
    """The views of all agents: made once for every catalog, kept until the next one.

    Args:
        agents: the configured agents, by name.
    """

    def __init__(self, agents: Mapping[str, AgentConfig]) -> None:
        self._agents = dict(agents)
        self._given = agents
        self._views: dict[tuple[str, ...], View] = {}
        self._coming: dict[tuple[str, ...], tuple[View, View]] = {}
        """Views of a catalog that may come, each with the one on which it follows."""

    def configure(self, agents: Mapping[str, AgentConfig]) -> None:
        """Replace the configured agents; views that are asked for from now on follow them."""
        if agents is self._given:
            return
        known, self._given = self._agents, agents
        # Those that stay as they are stay the same objects, which spares every request the comparison.
        self._agents = {name: known[name] if known.get(name) == agent else agent for name, agent in agents.items()}
        self._views = {names: view for names, view in self._views.items() if all(name in agents for name in names)}

    def of(self, catalog: Catalog, *names: str) -> View:
        """The view of an agent, of several together (what all of them may see), or of the store.

        Raises:
            UnknownServer: there is no such agent.
        """
        known = self._views.get(names)
        if not names and known is not None and known.catalog is catalog:
            return known
        agents = tuple(self._agent(name) for name in names)
        if known is None or known.catalog is not catalog or known.agents != agents:
            coming, before = self._coming.pop(names, (None, None))
            ready = coming is not None and before is known and coming.catalog is catalog and coming.agents == agents
            known = coming if coming and ready else View(catalog, agents, known, names=names)
            self._views[names] = known
        return known

    def preparing(self, catalog: Catalog) -> Steps[None]:
        """Make the views of a catalog that may come, in steps: those that somebody has asked for."""
        self._coming.clear()
        for names, known in tuple(self._views.items()):
            if all(name in self._agents for name in names):
                agents = tuple(self._agents[name] for name in names)
                self._coming[names] = (yield from View.making(catalog, agents, known, names=names)), known

    def _agent(self, name: str) -> AgentConfig:
        if name not in self._agents:
            raise UnknownServer(f'There is no agent "{name}".', name=name)
        return self._agents[name]
