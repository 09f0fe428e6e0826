"""What an agent may see. Where several agents apply to one downstream, only what all of them may see."""

from collections.abc import Sequence

from proxy.agents.hints import lacking, wanted_hints
from proxy.catalog.naming import sanitise
from proxy.catalog.policy import Filters, Gate
from proxy.catalog.snapshot import Entry
from proxy.config.model import AgentConfig
from proxy.model import Kind


def spellings(entry: Entry) -> tuple[str, ...]:
    """The names by which an operator may mean an entry."""
    route = entry.route
    return route.name, sanitise(route.name), route.public, f"{route.upstream}.{route.name}"


class Sight:
    """The filters of some agents together; with no agent (the store) everything passes."""

    def __init__(self, agents: Sequence[AgentConfig]) -> None:
        self._servers = [Gate(agent.servers) for agent in agents]
        self._filters = [Filters(agent.tools, agent.prompts, agent.resources) for agent in agents]
        self._hints = [wanted_hints(agent.annotations, read_only=agent.read_only) for agent in agents]

    def upstream(self, name: str) -> bool:
        """Whether an upstream exists for them."""
        return all(gate.admits(name) for gate in self._servers)

    def entry(self, entry: Entry) -> bool:
        """Whether a listed entry exists for them, whose upstream does."""
        route = entry.route
        if route.kind is Kind.TOOL and any(lacking(entry.raw, wanted) for wanted in self._hints):
            return False
        return all(gate.open or gate.admits(*spellings(entry)) for gate in self._gates(route.kind))

    def named(self, kind: Kind, upstream: str, own: str, public: str) -> bool:
        """Whether their filters would let a tool or prompt of these names pass, about which nothing else is known."""
        return all(gate.admits(own, sanitise(own), public, f"{upstream}.{own}") for gate in self._gates(kind))

    def uri(self, upstream: str, uri: str, exported: str) -> bool:
        """Whether a resource that nobody listed exists for them, given its URI at its upstream, which does."""
        return all(gate.admits_uri(uri, exported, f"{upstream}.{uri}") for gate in self._gates(Kind.RESOURCE))

    def _gates(self, kind: Kind) -> list[Gate]:
        return [filters.gate(kind) for filters in self._filters]
