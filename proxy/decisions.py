"""Deciding about definitions: review what is on offer, then approve or reject what was reviewed.

A decision is about the very definitions that the last review has shown: they are kept with their hashes, and only they
are approved. Whatever the upstream offers by then makes no difference, so there is no gap to slip something through.
Synchronous: run it in a thread.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from proxy.catalog.pinfile import Owner, PinStore
from proxy.catalog.pinning import PENDING, Definition, Definitions, Finding, Part, Pins, compare, definitions
from proxy.catalog.store import Loaded
from proxy.errors import AmbiguousName, NotReviewed, UnknownTarget
from proxy.model import Listing

_HASHED: Final = re.compile(r"@[0-9a-f]{12,64}$")
"""What makes a name mean one definition exactly."""


@dataclass(frozen=True, slots=True)
class Review:
    """How the definitions of an upstream compare."""

    pins: Pins | None
    """What was decided; None if the upstream was never seen."""
    offered: Definitions
    findings: tuple[Finding, ...]

    @property
    def pending(self) -> tuple[Finding, ...]:
        """What waits for a decision."""
        return tuple(one for one in self.findings if one.state in PENDING) if self.pins is not None else ()


class Decisions:
    """Decisions about one upstream.

    Args:
        store: where pins are kept.
        owner: whose they are.
    """

    def __init__(self, store: PinStore, owner: Owner) -> None:
        self._store = store
        self._owner = owner

    def review(self, listing: Listing, *, keep: bool = True) -> Review:
        """Compare what is on offer with what was agreed to.

        Args:
            listing: what is on offer.
            keep: whether somebody looks at it who may decide: then this is what is decided about.

        Raises:
            ConfigError: it cannot be kept.
        """
        pins, offered = self._store.load(self._owner), definitions(listing)
        if keep:
            self._store.save_review(self._owner, offered)
        return Review(pins, offered, compare(pins or Pins(), offered))

    def approve(self, names: Sequence[str], offered: Loaded, *, everything: bool = False) -> Mapping[Part, str]:
        """Agree to definitions as they were reviewed; what was reviewed as gone is forgotten.

        Returns what was agreed to, with the hashes; one that is empty was forgotten.

        Args:
            names: names of tools and so on, ``kind:name``, or ``instructions``; with ``@`` and the first 12 digits or
                more of a hash, exactly that definition is meant, and no review is needed.
            offered: what the upstream is known to offer now, for a better answer where that is something else.
            everything: everything that was new or changed.

        Raises:
            UnknownTarget, AmbiguousName: a name fits nothing, or several things.
            NotReviewed: there was no review, or something else is on offer by now.
            ConfigError: what was decided cannot be read or saved.
        """
        exact = [name for name in names if _HASHED.search(name)]
        plain = [name for name in names if name not in exact]
        with self._store.deciding():
            pins = self._pins()
            agreed = self._exactly(exact, offered)
            gone: list[Part] = []
            if plain or everything:
                reviewed = self._reviewed()
                chosen = self._chosen(plain, compare(pins, reviewed.definitions), everything=everything)
                self._refuse_outdated(chosen, reviewed, offered)
                agreed |= {part: one for part in chosen if (one := reviewed.definitions.get(part)) is not None}
                gone = [part for part in chosen if part not in reviewed.definitions]
            self._store.save(self._owner, pins.approving(agreed).without(gone))
        return {part: one.hash for part, one in agreed.items()} | dict.fromkeys(gone, "")

    def reject(self, names: Sequence[str]) -> Mapping[Part, str]:
        """Refuse definitions as they were reviewed: they are not served, and wait for nobody any more.

        Returns what was refused, with the hashes.

        Raises:
            UnknownTarget, AmbiguousName, NotReviewed, ConfigError: as for ``approve``.
        """
        with self._store.deciding():
            pins, reviewed = self._pins(), self._reviewed()
            chosen = self._named(names, reviewed.definitions)
            refused = {part: reviewed.definitions[part].hash for part in chosen}
            self._store.save(self._owner, pins.rejecting(refused))
        return refused

    def pin(self, listing: Listing) -> int:
        """Agree to everything that is on offer, whatever was decided before; returns how many definitions that are.

        Raises:
            ConfigError: that cannot be saved.
        """
        pins = Pins.of(listing)
        with self._store.deciding():
            self._store.save(self._owner, pins)
        return len(pins.approved)

    def _pins(self) -> Pins:
        pins = self._store.load(self._owner) or Pins()
        if pins.fault:
            hint = f"`mcp-manifold pin {self._owner.upstream}` agrees anew to everything on offer."
            raise NotReviewed(f"What was decided about {self._owner.upstream} is not known: {pins.fault}", hint=hint)
        return pins

    def _reviewed(self) -> "Reviewed":
        found = self._store.load_review(self._owner)
        if found is None:
            raise NotReviewed(f"{self._owner.upstream} was not reviewed", hint=self._hint)
        return Reviewed(*found)

    @property
    def _hint(self) -> str:
        return f"Run `mcp-manifold review {self._owner.upstream}` first."

    def _exactly(self, names: Iterable[str], offered: Loaded) -> dict[Part, Definition]:
        """The definitions that names with a hash mean, among what was reviewed and what is on offer."""
        kept = self._store.load_review(self._owner)
        here = definitions(offered.listing) if offered.listing is not None else {}
        known = [*(kept[1].items() if kept is not None else ()), *here.items()]
        found: dict[Part, Definition] = {}
        for name in names:
            bare, _, digits = name.rpartition("@")
            fitting = {part: one for part, one in known if one.hash.startswith(digits)}
            if not fitting:
                raise NotReviewed(f"Nothing on offer has the hash {digits}", hint=f"Nothing was approved. {self._hint}")
            part = _part(bare, list(fitting))
            found[part] = fitting[part]
        return found

    def _chosen(self, names: Iterable[str], findings: Iterable[Finding], *, everything: bool) -> list[Part]:
        known = {one.part: one for one in findings}
        pending = [part for part, one in known.items() if everything and one.state in PENDING]
        return list(dict.fromkeys([*pending, *self._named(names, known)]))

    def _named(self, names: Iterable[str], among: Mapping[Part, object]) -> list[Part]:
        return list(dict.fromkeys(_part(name, list(among)) for name in names))

    def _refuse_outdated(self, chosen: Iterable[Part], reviewed: "Reviewed", offered: Loaded) -> None:
        if offered.listing is None or offered.saved <= reviewed.at:
            return
        now = definitions(offered.listing)
        outdated = [str(part) for part in chosen if _hash(now.get(part)) != _hash(reviewed.definitions.get(part))]
        if outdated:
            what = f"Changed again since the review of {self._owner.upstream}: {', '.join(outdated)}"
            raise NotReviewed(what, hint=f"Nothing was approved. {self._hint}")


@dataclass(frozen=True, slots=True)
class Reviewed:
    """What a review has shown, and when, in seconds since the epoch."""

    at: float
    definitions: Definitions


def _hash(one: Definition | None) -> str:
    return "" if one is None else one.hash


def _part(name: str, among: Sequence[Part]) -> Part:
    kind, colon, rest = name.partition(":")
    exact = [part for part in among if colon and (part.kind, part.name) == (kind, rest)]
    found = exact or [part for part in among if name == (part.name or part.kind)]
    if len(found) == 1:
        return found[0]
    spelled = [f"{part.kind}:{part.name}" for part in found]
    if found:
        raise AmbiguousName(f"{name!r} fits {len(found)} definitions", name=name, suggestions=spelled)
    known = [part.name or part.kind for part in among]
    raise UnknownTarget(f"The review shows no {name!r}", name=name, suggestions=get_close_matches(name, known))
