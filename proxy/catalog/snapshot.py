"""The catalog: an immutable snapshot of everything that the upstreams offer, under public names."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from types import MappingProxyType
from typing import TypeAlias

from proxy.catalog.aliases import Aliases
from proxy.catalog.naming import Key, Named
from proxy.catalog.policy import CatalogPolicy
from proxy.catalog.uris import UriTable
from proxy.model import Kind, Listing, Params, Route
from proxy.service.steps import Steps


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing on offer: where it leads, and its definition as the upstream sent it."""

    route: Route
    """``public`` is the public name, or the exported URI or URI template; ``name`` is the upstream's own."""
    raw: Params
    named: Named | None = field(default=None, compare=False)
    """How the public name came about; None for resources and templates."""

    @property
    def key(self) -> Key:
        """The upstream and the name which it uses."""
        return self.route.upstream, self.route.name


@dataclass(frozen=True, slots=True)
class Conflict:
    """An entry that was left out, and why."""

    upstream: str
    kind: Kind
    index: int
    """Its place in the upstream's own list, counted from 0."""
    name: str
    """Its name, URI or template; empty if it has none."""
    reason: str

    def __str__(self) -> str:
        what = f'{self.kind} "{self.name}"' if self.name else f"{self.kind} number {self.index}"
        return f"{self.upstream}: {what} is left out: {self.reason}"


@dataclass(frozen=True, slots=True)
class Moved:
    """What an upstream is called now, and until when that is remembered (seconds, on the catalog's clock)."""

    name: str
    expires: float


Entries: TypeAlias = tuple[Entry, ...]
_ByName: TypeAlias = Mapping[str, Entry]
_ByKey: TypeAlias = Mapping[Key, Entry]


@dataclass(frozen=True, eq=False)
class Catalog:
    """What all upstreams offer. Nothing in it changes; a new one has a higher version."""

    version: int = 0
    made: float = 0.0
    """When it was merged, in seconds on the caller's clock."""
    policy: CatalogPolicy = field(default_factory=CatalogPolicy)
    listings: Mapping[str, Listing] = field(default_factory=dict)
    """What every upstream sent, in the order of the configuration."""
    entries: Mapping[Kind, Entries] = field(default_factory=dict)
    """Everything on offer: upstreams in the order of the configuration, each in its own order."""
    uris: UriTable = field(default_factory=UriTable)
    aliases: Mapping[Kind, Aliases] = field(default_factory=dict)
    """Old names of tools and prompts; one may also be the new name of something else, which then counts."""
    slugs: Aliases = field(default_factory=dict)
    """Slugs that stood in exported URIs until lately -> the upstream that is meant by them, with an empty name."""
    moves: Mapping[str, Moved] = field(default_factory=dict)
    """Old names of upstreams that were renamed lately."""
    conflicts: tuple[Conflict, ...] = ()
    withheld: Mapping[Kind, frozenset[Key]] = field(default_factory=dict)
    """What is held back by pinning: upstreams and the names, URIs or templates which they use."""

    def of(self, kind: Kind) -> Entries:
        """All entries of a kind, in order."""
        return self.entries.get(kind, ())

    def find(self, kind: Kind, public: str) -> Entry | None:
        """The entry with a public name, exported URI or exported template."""
        return self._by_public[kind].get(public)

    def own(self, kind: Kind, upstream: str, name: str) -> Entry | None:
        """The entry with the name that its upstream uses."""
        return self._by_key[kind].get((upstream, name))

    def aliased(self, kind: Kind, name: str) -> Entry | None:
        """The entry that had a name until lately, if it is still on offer."""
        alias = self.aliases.get(kind, {}).get(name)
        return None if alias is None else self._by_key[kind].get(alias.target)

    def names(self, kind: Kind) -> Mapping[str, Key]:
        """What every public name of a kind leads to."""
        return self._names[kind]

    def indexing(self) -> Steps[None]:
        """Make all look-up tables that would be made when they are first needed, in steps."""
        for table in ("_by_public", "_by_key", "_names"):
            getattr(self, table)
            yield

    @cached_property
    def _by_public(self) -> Mapping[Kind, _ByName]:
        return {kind: {entry.route.public: entry for entry in self.of(kind)} for kind in Kind}

    @cached_property
    def _by_key(self) -> Mapping[Kind, _ByKey]:
        return {kind: {entry.key: entry for entry in self.of(kind)} for kind in Kind}

    @cached_property
    def _names(self) -> Mapping[Kind, Mapping[str, Key]]:
        return {
            kind: MappingProxyType({name: entry.key for name, entry in table.items()})
            for kind, table in self._by_public.items()
        }


EMPTY = Catalog()
"""The catalog before any upstream was listed."""
