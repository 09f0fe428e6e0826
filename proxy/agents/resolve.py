"""Finds the tool or prompt that a downstream means by a name, in all the ways in which people and models write it."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Final, TypeAlias

from proxy.agents.nearest import Nearest
from proxy.catalog.aliases import Aliases
from proxy.catalog.naming import Key, own_name, sanitise
from proxy.catalog.snapshot import Catalog, Entry
from proxy.errors import AmbiguousName, RoutingError, UnknownTarget
from proxy.model import Kind, Route

CANDIDATES: Final = 10
"""How many candidates an error about an ambiguous name lists."""

_NAME_LENGTH = 200
"""How much of a name an error repeats, in characters."""
_Forms: TypeAlias = Mapping[str, tuple[Entry, ...]]


def quoted(name: str) -> str:
    """A name as errors repeat it: bounded, on one line."""
    return repr(name[:_NAME_LENGTH])


def unknown(kind: Kind, name: str, nearest: Nearest) -> UnknownTarget:
    """The error for a name that leads nowhere, and just the same for what the caller may not see."""
    return UnknownTarget(f"Unknown {kind}: {quoted(name)}.", name=name, suggestions=nearest.to(name))


def ambiguous(kind: Kind, name: str, candidates: Iterable[str]) -> AmbiguousName:
    """The error for a name that fits several things, with the names that do not."""
    names = sorted(candidates)
    more = f" and {len(names) - CANDIDATES} more" if len(names) > CANDIDATES else ""
    hint = f"Use one of: {', '.join(names[:CANDIDATES])}{more}."
    message = f"The name {quoted(name)} fits {len(names)} {kind}s."
    return AmbiguousName(message, name=name, suggestions=names[:CANDIDATES], hint=hint)


class NameIndex:
    """The tools, or the prompts, of one view.

    Args:
        kind: which of the two.
        catalog: the catalog behind the view.
        shown: everything visible, by the name under which the view shows it.
        aliases: names under which the view showed things until lately.
    """

    def __init__(self, kind: Kind, catalog: Catalog, shown: Mapping[str, Entry], aliases: Aliases) -> None:
        self.kind = kind
        self.shown = shown
        self.aliases = aliases
        self._catalog = catalog
        self._routes = {name: entry.route for name, entry in shown.items()}
        self._by_key = {entry.key: entry for entry in shown.values()}
        self._names = {entry.key: name for name, entry in shown.items()}

    @property
    def names(self) -> Mapping[str, Key]:
        """What every shown name leads to."""
        return {name: entry.key for name, entry in self.shown.items()}

    def name_of(self, key: Key) -> str | None:
        """The name under which the view shows something; None if it does not."""
        return self._names.get(key)

    def find(self, name: str) -> Route:
        """Where a name leads.

        The first of these counts that fits: a name as shown, a public name, an old name, ``server.tool`` (also with
        ``/`` or ``_``), the tool's own name.

        Raises:
            AmbiguousName: it fits several things equally well.
            UnknownTarget: it fits nothing that the view may see.
        """
        return self._routes.get(name) or self._searched(name)

    def matches(self, name: str) -> tuple[Entry, ...]:
        """Everything that a name fits equally well; empty if it fits nothing."""
        exact = self.shown.get(name) or self._public(name) or self._aliased(name)
        if exact is not None:
            return (exact,)
        return self._qualified.get(name) or self._bare.get(name) or ()

    def error(self, name: str) -> RoutingError:
        """Why a name leads nowhere."""
        found = self.matches(name)
        if found:
            return ambiguous(self.kind, name, (self._names[entry.key] for entry in found))
        return unknown(self.kind, name, self.nearest)

    @cached_property
    def nearest(self) -> Nearest:
        """Suggestions for wrong names; nothing in them that the view may not see."""
        return Nearest([(name, entry.route.name) for name, entry in self.shown.items()])

    def _searched(self, name: str) -> Route:
        found = self.matches(name)
        if len(found) != 1:
            raise self.error(name)
        return found[0].route

    def _public(self, name: str) -> Entry | None:
        return self._visible(self._catalog.find(self.kind, name))

    def _aliased(self, name: str) -> Entry | None:
        alias = self.aliases.get(name)
        here = None if alias is None else self._by_key.get(alias.target)
        return here or self._visible(self._catalog.aliased(self.kind, name))

    def _visible(self, entry: Entry | None) -> Entry | None:
        return None if entry is None else self._by_key.get(entry.key)

    @cached_property
    def _qualified(self) -> _Forms:
        return _forms((form, entry) for entry in self.shown.values() for form in _qualified(*entry.key))

    @cached_property
    def _bare(self) -> _Forms:
        return _forms(
            (form, entry) for entry in self.shown.values() for form in {entry.route.name, own_name(entry.route.name)}
        )


def _qualified(upstream: str, name: str) -> set[str]:
    joined = {f"{upstream}{separator}{name}" for separator in "._/"}
    return joined | {f"{sanitise(upstream)}_{sanitise(name)}"}


def _forms(pairs: Iterable[tuple[str, Entry]]) -> _Forms:
    forms: defaultdict[str, list[Entry]] = defaultdict(list)
    for form, entry in pairs:
        forms[form].append(entry)
    return {form: tuple(entries) for form, entries in forms.items()}
