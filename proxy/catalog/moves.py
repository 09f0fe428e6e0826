"""Renamed upstreams: what was named after one, or was known of it, goes on under its new name.

A catalog in which upstreams are renamed is made as if they had always been called so. What follows on it makes aliases
of all names that differ, hashed ones and old aliases among them, and lets the old slugs of URIs lead on.
"""

from collections.abc import Container, Mapping
from dataclasses import replace

from proxy.catalog.aliases import Alias, Aliases, Lifetime, carry
from proxy.catalog.naming import Key
from proxy.catalog.snapshot import Catalog, Entry, Moved
from proxy.catalog.uris import UriTable


def as_if_always(catalog: Catalog, renamed: Mapping[str, str], expires: float) -> Catalog:
    """A catalog with upstreams renamed: everything else, the names of tools and URIs included, is what it was.

    Args:
        catalog: the catalog.
        renamed: old name of an upstream -> its new name.
        expires: until when the old names of the upstreams are remembered, in seconds on the catalog's clock.
    """
    if not renamed:
        return catalog
    moves = {old: replace(one, name=renamed.get(one.name, one.name)) for old, one in catalog.moves.items()}
    return replace(
        catalog,
        entries={kind: tuple(_entry(one, renamed) for one in entries) for kind, entries in catalog.entries.items()},
        uris=_uris(catalog.uris, renamed),
        aliases={kind: _aliases(aliases, renamed) for kind, aliases in catalog.aliases.items()},
        slugs=_aliases(catalog.slugs, renamed),
        moves=moves | {old: Moved(new, expires) for old, new in renamed.items()},
    )


def moves_of(previous: Catalog, there: Container[str], lifetime: Lifetime) -> dict[str, Moved]:
    """The renamings that still count: those of upstreams that are there, under names that nobody has now."""
    kept = {old: one for old, one in previous.moves.items() if one.expires > lifetime.now and one.name in there}
    alive = [(old, one) for old, one in kept.items() if old not in there]
    return dict(sorted(alive, key=lambda item: (-item[1].expires, item[0]))[: lifetime.limit])


def slugs_of(previous: Catalog, uris: UriTable, there: Container[str], lifetime: Lifetime) -> Aliases:
    """The slugs of URIs that lead on to an upstream which has another one now, or none."""
    before: dict[str, Key] = {slug: (name, "") for slug, name in previous.uris.owners.items()}
    after: dict[str, Key] = {slug: (name, "") for slug, name in uris.owners.items()}
    carried = carry(previous.slugs, before, after, lifetime)
    return {slug: alias for slug, alias in carried.items() if alias.target[0] in there}


def now_called(catalog: Catalog, upstream: str) -> str:
    """What an upstream is called now, if it was renamed lately; else the name itself."""
    moved = catalog.moves.get(upstream)
    return upstream if moved is None else moved.name


def _entry(entry: Entry, renamed: Mapping[str, str]) -> Entry:
    upstream = entry.route.upstream
    return replace(entry, route=replace(entry.route, upstream=renamed[upstream])) if upstream in renamed else entry


def _uris(uris: UriTable, renamed: Mapping[str, str]) -> UriTable:
    return replace(
        uris,
        slugs={renamed.get(name, name): slug for name, slug in uris.slugs.items()},
        owners={slug: renamed.get(name, name) for slug, name in uris.owners.items()},
    )


def _aliases(aliases: Aliases, renamed: Mapping[str, str]) -> dict[str, Alias]:
    return {name: replace(alias, target=_key(alias.target, renamed)) for name, alias in aliases.items()}


def _key(key: Key, renamed: Mapping[str, str]) -> Key:
    return renamed.get(key[0], key[0]), key[1]
