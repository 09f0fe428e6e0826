"""Exported URIs: which upstream a resource belongs to stands in its URI, so that unlisted ones route too.

``{slug}+{original}`` keeps a URI a URI, like ``git+https://…`` (RFC 3986, section 3.1: ``+`` is part of a scheme).
``ui://`` resources keep their scheme, which hosts of MCP Apps require: ``ui://{slug}+{rest}``.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from proxy.catalog.naming import FILLER
from proxy.catalog.settle import Claim, fingerprint, settle

_UI = "ui://"
_FOREIGN = re.compile(r"[^a-z0-9.]+")

Offer = tuple[str, str]
"""An upstream and a URI, or URI template, which it offers."""


def slug_of(upstream: str) -> str:
    """An upstream's name as the beginning of a URI scheme; not unique by itself."""
    slug = _FOREIGN.sub("-", upstream.lower()).strip("-.")
    return slug if slug[:1].isalpha() else FILLER + slug


def slugs(upstreams: Iterable[str]) -> dict[str, str]:
    """A slug of its own for every upstream; a pure function of the set of names."""
    claims = {name: Claim(slug_of(name), lossless=slug_of(name) == name) for name in upstreams}
    return settle(claims, lambda name, attempt: f"{slug_of(name)}-{fingerprint(name, attempt=attempt)}")


@dataclass(frozen=True, slots=True)
class UriTable:
    """Maps URIs and URI templates of upstreams to exported ones, and back."""

    slugs: Mapping[str, str] = field(default_factory=dict)
    """The slug of every upstream."""
    plain: frozenset[str] = frozenset()
    """Upstreams whose names pass through: their URIs stay as they are."""
    marked: frozenset[Offer] = frozenset()
    """URIs of such upstreams that get a slug all the same, because somebody else exports the same URI."""
    owners: Mapping[str, str] = field(default_factory=dict)
    """The upstream behind every slug that occurs in exported URIs."""
    former: Mapping[str, str] = field(default_factory=dict)
    """The same for slugs that occurred in them until lately."""

    @classmethod
    def of(
        cls, upstreams: Iterable[str], plain: frozenset[str] = frozenset(), offers: Iterable[Offer] = ()
    ) -> "UriTable":
        """The table for a set of upstreams.

        Args:
            upstreams: all of them.
            plain: those whose names pass through.
            offers: all listed URIs and templates, to find those that two upstreams would export alike.
        """
        table = slugs(upstreams)
        marked = _marked(table, plain, frozenset(offers)) if plain else frozenset()
        speaking = (table.keys() - plain) | {upstream for upstream, _ in marked}
        return cls(table, plain & table.keys(), marked, {table[name]: name for name in table if name in speaking})

    def export(self, upstream: str, uri: str) -> str:
        """The exported form of an upstream's URI or URI template; of an unknown upstream, the URI itself."""
        if upstream not in self.slugs or (upstream in self.plain and (upstream, uri) not in self.marked):
            return uri
        return _with_slug(self.slugs[upstream], uri)

    def resolve(self, uri: str) -> Offer | None:
        """The upstream and its own URI behind an exported URI that begins with a slug; None for any other."""
        scheme, body = _split_ui(uri)
        slug, plus, rest = body.partition("+")
        owner = (self.owners.get(slug.lower()) or self.former.get(slug.lower())) if plus else None
        return None if owner is None else (owner, scheme + rest)

    def keeps(self, upstream: str) -> bool:
        """Whether every URI of an upstream is exported as it is."""
        return upstream in self.plain and self.slugs[upstream] not in self.owners


def _with_slug(slug: str, uri: str) -> str:
    scheme, body = _split_ui(uri)
    return f"{scheme}{slug}+{body}"


def _split_ui(uri: str) -> tuple[str, str]:
    """The ``ui://`` of a URI, as it is written there, and the rest of it."""
    return (uri[: len(_UI)], uri[len(_UI) :]) if uri[: len(_UI)].lower() == _UI else ("", uri)


def _marked(table: Mapping[str, str], plain: frozenset[str], offers: frozenset[Offer]) -> frozenset[Offer]:
    """Offers of ``plain`` upstreams which need a slug: found by marking all that clash until nothing clashes."""
    marked: set[Offer] = set()
    while True:
        exported: defaultdict[str, list[Offer]] = defaultdict(list)
        for offer in offers:
            upstream, uri = offer
            as_is = upstream in plain and offer not in marked
            exported[uri if as_is else _with_slug(table[upstream], uri)].append(offer)
        clashing = {
            offer for group in exported.values() if len(group) > 1 for offer in group if offer[0] in plain
        } - marked
        if not clashing:
            return frozenset(marked)
        marked |= clashing
