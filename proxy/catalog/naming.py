"""Public names of tools and prompts: made by a pattern, told apart by hashes, reversed by table only.

The rules follow design section 4; the alphabet and the length are what the strictest clients accept.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from proxy.catalog.settle import Claim, fingerprint, settling
from proxy.service.steps import Steps, done

DEFAULT_PATTERN: Final = "mcp_{server}_{tool}"
VERBATIM: Final = "{tool}"
"""The pattern that keeps every name as its upstream wrote it."""
DEFAULT_LENGTH: Final = 64
MIN_LENGTH: Final = 16
FILLER: Final = "x"
"""What an empty part becomes, and what goes before a leading digit."""

Key = tuple[str, str]
"""An upstream and the name which that upstream uses."""

_FOREIGN = re.compile(r"[^a-zA-Z0-9_-]")
_RUNS = re.compile(r"[^a-zA-Z0-9-]+")
_PLACES = re.compile(r"(\{server\}|\{tool\})")


class Why(StrEnum):
    """How a public name came about."""

    PLAIN = "plain"
    """The pattern, with parts that needed no change."""
    SANITISED = "sanitised"
    """The pattern, with characters replaced that clients do not accept."""
    VERBATIM = "verbatim"
    """The upstream's own name: its pattern passes names through."""
    CHAINED = "chained"
    """The upstream's own name: a Manifold has prefixed it already."""
    TOO_LONG = "too-long"
    """Shortened, with a hash."""
    COLLISION = "collision"
    """With a hash, because another entry maps to the same name."""


@dataclass(frozen=True, slots=True)
class Named:
    """A public name, the name it would have without others, and the reason if they differ."""

    public: str
    plain: str
    why: Why


@dataclass(frozen=True, slots=True)
class NamingPolicy:
    """How public names are made.

    Raises:
        ValueError: ``max_length`` leaves no room for a name and a hash.
    """

    pattern: str = DEFAULT_PATTERN
    max_length: int = DEFAULT_LENGTH
    patterns: Mapping[str, str] = field(default_factory=dict)
    """Patterns of single upstreams, instead of the general one."""
    chained: frozenset[str] = frozenset()
    """Upstreams that are Manifolds: names which they have prefixed already get no second prefix."""

    def __post_init__(self) -> None:
        if self.max_length < MIN_LENGTH:
            raise ValueError(f"max_length is {self.max_length}, but must be at least {MIN_LENGTH}")

    def pattern_of(self, upstream: str) -> str:
        """The pattern that holds for an upstream."""
        return self.patterns.get(upstream, self.pattern)

    def head_of(self, upstream: str) -> str:
        """How all public names of an upstream begin that are not shortened; empty if that does not name it."""
        head, tool, _ = self.pattern_of(upstream).partition("{tool}")
        if not tool or "{server}" not in head:
            return ""
        return _with_head(head.replace("{server}", sanitise(upstream)))

    def passes_through(self, upstream: str) -> bool:
        """Whether an upstream's names and URIs stay as they are."""
        return self.pattern_of(upstream) == VERBATIM


def sanitise(part: str) -> str:
    """One part of a name in characters that every client accepts.

    Anything else becomes ``_``, runs of it collapse, at the ends it goes; an empty part or a leading digit gets a
    letter.
    """
    clean = _RUNS.sub("_", part).strip("_")
    return FILLER + clean if not clean or clean[0].isdigit() else clean


def own_name(name: str) -> str:
    """An upstream's own name as a valid public name, without server or prefix; not shortened."""
    return _with_head(sanitise(name))


def name_all(entries: Iterable[Key], policy: NamingPolicy) -> dict[Key, Named]:
    """Name every entry and say why it is called so. A pure function of the set of entries."""
    return done(naming_all(entries, policy))


def naming_all(entries: Iterable[Key], policy: NamingPolicy) -> Steps[dict[Key, Named]]:
    """The same as ``name_all``, in steps."""
    candidates: dict[Key, _Candidate] = {}
    claims: dict[Key, Claim] = {}
    for key in entries:
        candidates[key] = candidate = _candidate(key, policy)
        claims[key] = candidate.claim
        yield

    def hashed(key: Key, attempt: int) -> str:
        return _with_hash(candidates[key].base, fingerprint(*key, attempt=attempt), policy.max_length)

    names = yield from settling(claims, hashed)
    named: dict[Key, Named] = {}
    for key, public in names.items():
        named[key] = candidates[key].named(public)
        yield
    return named


def assign(entries: Iterable[Key], policy: NamingPolicy) -> dict[Key, str]:
    """The public name of every (upstream, own name). No two are equal; the order of the entries does not matter."""
    return {key: named.public for key, named in name_all(entries, policy).items()}


@dataclass(frozen=True, slots=True)
class _Candidate:
    plain: str
    base: str
    """What a hashed name is made of: ``plain``, or a valid form of a name that passes through."""
    why: Why
    fits: bool

    @property
    def claim(self) -> Claim:
        return Claim(self.plain if self.fits else None, lossless=self.why is not Why.SANITISED)

    def named(self, public: str) -> Named:
        if public == self.plain:
            return Named(public, self.plain, self.why)
        return Named(public, self.plain, Why.COLLISION if self.fits else Why.TOO_LONG)


def _candidate(key: Key, policy: NamingPolicy) -> _Candidate:
    upstream, name = key
    pattern = policy.pattern_of(upstream)
    if pattern == VERBATIM:
        return _Candidate(name, own_name(name), Why.VERBATIM, fits=True)
    if upstream in policy.chained and _prefixed(name, pattern):
        plain = own_name(name)
        exact, why = plain == name, Why.CHAINED
    else:
        plain, exact = _rendered(pattern, {"{server}": upstream, "{tool}": name})
        why = Why.PLAIN
    return _Candidate(plain, plain, why if exact else Why.SANITISED, fits=len(plain) <= policy.max_length)


def _prefixed(name: str, pattern: str) -> bool:
    head = _PLACES.split(pattern, maxsplit=1)[0]
    return bool(head) and name.startswith(head)


def _rendered(pattern: str, values: Mapping[str, str]) -> tuple[str, bool]:
    """The pattern filled in, and whether all the values went in as they are."""
    parts = _PLACES.split(pattern)
    texts = [sanitise(values[part]) if part in values else _FOREIGN.sub("_", part) for part in parts]
    exact = all(values.get(part, text) == text for part, text in zip(parts, texts, strict=True))
    joined = "".join(texts)
    name = _with_head(joined)
    return name, exact and name == joined


def _with_head(name: str) -> str:
    return name if name[:1].isalpha() or name[:1] == "_" else FILLER + name


def _with_hash(base: str, digest: str, max_length: int) -> str:
    return f"{_shortened(base, max_length - len(digest) - 1).rstrip('_')}_{digest}"


def _shortened(text: str, room: int) -> str:
    """A readable head and the tail, which is what tells tools apart and so gets the larger share."""
    if len(text) <= room:
        return text
    tail = (room - 1) * 3 // 5
    head = room - 1 - tail
    return f"{text[:head].rstrip('_-')}_{text[-tail:].lstrip('_-')}"
