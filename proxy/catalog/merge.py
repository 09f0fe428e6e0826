"""Makes one catalog of the listings of all upstreams. Pure: the same listings give the same catalog in any order."""

from collections.abc import Mapping, Sequence
from typing import Final

from proxy.catalog.aliases import Alias, Lifetime, carry
from proxy.catalog.check import check
from proxy.catalog.naming import Key, NamingPolicy, name_all
from proxy.catalog.policy import CatalogPolicy
from proxy.catalog.snapshot import EMPTY, Catalog, Conflict, Entries, Entry
from proxy.catalog.uris import UriTable
from proxy.model import Json, Kind, Listing, Params, Route

NAMED: Final = (Kind.TOOL, Kind.PROMPT)
"""Kinds that go by a name; the others go by a URI."""
LOCATED: Final = (Kind.RESOURCE, Kind.TEMPLATE)
"""Kinds that go by a URI or a URI template."""

_Found = dict[Key, Params]


def merge(
    listings: Mapping[str, Listing], policy: CatalogPolicy, *, previous: Catalog = EMPTY, now: float = 0.0
) -> Catalog:
    """Merge listings into a catalog.

    An entry that cannot be listed, or that its upstream lists twice, costs only itself and is reported in
    ``conflicts``; what the policy filters out is not reported.

    Args:
        listings: what each upstream sent.
        policy: names, order and filters.
        previous: the catalog before; names that changed since remain resolvable as aliases.
        now: the time, in seconds on any clock that the caller uses throughout.
    """
    ordered = {upstream: listings[upstream] for upstream in policy.ordered(listings)}
    conflicts: list[Conflict] = []
    found = {kind: _found(kind, ordered, policy, conflicts) for kind in Kind}
    uris = _uri_table(found, policy, ordered)
    entries = {kind: _named(kind, found[kind], policy.naming) for kind in NAMED}
    entries |= {kind: _located(kind, found[kind], uris) for kind in LOCATED}
    return Catalog(
        version=previous.version + 1,
        made=now,
        policy=policy,
        listings=ordered,
        entries=entries,
        uris=uris,
        aliases={
            kind: _aliases(kind, entries[kind], previous, Lifetime(now, policy.alias_ttl, policy.alias_limit))
            for kind in NAMED
        },
        conflicts=tuple(conflicts),
    )


def raw_entries(listing: Listing, kind: Kind) -> Sequence[Json]:
    """The entries of one kind in a listing, as they were sent."""
    by_kind: Mapping[Kind, Sequence[Json]] = {
        Kind.TOOL: listing.tools,
        Kind.PROMPT: listing.prompts,
        Kind.RESOURCE: listing.resources,
        Kind.TEMPLATE: listing.templates,
    }
    return by_kind[kind]


def _found(kind: Kind, listings: Mapping[str, Listing], policy: CatalogPolicy, conflicts: list[Conflict]) -> _Found:
    found: _Found = {}
    for upstream, listing in listings.items():
        gate = policy.gate(upstream, kind)
        for index, raw in enumerate(raw_entries(listing, kind)):
            checked = check(kind, raw)
            fault = checked.fault or ("it is listed twice" if (upstream, checked.name) in found else "")
            if fault:
                conflicts.append(Conflict(upstream, kind, index, checked.name, fault))
            elif gate.admits(checked.name):
                found[upstream, checked.name] = checked.raw
    return found


def _uri_table(found: Mapping[Kind, _Found], policy: CatalogPolicy, listings: Mapping[str, Listing]) -> UriTable:
    upstreams = {*policy.order, *listings}
    plain = frozenset(name for name in upstreams if policy.naming.passes_through(name))
    return UriTable.of(upstreams, plain, (key for kind in LOCATED for key in found[kind]))


def _named(kind: Kind, found: _Found, naming: NamingPolicy) -> Entries:
    names = name_all(found, naming)
    return tuple(Entry(Route(kind, names[key].public, *key), raw, names[key]) for key, raw in found.items())


def _located(kind: Kind, found: _Found, uris: UriTable) -> Entries:
    return tuple(Entry(Route(kind, uris.export(*key), *key), raw) for key, raw in found.items())


def _aliases(kind: Kind, entries: Entries, previous: Catalog, lifetime: Lifetime) -> dict[str, Alias]:
    after = {entry.route.public: entry.key for entry in entries}
    return carry(previous.aliases.get(kind, {}), previous.names(kind), after, lifetime)


def changed(old: Catalog, new: Catalog) -> frozenset[Kind]:
    """The kinds whose lists differ between two catalogs: other entries, names, definitions, or another order."""
    return frozenset(kind for kind in Kind if old.of(kind) != new.of(kind))
