"""Makes one catalog of the listings of all upstreams. Pure: the same listings give the same catalog in any order."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from proxy.catalog.aliases import Alias, Lifetime, carry
from proxy.catalog.check import check
from proxy.catalog.moves import as_if_always, moves_of, slugs_of
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
    listings: Mapping[str, Listing],
    policy: CatalogPolicy,
    *,
    previous: Catalog = EMPTY,
    now: float = 0.0,
    renamed: Mapping[str, str] = MappingProxyType({}),
) -> Catalog:
    """Merge listings into a catalog.

    An entry that cannot be listed, or that its upstream lists twice, costs only itself and is reported in
    ``conflicts``; what the policy filters out is not reported. What its seals hold back is in ``withheld``, and takes
    part in nothing: neither does it get a name, nor does it change one.

    Args:
        listings: what each upstream sent.
        policy: names, order and filters.
        previous: the catalog before; names that changed since remain resolvable as aliases.
        now: the time, in seconds on any clock that the caller uses throughout.
        renamed: upstreams that have another name than in the catalog before: old -> new.
    """
    previous = as_if_always(previous, renamed, now + policy.alias_ttl)
    lifetime = Lifetime(now, policy.alias_ttl, policy.alias_limit)
    there = {*policy.order, *listings}
    ordered = {upstream: listings[upstream] for upstream in policy.ordered(listings)}
    conflicts: list[Conflict] = []
    withheld: dict[Kind, set[Key]] = {kind: set() for kind in Kind}
    found = {kind: _found(kind, ordered, policy, conflicts, withheld[kind]) for kind in Kind}
    uris = _uri_table(found, policy, ordered)
    slugs = slugs_of(previous, uris, there, lifetime)
    uris = replace(uris, former={slug: alias.target[0] for slug, alias in slugs.items()})
    entries = {kind: _named(kind, found[kind], policy.naming) for kind in NAMED}
    entries |= {kind: _located(kind, found[kind], uris) for kind in LOCATED}
    return Catalog(
        version=previous.version + 1,
        made=now,
        policy=policy,
        listings=ordered,
        entries=entries,
        uris=uris,
        aliases={kind: _aliases(kind, entries[kind], previous, lifetime) for kind in NAMED},
        slugs=slugs,
        moves=moves_of(previous, there, lifetime),
        conflicts=tuple(conflicts),
        withheld={kind: frozenset(keys) for kind, keys in withheld.items()},
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


def _found(
    kind: Kind,
    listings: Mapping[str, Listing],
    policy: CatalogPolicy,
    conflicts: list[Conflict],
    withheld: set[Key],
) -> _Found:
    found: _Found = {}
    for upstream, listing in listings.items():
        gate, seal = policy.gate(upstream, kind), policy.seal(upstream)
        for index, raw in enumerate(raw_entries(listing, kind)):
            checked = check(kind, raw)
            key = (upstream, checked.name)
            fault = checked.fault or ("it is listed twice" if key in found or key in withheld else "")
            if fault:
                conflicts.append(Conflict(upstream, kind, index, checked.name, fault))
            elif gate.admits(checked.name):
                if seal.admits(kind, checked.name, checked.raw):
                    found[key] = checked.raw
                else:
                    withheld.add(key)
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
