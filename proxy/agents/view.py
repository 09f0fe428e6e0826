"""The catalog as one agent sees it, or the store: which entries, under which names, and where a name leads."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from itertools import zip_longest
from typing import Any

from proxy.agents.locate import UriIndex
from proxy.agents.names import given_names, local_names, public_names
from proxy.agents.override import Overridden
from proxy.agents.resolve import NameIndex
from proxy.agents.rewrite import definition
from proxy.agents.sight import Sight
from proxy.agents.tailor import Tailored
from proxy.catalog.aliases import Alias, Lifetime, carry
from proxy.catalog.merge import LOCATED, NAMED
from proxy.catalog.moves import now_called
from proxy.catalog.naming import Key
from proxy.catalog.snapshot import Catalog, Entry
from proxy.config.model import AgentConfig, NameStyle
from proxy.model import Json, Kind, Listing, Params, Route
from proxy.service.steps import Steps, done


class View:
    """What a downstream sees. Immutable; lists and look-up tables are made when they are first needed.

    Args:
        catalog: the catalog.
        agents: the agents that apply, the one which decides about names first; none for the store.
        previous: the view that this one follows, whose names stay resolvable for a while.
        names: the names of the agents; what belongs to one agent is seen by nobody else.
    """

    def __init__(
        self,
        catalog: Catalog,
        agents: Sequence[AgentConfig] = (),
        previous: "View | None" = None,
        *,
        names: Sequence[str] = (),
    ) -> None:
        done(self._make(catalog, agents, previous, names))

    @classmethod
    def making(
        cls, catalog: Catalog, agents: Sequence[AgentConfig], previous: "View", *, names: Sequence[str] = ()
    ) -> Steps["View"]:
        """Make one in steps, with all the lists that the one before has."""
        view = cls.__new__(cls)
        yield from view._make(catalog, agents, previous, names)
        yield from view.list_again(previous)
        return view

    def _make(
        self, catalog: Catalog, agents: Sequence[AgentConfig], previous: "View | None", names: Sequence[str]
    ) -> Steps[None]:
        self.catalog = catalog
        self.agents = tuple(agents)
        self._sight = Sight(self.agents)
        everywhere = {*catalog.policy.order, *catalog.listings}
        self.upstreams = tuple(name for name in catalog.policy.ordered(everywhere) if self._sees(name, names))
        """The upstreams that exist for it, listed or not, in order."""
        self.tailored = self._tailored(names)
        """What the agents change of their tools."""
        self._names: dict[Kind, NameIndex] = {}
        for kind in NAMED:
            self._names[kind] = yield from self._name_index(kind, previous)
        shown: dict[Kind, Mapping[str, Entry]] = {}
        for kind in LOCATED:
            shown[kind] = {entry.route.public: entry for entry in (yield from self._visible(kind))}
        self._shown: Mapping[Kind, Mapping[str, Entry]] = {
            **{kind: index.shown for kind, index in self._names.items()},
            **shown,
        }
        self._uris = UriIndex(catalog, self._sight, self.upstreams, shown)
        self._lists: dict[Kind, tuple[Params, ...]] = {}
        seen = self._shown[Kind.TOOL].values() if self.tailored.overrides else ()
        bound = ((entry.key, self.tailored.bound(entry)) for entry in seen)
        self.overridden: Mapping[Key, Overridden] = {key: one for key, one in bound if one is not None}
        """The visible tools of which something is changed; mostly none."""
        self.targets: dict[str, Any] = {}
        """What the router has found out about tools that were called, by the names under which they are shown."""

    @property
    def local(self) -> bool:
        """Whether it shows the tools' own names where they are unambiguous."""
        return bool(self.agents) and self.agents[0].names is NameStyle.LOCAL

    @cached_property
    def listings(self) -> Mapping[str, Listing]:
        """What the visible upstreams sent, in order; those not listed yet are missing."""
        known = self.catalog.listings
        return {name: known[name] for name in self.upstreams if name in known}

    def instructions(self, upstream: str) -> str | None:
        """What an upstream that is listed says of itself, as far as it may be told (pinning)."""
        return self.catalog.policy.seal(upstream).told(self.catalog.listings[upstream].instructions)

    def entries(self, kind: Kind) -> Mapping[str, Entry]:
        """Everything of a kind, in order, by the name, URI or template under which it is shown."""
        return self._shown[kind]

    def listing(self, kind: Kind) -> tuple[Params, ...]:
        """The list of a kind as a downstream gets it: definitions as they were sent, except for names and URIs."""
        if kind not in self._lists:
            self._lists[kind] = tuple(self._listed(entry, name) for name, entry in self._shown[kind].items())
        return self._lists[kind]

    @property
    def listed(self) -> tuple[Kind, ...]:
        """The kinds whose lists somebody has asked for."""
        return tuple(self._lists)

    def list_again(self, previous: "View") -> Steps[None]:
        """Make the lists that another view has; definitions of which nothing has changed stay the same objects."""
        alike = self.catalog.uris == previous.catalog.uris and not (self.overridden or previous.overridden)
        for kind in previous.listed:
            shown = previous.entries(kind)
            before = dict(zip(shown, previous.listing(kind), strict=True)) if alike else {}
            listed: list[Params] = []
            for name, entry in self._shown[kind].items():
                same = before.get(name) if shown.get(name) is entry else None
                listed.append(self._listed(entry, name) if same is None else same)
                yield
            self._lists[kind] = tuple(listed)

    def schema(self, name: str) -> Params | None:
        """The input schema of a tool as it is listed under a name; None if nothing is listed so."""
        entry = self._shown[Kind.TOOL].get(name)
        if entry is None:
            return None
        changed = self.overridden.get(entry.key)
        found = entry.raw.get("inputSchema") if changed is None else changed.schema
        return found if isinstance(found, Mapping) else None

    def arguments(self, route: Route, given: Json, name: str) -> Json:
        """The arguments which the upstream of a tool gets, for those that a downstream gave.

        Raises:
            InvalidArguments: there is one among them that cannot be given.
        """
        changed = self.overridden.get((route.upstream, route.name))
        return given if changed is None else changed.arguments(given, name)

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

    def fixed(self, route: Route) -> frozenset[str]:
        """The upstream's names of the arguments of a tool whose values are fixed."""
        changed = self.overridden.get((route.upstream, route.name)) if route.kind is Kind.TOOL else None
        return frozenset() if changed is None else frozenset(changed.override.fixed)

    def names(self, kind: Kind) -> NameIndex:
        """The look-up of tools or prompts."""
        return self._names[kind]

    def raw(self, route: Route) -> Params | None:
        """The definition behind a route, as its upstream sent it; None for what is not listed."""
        entry = self.catalog.own(route.kind, route.upstream, route.name)
        return None if entry is None else entry.raw

    def admits(self, kind: Kind, upstream: str, own: str, public: str) -> bool:
        """Whether the filters would let a tool or prompt of these names pass, of an upstream that is not listed."""
        return self.catalog.policy.gate(upstream, kind).admits(own) and self._sight.named(kind, upstream, own, public)

    def readable(self, upstream: str, uri: str) -> bool:
        """Whether it may see an upstream's own URI, listed or not."""
        return upstream in self.upstreams and self._uris.readable(upstream, uri)

    def export(self, upstream: str, uri: str) -> str:
        """The exported form of an upstream's URI or URI template."""
        return self.catalog.uris.export(upstream, uri)

    def _sees(self, upstream: str, names: Sequence[str]) -> bool:
        owner = self.catalog.policy.owners.get(upstream)
        if owner is None:
            return self._sight.upstream(upstream)
        return bool(names) and all(name == owner for name in names)

    def _listed(self, entry: Entry, name: str) -> Params:
        listed = definition(entry, name, self.catalog.uris)
        changed = self.overridden.get(entry.key) if entry.route.kind is Kind.TOOL else None
        return listed if changed is None else changed.definition(listed)

    def _tailored(self, names: Sequence[str]) -> Tailored:
        if not any(agent.overrides for agent in self.agents):
            return Tailored()
        # Each agent's overrides mean what that agent sees alone, so that a join never shows more than any of them.
        each = zip_longest(self.agents, names)
        return Tailored.together(
            [Tailored.of(one.overrides, self._alone(one, name), self.catalog) for one, name in each]
        )

    def _alone(self, agent: AgentConfig, name: str | None) -> list[Entry]:
        sight, owners = Sight([agent]), self.catalog.policy.owners
        entries = (it for it in self.catalog.of(Kind.TOOL) if owners.get(it.route.upstream, name) == name)
        return [it for it in entries if sight.upstream(it.route.upstream) and sight.entry(it)]

    def _visible(self, kind: Kind) -> Steps[list[Entry]]:
        upstreams, barred = frozenset(self.upstreams), self.tailored.barred if kind is Kind.TOOL else {}
        visible: list[Entry] = []
        for it in self.catalog.of(kind):
            if it.route.upstream in upstreams and it.key not in barred and self._sight.entry(it):
                visible.append(it)
            yield
        return visible

    def _name_index(self, kind: Kind, previous: "View | None") -> Steps[NameIndex]:
        visible = yield from self._visible(kind)
        given = self.tailored.names if kind is Kind.TOOL else {}
        others = [entry for entry in visible if entry.key not in given] if given else visible
        naming = self.catalog.policy.naming
        names = (yield from local_names(others, naming)) if self.local else public_names(others)
        yield
        if given:
            names = given_names(names, given, public_names(visible))
        shown = {names[entry.key]: entry for entry in visible}
        yield
        aliases = self._aliases(kind, shown, previous)
        yield
        return NameIndex(kind, self.catalog, shown, aliases)

    def _aliases(self, kind: Kind, shown: Mapping[str, Entry], previous: "View | None") -> dict[str, Alias]:
        if previous is None:
            return {}
        policy = self.catalog.policy
        lifetime = Lifetime(self.catalog.made, policy.alias_ttl, policy.alias_limit)
        after: dict[str, Key] = {name: entry.key for name, entry in shown.items()}
        before = previous.names(kind)
        names = {name: self._now(key) for name, key in before.names.items()}
        aliases = {name: replace(alias, target=self._now(alias.target)) for name, alias in before.aliases.items()}
        return carry(aliases, names, after, lifetime)

    def _now(self, key: Key) -> Key:
        """Something by the name that its upstream has now."""
        return (now_called(self.catalog, key[0]), key[1]) if key[0] in self.catalog.moves else key
