"""Makes one catalog of the listings of all upstreams. Pure: the same listings give the same catalog in any order."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType
from typing import Final

from proxy.catalog.aliases import Alias, Aliases, Lifetime, carry
from proxy.catalog.check import KEYS, Checked, check
from proxy.catalog.moves import as_if_always, moves_of, slugs_of
from proxy.catalog.naming import Key, NamingPolicy, naming_all
from proxy.catalog.policy import CatalogPolicy
from proxy.catalog.snapshot import EMPTY, Catalog, Conflict, Entries, Entry
from proxy.catalog.uris import UriTable
from proxy.model import Json, Kind, Listing, Params, Route
from proxy.service.steps import Steps, done

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
    return done(merging(listings, policy, previous=previous, now=now, renamed=renamed))


def merging(
    listings: Mapping[str, Listing],
    policy: CatalogPolicy,
    *,
    previous: Catalog = EMPTY,
    now: float = 0.0,
    renamed: Mapping[str, str] = MappingProxyType({}),
) -> Steps[Catalog]:
    """The same as ``merge``, in steps. Entries that are as they were stay the same objects."""
    previous = as_if_always(previous, renamed, now + policy.alias_ttl)
    lifetime = Lifetime(now, policy.alias_ttl, policy.alias_limit)
    there = {*policy.order, *listings}
    ordered = {upstream: listings[upstream] for upstream in policy.ordered(listings)}
    gathered = _Gathered(ordered, policy, previous)
    found: dict[Kind, _Found] = {}
    for kind in Kind:
        found[kind] = yield from gathered.finding(kind)
    uris = _uri_table(found, policy, ordered)
    slugs = slugs_of(previous, uris, there, lifetime)
    uris = replace(uris, former={slug: alias.target[0] for slug, alias in slugs.items()})
    entries: dict[Kind, Entries] = {}
    aliases: dict[Kind, Aliases] = {}
    for kind in NAMED:
        entries[kind] = yield from _named(kind, found[kind], policy.naming, previous)
        aliases[kind] = yield from _aliases(kind, entries[kind], previous, lifetime)
    for kind in LOCATED:
        entries[kind] = yield from _located(kind, found[kind], uris, previous)
    return Catalog(
        version=previous.version + 1,
        made=now,
        policy=policy,
        listings=ordered,
        entries=entries,
        uris=uris,
        aliases=aliases,
        slugs=slugs,
        moves=moves_of(previous, there, lifetime),
        conflicts=tuple(gathered.conflicts),
        withheld={kind: frozenset(keys) for kind, keys in gathered.withheld.items()},
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


class _Gathered:
    """What the listings hold, looked at entry by entry; what was looked at before is not looked at again."""

    def __init__(self, listings: Mapping[str, Listing], policy: CatalogPolicy, previous: Catalog) -> None:
        self.conflicts: list[Conflict] = []
        self.withheld: dict[Kind, set[Key]] = {kind: set() for kind in Kind}
        self._listings = listings
        self._policy = policy
        self._previous = previous

    def finding(self, kind: Kind) -> Steps[_Found]:
        """What there is of a kind."""
        found: _Found = {}
        withheld = self.withheld[kind]
        for upstream, listing in self._listings.items():
            gate, seal = self._policy.gate(upstream, kind), self._policy.seal(upstream)
            for index, raw in enumerate(raw_entries(listing, kind)):
                checked = self._checked(kind, upstream, raw)
                key = (upstream, checked.name)
                fault = checked.fault or ("it is listed twice" if key in found or key in withheld else "")
                if fault:
                    self.conflicts.append(Conflict(upstream, kind, index, checked.name, fault))
                elif gate.admits(checked.name):
                    if seal.admits(kind, checked.name, checked.raw):
                        found[key] = checked.raw
                    else:
                        withheld.add(key)
                yield
        return found

    def _checked(self, kind: Kind, upstream: str, raw: Json) -> Checked:
        name = raw.get(KEYS[kind]) if isinstance(raw, Mapping) else None
        known = self._previous.own(kind, upstream, name) if isinstance(name, str) else None
        return check(kind, raw) if known is None or known.raw is not raw else Checked(known.route.name, known.raw)


def _uri_table(found: Mapping[Kind, _Found], policy: CatalogPolicy, listings: Mapping[str, Listing]) -> UriTable:
    upstreams = {*policy.order, *listings}
    plain = frozenset(name for name in upstreams if policy.naming.passes_through(name))
    return UriTable.of(upstreams, plain, (key for kind in LOCATED for key in found[kind]))


def _named(kind: Kind, found: _Found, naming: NamingPolicy, previous: Catalog) -> Steps[Entries]:
    names = yield from naming_all(found, naming)
    entries: list[Entry] = []
    for key, raw in found.items():
        named, known = names[key], previous.own(kind, *key)
        same = known is not None and known.raw is raw and known.route.public == named.public and known.named == named
        entries.append(known if known and same else Entry(Route(kind, named.public, *key), raw, named))
        yield
    return tuple(entries)


def _located(kind: Kind, found: _Found, uris: UriTable, previous: Catalog) -> Steps[Entries]:
    entries: list[Entry] = []
    for key, raw in found.items():
        public, known = uris.export(*key), previous.own(kind, *key)
        same = known is not None and known.raw is raw and known.route.public == public
        entries.append(known if known and same else Entry(Route(kind, public, *key), raw))
        yield
    return tuple(entries)


def _aliases(kind: Kind, entries: Entries, previous: Catalog, lifetime: Lifetime) -> Steps[dict[str, Alias]]:
    after: dict[str, Key] = {}
    for entry in entries:
        after[entry.route.public] = entry.key
        yield
    return carry(previous.aliases.get(kind, {}), previous.names(kind), after, lifetime)


def changed(old: Catalog, new: Catalog) -> frozenset[Kind]:
    """The kinds whose lists differ between two catalogs: other entries, names, definitions, or another order."""
    return frozenset(kind for kind in Kind if old.of(kind) != new.of(kind))
