"""The catalog as one agent sees it, or the store: which entries, under which names, and where a name leads."""

from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Final

from proxy.agents.locate import UriIndex
from proxy.agents.names import local_names, public_names
from proxy.agents.resolve import NameIndex
from proxy.agents.rewrite import definition
from proxy.agents.sight import Sight
from proxy.catalog.aliases import Alias, Lifetime, carry
from proxy.catalog.merge import LOCATED, NAMED
from proxy.catalog.naming import Key
from proxy.catalog.snapshot import Catalog, Entry
from proxy.config.model import AgentConfig, NameStyle
from proxy.errors import UnknownServer
from proxy.model import Kind, Listing, Params, Route

_LIST_KINDS: Final[Mapping[Kind, str]] = {
    Kind.TOOL: "notifications/tools/list_changed",
    Kind.PROMPT: "notifications/prompts/list_changed",
    Kind.RESOURCE: "notifications/resources/list_changed",
    Kind.TEMPLATE: "notifications/resources/list_changed",
}


class View:
    """What a downstream sees. Immutable; lists and look-up tables are made when they are first needed.

    Args:
        catalog: the catalog.
        agents: the agents that apply, the one which decides about names first; none for the store.
        previous: the view that this one follows, whose names stay resolvable for a while.
    """

    def __init__(self, catalog: Catalog, agents: Sequence[AgentConfig] = (), previous: "View | None" = None) -> None:
        self.catalog = catalog
        self.agents = tuple(agents)
        self._sight = Sight(self.agents)
        everywhere = {*catalog.policy.order, *catalog.listings}
        self.upstreams = tuple(filter(self._sight.upstream, catalog.policy.ordered(everywhere)))
        """The upstreams that exist for it, listed or not, in order."""
        self._names = {kind: self._name_index(kind, previous) for kind in NAMED}
        shown = {kind: {entry.route.public: entry for entry in self._visible(kind)} for kind in LOCATED}
        self._shown: Mapping[Kind, Mapping[str, Entry]] = {
            **{kind: index.shown for kind, index in self._names.items()},
            **shown,
        }
        self._uris = UriIndex(catalog, self._sight, self.upstreams, shown)
        self._lists: dict[Kind, tuple[Params, ...]] = {}

    @property
    def local(self) -> bool:
        """Whether it shows the tools' own names where they are unambiguous."""
        return bool(self.agents) and self.agents[0].names is NameStyle.LOCAL

    @cached_property
    def listings(self) -> Mapping[str, Listing]:
        """What the visible upstreams sent, in order; those not listed yet are missing."""
        known = self.catalog.listings
        return {name: known[name] for name in self.upstreams if name in known}

    def entries(self, kind: Kind) -> Mapping[str, Entry]:
        """Everything of a kind, in order, by the name, URI or template under which it is shown."""
        return self._shown[kind]

    def listing(self, kind: Kind) -> tuple[Params, ...]:
        """The list of a kind as a downstream gets it: definitions as they were sent, except for names and URIs."""
        if kind not in self._lists:
            uris = self.catalog.uris
            self._lists[kind] = tuple(definition(entry, name, uris) for name, entry in self._shown[kind].items())
        return self._lists[kind]

    def tool(self, name: str) -> Route:
        """Where the name of a tool leads. Raises UnknownTarget or AmbiguousName (see ``NameIndex.find``)."""
        return self._names[Kind.TOOL].find(name)

    def prompt(self, name: str) -> Route:
        """Where the name of a prompt leads. Raises UnknownTarget or AmbiguousName (see ``NameIndex.find``)."""
        return self._names[Kind.PROMPT].find(name)

    def resource(self, uri: str) -> Route:
        """Where a URI leads. Raises UnknownTarget or AmbiguousName (see ``UriIndex.resource``)."""
        return self._uris.resource(uri)

    def template(self, template: str) -> Route:
        """Where a URI template, or a URI in its place, leads. Raises UnknownTarget or AmbiguousName."""
        return self._uris.template(template)

    def addressed(self, uri: str) -> Route | None:
        """Where an exported URI or template leads, without guessing (see ``UriIndex.addressed``), or None."""
        return self._uris.addressed(uri)

    def names(self, kind: Kind) -> NameIndex:
        """The look-up of tools or prompts."""
        return self._names[kind]

    def raw(self, route: Route) -> Params | None:
        """The definition behind a route, as its upstream sent it; None for what is not listed."""
        entry = self.catalog.own(route.kind, route.upstream, route.name)
        return None if entry is None else entry.raw

    def export(self, upstream: str, uri: str) -> str:
        """The exported form of an upstream's URI or URI template."""
        return self.catalog.uris.export(upstream, uri)

    def _visible(self, kind: Kind) -> list[Entry]:
        upstreams = frozenset(self.upstreams)
        return [it for it in self.catalog.of(kind) if it.route.upstream in upstreams and self._sight.entry(it)]

    def _name_index(self, kind: Kind, previous: "View | None") -> NameIndex:
        visible = self._visible(kind)
        names = local_names(visible, self.catalog.policy.naming) if self.local else public_names(visible)
        shown = {names[entry.key]: entry for entry in visible}
        return NameIndex(kind, self.catalog, shown, self._aliases(kind, shown, previous))

    def _aliases(self, kind: Kind, shown: Mapping[str, Entry], previous: "View | None") -> dict[str, Alias]:
        if previous is None:
            return {}
        policy = self.catalog.policy
        lifetime = Lifetime(self.catalog.made, policy.alias_ttl, policy.alias_limit)
        after: dict[str, Key] = {name: entry.key for name, entry in shown.items()}
        before = previous.names(kind)
        return carry(before.aliases, before.names, after, lifetime)


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
        self._views: dict[tuple[str, ...], View] = {}

    def configure(self, agents: Mapping[str, AgentConfig]) -> None:
        """Replace the configured agents; views that are asked for from now on follow them."""
        self._agents = dict(agents)
        self._views = {names: view for names, view in self._views.items() if all(name in agents for name in names)}

    def of(self, catalog: Catalog, *names: str) -> View:
        """The view of an agent, of several together (what all of them may see), or of the store.

        Raises:
            UnknownServer: there is no such agent.
        """
        agents = tuple(self._agent(name) for name in names)
        known = self._views.get(names)
        if known is None or known.catalog is not catalog or known.agents != agents:
            known = self._views[names] = View(catalog, agents, known)
        return known

    def _agent(self, name: str) -> AgentConfig:
        if name not in self._agents:
            raise UnknownServer(f'There is no agent "{name}".', name=name)
        return self._agents[name]
