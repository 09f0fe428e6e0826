"""What an operator decided about the catalog: the order of upstreams, their names, and which entries exist at all."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from fnmatch import translate
from functools import cached_property, lru_cache
from typing import Final
from urllib.parse import unquote

from proxy.catalog.naming import NamingPolicy, sanitise
from proxy.config.model import Config, Filter
from proxy.model import Kind

ALIAS_TTL: Final = 24 * 3600.0
"""How long an old name stays resolvable, in seconds."""
ALIAS_LIMIT: Final = 4096
"""How many old names of one kind are kept."""

_ALL = ("*",)
_EVERYTHING: Final = re.compile(r"(?s:.*)")


class Gate:
    """Globs that let names pass: any name that matches one of ``allow`` and none of ``deny``."""

    def __init__(self, allow: Iterable[str] = _ALL, deny: Iterable[str] = ()) -> None:
        self._allow = _compiled(tuple(allow))
        self._deny = _compiled(tuple(deny))

    @property
    def open(self) -> bool:
        """Whether it lets everything pass."""
        return self._allow is _EVERYTHING and self._deny is None

    def admits(self, *spellings: str) -> bool:
        """Whether something passes that is known under several names: one allowed, none denied."""
        if self._deny is not None and any(self._deny.match(spelling) for spelling in spellings):
            return False
        return self._allow is not None and any(self._allow.match(spelling) for spelling in spellings)

    def admits_uri(self, *spellings: str) -> bool:
        """Whether a URI passes that nobody listed, so that a downstream chose how to write it.

        It must pass as it is written and in its decoded form, and it must not walk upwards: ``file:///docs/../key``
        is no way around ``file:///docs/*``.
        """
        if self.open:
            return True
        decoded = [_decoded(spelling) for spelling in spellings]
        if any(".." in re.split(r"[/\\]", text) for text in decoded):
            return False
        return self.admits(*spellings) and self.admits(*decoded)


@lru_cache(maxsize=1024)
def _compiled(globs: tuple[str, ...]) -> re.Pattern[str] | None:
    if "*" in globs:
        return _EVERYTHING
    return re.compile("|".join(translate(glob) for glob in globs)) if globs else None


def _decoded(uri: str) -> str:
    scheme, colon, rest = uri.partition(":")
    return unquote(scheme.lower() + colon + rest)


@dataclass(frozen=True)
class Filters:
    """Which entries pass, by kind. Resource filters hold for templates too."""

    tools: Filter = field(default_factory=Filter)
    prompts: Filter = field(default_factory=Filter)
    resources: Filter = field(default_factory=Filter)

    def gate(self, kind: Kind) -> Gate:
        """The gate for entries of a kind."""
        return self._gates[kind]

    @cached_property
    def _gates(self) -> Mapping[Kind, Gate]:
        tools, prompts, resources = (
            Gate(chosen.allow, chosen.deny) for chosen in (self.tools, self.prompts, self.resources)
        )
        return {Kind.TOOL: tools, Kind.PROMPT: prompts, Kind.RESOURCE: resources, Kind.TEMPLATE: resources}


OPEN: Final = Filters()
"""Filters that let everything pass."""


@dataclass(frozen=True, slots=True)
class CatalogPolicy:
    """All that a catalog depends on besides the listings."""

    order: tuple[str, ...] = ()
    """The upstreams in the order of the configuration; others come after them, by name."""
    naming: NamingPolicy = field(default_factory=NamingPolicy)
    filters: Mapping[str, Filters] = field(default_factory=dict)
    """What exists of each upstream, by its own names; everything where nothing is said."""
    alias_ttl: float = ALIAS_TTL
    alias_limit: int = ALIAS_LIMIT

    @classmethod
    def of(cls, config: Config, *, chained: Iterable[str] = ()) -> "CatalogPolicy":
        """The policy that a configuration asks for.

        Args:
            config: the configuration.
            chained: upstreams known to be Manifolds.
        """
        upstreams = {name: upstream for name, upstream in config.upstreams.items() if upstream.enabled}
        return cls(
            order=tuple(upstreams),
            naming=NamingPolicy(
                pattern=config.naming.pattern,
                max_length=config.naming.max_length,
                patterns={name: upstream.naming for name, upstream in upstreams.items() if upstream.naming},
                chained=frozenset(chained),
            ),
            filters={name: Filters(it.tools, it.prompts, it.resources) for name, it in upstreams.items()},
        )

    def gate(self, upstream: str, kind: Kind) -> Gate:
        """Which entries of an upstream exist."""
        return self.filters.get(upstream, OPEN).gate(kind)

    def ordered(self, upstreams: Iterable[str]) -> tuple[str, ...]:
        """Names of upstreams in the order of the catalog."""
        rank = {name: index for index, name in enumerate(self.order)}
        return tuple(sorted(upstreams, key=lambda name: (rank.get(name, len(rank)), name)))

    def as_before(self, old: "CatalogPolicy", renamed: Mapping[str, str]) -> "CatalogPolicy":
        """A policy by which renamed upstreams give their tools the names they had.

        A catalog made by it, just before the one by this policy, makes the old names aliases. Names with a hash in them
        depend on the upstream's own name, so they are not found again.

        Args:
            old: the policy before.
            renamed: old name of an upstream -> its new name.
        """
        named = {new: old.naming.pattern_of(name).replace("{server}", sanitise(name)) for name, new in renamed.items()}
        return replace(self, naming=replace(self.naming, patterns={**self.naming.patterns, **named}))
