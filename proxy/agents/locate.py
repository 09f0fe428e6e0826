"""Finds the upstream for a URI: listed or not, exported or as the upstream writes it."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cached_property

from proxy.agents.nearest import Nearest
from proxy.agents.resolve import ambiguous, unknown
from proxy.agents.sight import Sight
from proxy.agents.withheld import Withheld
from proxy.catalog.snapshot import Catalog, Entry
from proxy.catalog.templates import matches
from proxy.model import Kind, Params, Route


class UriIndex:
    """The resources and templates of one view.

    Args:
        catalog: the catalog behind the view.
        sight: what the view may see.
        upstreams: the upstreams that it sees.
        shown: the resources and templates that it sees, by exported URI.
    """

    def __init__(
        self, catalog: Catalog, sight: Sight, upstreams: Iterable[str], shown: Mapping[Kind, Mapping[str, Entry]]
    ) -> None:
        self._catalog = catalog
        self._sight = sight
        self._upstreams = frozenset(upstreams)
        self._shown = shown

    def resource(self, uri: str) -> Route:
        """Where a URI leads.

        The first of these counts that fits: an exported URI that is listed; the slug of an upstream; an upstream's
        own URI, or one that fits its templates; the only upstream that has resources at all.

        Raises:
            AmbiguousName: several upstreams have it under this URI.
            UnknownTarget: it leads nowhere that the view may see.
        """
        listed = self._shown[Kind.RESOURCE].get(uri)
        if listed is not None:
            return listed.route
        return self._by_slug(Kind.RESOURCE, uri) or self._bare(Kind.RESOURCE, uri) or self._guessed(uri)

    def template(self, template: str) -> Route:
        """Where a URI template leads, or a URI in its place (``completion/complete`` takes both as ``ref/resource``).

        Raises:
            AmbiguousName: several upstreams have this template.
            UnknownTarget: it leads nowhere that the view may see.
        """
        listed = self._shown[Kind.TEMPLATE].get(template) or self._shown[Kind.RESOURCE].get(template)
        if listed is not None:
            return listed.route
        bare = self._by_slug(Kind.TEMPLATE, template) or self._bare(Kind.TEMPLATE, template)
        return bare or self._bare(Kind.RESOURCE, template) or self._guessed(template)

    def addressed(self, uri: str) -> Route | None:
        """Where an exported URI or template leads, without any guessing; None if it is not one.

        Raises:
            UnknownTarget: it has the slug of an upstream, but is filtered out.
        """
        for kind in (Kind.RESOURCE, Kind.TEMPLATE):
            if (entry := self._shown[kind].get(uri)) is not None:
                return entry.route
        return self._by_slug(Kind.RESOURCE, uri)

    def readable(self, upstream: str, uri: str) -> bool:
        """Whether the view may see a URI, listed or not, of an upstream that it sees."""
        listed = self._catalog.own(Kind.RESOURCE, upstream, uri)
        if listed is not None:
            return listed.route.public in self._shown[Kind.RESOURCE]
        return self._may_read(upstream, uri)

    def _by_slug(self, kind: Kind, uri: str) -> Route | None:
        """By the slug of a visible upstream: then that upstream is meant, and nothing is left to guess."""
        resolved = self._catalog.uris.resolve(uri)
        if resolved is None or resolved[0] not in self._upstreams:
            return None
        if not self._may_read(*resolved):
            raise unknown(Kind.RESOURCE, uri, self._nearest)
        return Route(kind, uri, *resolved)

    def _bare(self, kind: Kind, uri: str) -> Route | None:
        found = self._own[kind].get(uri, ())
        if len(found) > 1:
            raise ambiguous(kind, uri, (entry.route.public for entry in found))
        return found[0].route if found else None

    def _guessed(self, uri: str) -> Route:
        """By template, first as RFC 6570 has it and then as many servers do; last by being the only choice."""
        for owners in (self._fitting(uri, strict=True), self._fitting(uri, strict=False), self._offering):
            allowed = [owner for owner in owners if self._may_read(owner, uri)]
            exports = [self._catalog.uris.export(owner, uri) for owner in allowed]
            if len(allowed) == 1:
                return Route(Kind.RESOURCE, exports[0], allowed[0], uri)
            if allowed and owners is not self._offering:
                raise ambiguous(Kind.RESOURCE, uri, exports)
        raise unknown(Kind.RESOURCE, uri, self._nearest)

    def _fitting(self, uri: str, *, strict: bool) -> tuple[str, ...]:
        templates = self._shown[Kind.TEMPLATE].values()
        owners = (entry.route.upstream for entry in templates if matches(entry.route.name, uri, strict=strict))
        return tuple(dict.fromkeys(owners))

    def _may_read(self, upstream: str, uri: str) -> bool:
        """Whether the view may see a URI, listed or not, of an upstream that it sees."""
        if not self._catalog.policy.gate(upstream, Kind.RESOURCE).admits_uri(uri):
            return False
        if not self._sight.uri(upstream, uri, self._catalog.uris.export(upstream, uri)):
            return False
        if self._withheld.holds(upstream, uri, lambda: upstream in self._fitting(uri, strict=False)):
            return False
        return not self._only_hidden(upstream, uri)

    def _only_hidden(self, upstream: str, uri: str) -> bool:
        """Whether a URI comes from a template that is filtered out, and from nothing that is visible."""
        hidden = self._hidden.get(upstream, ())
        if not any(matches(template, uri, strict=False) for template in hidden):
            return False
        visible = self._catalog.own(Kind.RESOURCE, upstream, uri)
        if visible is not None and visible.route.public in self._shown[Kind.RESOURCE]:
            return False
        return upstream not in self._fitting(uri, strict=False)

    @cached_property
    def _hidden(self) -> Mapping[str, tuple[str, ...]]:
        """The templates of each visible upstream that a filter hides."""
        return {
            upstream: hidden
            for upstream in self._upstreams & self._catalog.listings.keys()
            if (hidden := tuple(self._hidden_of(upstream, self._catalog.listings[upstream].templates)))
        }

    def _hidden_of(self, upstream: str, templates: Iterable[Params]) -> Iterable[str]:
        gate = self._catalog.policy.gate(upstream, Kind.TEMPLATE)
        for raw in templates:
            template = raw.get("uriTemplate") if isinstance(raw, Mapping) else None
            if not isinstance(template, str):
                continue
            route = Route(Kind.TEMPLATE, self._catalog.uris.export(upstream, template), upstream, template)
            if not (gate.admits(template) and self._sight.entry(Entry(route, raw))):
                yield template

    @cached_property
    def _withheld(self) -> Withheld:
        return Withheld(self._catalog)

    @cached_property
    def _own(self) -> Mapping[Kind, Mapping[str, list[Entry]]]:
        own: dict[Kind, defaultdict[str, list[Entry]]] = {kind: defaultdict(list) for kind in self._shown}
        for kind, shown in self._shown.items():
            for entry in shown.values():
                own[kind][entry.route.name].append(entry)
        return own

    @cached_property
    def _offering(self) -> tuple[str, ...]:
        """The visible upstreams that have resources at all, by what they list or by what they say they can."""
        listing = {entry.route.upstream for shown in self._shown.values() for entry in shown.values()}
        saying = {
            name
            for name in self._upstreams & self._catalog.listings.keys()
            if self._catalog.listings[name].capabilities.get("resources") is not None
        }
        return tuple(sorted(listing | saying))

    @cached_property
    def _nearest(self) -> Nearest:
        return Nearest([(name, entry.route.name) for name, entry in self._shown[Kind.RESOURCE].items()])
