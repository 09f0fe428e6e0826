"""What an operator decided about the catalog: the order of upstreams, their names, and which entries exist at all."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fnmatch import translate
from functools import cached_property, lru_cache
from typing import Final
from urllib.parse import unquote

from proxy.catalog.naming import NamingPolicy
from proxy.catalog.pinning import OPEN as UNSEALED
from proxy.catalog.pinning import Seal, seal
from proxy.config.model import Config, Filter
from proxy.model import Kind

ALIAS_TTL: Final = 24 * 3600.0
"""How long an old name stays resolvable, in seconds."""
ALIAS_LIMIT: Final = 4096
"""How many old names of one kind are kept."""

_ALL = ("*",)
_EVERYTHING: Final = re.compile(r"(?s:.*)")
_HERE: Final = ("localhost", ".", "127.0.0.1")


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
        if self._denies(spellings):
            return False
        return self._allow is not None and any(self._allow.match(spelling) for spelling in spellings)

    def admits_uri(self, *spellings: str) -> bool:
        """Whether a URI passes that nobody listed, so that a downstream chose how to write it.

        It must pass as it is written, in its decoded form and in its shortest form, and it must not walk upwards:
        neither ``file:///docs/../key`` nor ``file:///./key`` is a way around a filter. What is denied is denied with a
        query or a fragment behind it as well.
        """
        if self.open:
            return True
        plain = [decoded(spelling) for spelling in spellings]
        if any(".." in re.split(r"[/\\]", text) for text in plain):
            return False
        short = [shortest(text) for text in plain]
        bare = [re.split(r"[?#]", text, maxsplit=1)[0].rstrip("/") for text in short]
        return all(self.admits(*one) for one in (spellings, plain, short)) and not self._denies(bare)

    def _denies(self, spellings: Iterable[str]) -> bool:
        return self._deny is not None and any(self._deny.match(spelling) for spelling in spellings)


@lru_cache(maxsize=1024)
def _compiled(globs: tuple[str, ...]) -> re.Pattern[str] | None:
    if "*" in globs:
        return _EVERYTHING
    return re.compile("|".join(translate(glob) for glob in globs)) if globs else None


def decoded(uri: str) -> str:
    """A URI with its scheme in lower case and nothing escaped: two spellings of one URI are the same."""
    scheme, colon, rest = uri.partition(":")
    return unquote(scheme.lower() + colon + rest)


def shortest(uri: str) -> str:
    """A decoded URI without what changes nothing: ``.`` and empty segments, and this machine's name (RFC 3986, 6.2)."""
    head, separator, rest = uri.partition("://")
    if not separator:
        return uri
    authority, slash, path = rest.replace("\\", "/").partition("/")
    authority = "" if authority.lower() in _HERE else authority.lower()
    *middle, last = path.split("/")
    kept = [one for one in middle if one not in ("", ".")]
    return f"{head}{separator}{authority}{slash}{'/'.join([*kept, '' if last == '.' else last])}"


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
    seals: Mapping[str, Seal] = field(default_factory=dict)
    """Which definitions of each upstream may be served (pinning); all of them where nothing is said."""
    alias_ttl: float = ALIAS_TTL
    alias_limit: int = ALIAS_LIMIT
    owners: Mapping[str, str] = field(default_factory=dict)
    """Upstreams that belong to one agent only -> that agent."""

    @classmethod
    def of(cls, config: Config, *, chained: Iterable[str] = ()) -> "CatalogPolicy":
        """The policy that a configuration asks for.

        It serves nothing of upstreams with ``pin: hold``: what was agreed to does not stand in a configuration.

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
            seals={name: seal(config.pin_of(name), None) for name in upstreams},
            owners={name: it.agent for name, it in upstreams.items() if it.agent is not None},
        )

    def gate(self, upstream: str, kind: Kind) -> Gate:
        """Which entries of an upstream exist."""
        return self.filters.get(upstream, OPEN).gate(kind)

    def seal(self, upstream: str) -> Seal:
        """Which definitions of an upstream may be served."""
        return self.seals.get(upstream, UNSEALED)

    def ordered(self, upstreams: Iterable[str]) -> tuple[str, ...]:
        """Names of upstreams in the order of the catalog."""
        rank = {name: index for index, name in enumerate(self.order)}
        return tuple(sorted(upstreams, key=lambda name: (rank.get(name, len(rank)), name)))
