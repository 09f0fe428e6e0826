"""Pinned definitions: what an upstream offers is compared with what somebody has agreed to. Pure.

A definition is all that a model or a client is told of one thing: a tool, a prompt, a resource, a template, or the
server's instructions. Any change of it counts, except for the order of keys and for what tells of a resource's content
of the moment (``size``, ``annotations.lastModified``), which changes whenever the content does.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from hashlib import sha256
from typing import Final, NamedTuple

import msgspec

from proxy.catalog.check import check
from proxy.config.pinning import PinMode
from proxy.model import Json, Kind, Listing, Params

INSTRUCTIONS: Final = "instructions"
"""The kind of the one part that is no entry of a list."""

_MOMENTARY: Final = ("size",)
_MOMENTARY_NOTES: Final = ("lastModified",)
_LOCATED: Final = (Kind.RESOURCE, Kind.TEMPLATE)


class Part(NamedTuple):
    """One thing that can be pinned: its kind, and the name, URI or template that the upstream uses."""

    kind: str
    """``tool``, ``prompt``, ``resource``, ``template`` or ``instructions``."""
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}" if self.name else self.kind


class Definition(NamedTuple):
    """What is told of one thing, and the hash of that."""

    hash: str
    content: Json


Definitions = Mapping[Part, Definition]


def fingerprint(kind: str, content: Json) -> str:
    """The hash of a definition, 64 hexadecimal digits: the same for the same meaning, in whatever order keys stand.

    Raises:
        ValueError, TypeError, RecursionError: it is no JSON.
    """
    canonical = msgspec.json.encode(_lasting(kind, content), order="deterministic")
    return sha256(f"{kind}\0".encode() + canonical).hexdigest()


def define(kind: str, content: Json) -> Definition:
    """A definition with its hash. Raises the same as ``fingerprint``."""
    return Definition(fingerprint(kind, content), content)


def definitions(listing: Listing) -> dict[Part, Definition]:
    """Everything in a listing that can be pinned. Of two entries of one name the first counts, as in the catalog."""
    found: dict[Part, Definition] = {}
    for kind, entries in _entries(listing):
        for raw in entries:
            checked = check(kind, raw)
            if not checked.fault:
                part = Part(kind.value, checked.name)
                if part not in found:
                    found[part] = define(kind.value, checked.raw)
    if listing.instructions:
        found[Part(INSTRUCTIONS, "")] = define(INSTRUCTIONS, listing.instructions)
    return found


def _entries(listing: Listing) -> Iterable[tuple[Kind, Iterable[Json]]]:
    yield Kind.TOOL, listing.tools
    yield Kind.PROMPT, listing.prompts
    yield Kind.RESOURCE, listing.resources
    yield Kind.TEMPLATE, listing.templates


def _lasting(kind: str, content: Json) -> Json:
    if kind not in _LOCATED or not isinstance(content, Mapping):
        return content
    lasting = {key: value for key, value in content.items() if key not in _MOMENTARY}
    notes = lasting.get("annotations")
    if isinstance(notes, Mapping):
        lasting["annotations"] = {key: value for key, value in notes.items() if key not in _MOMENTARY_NOTES}
    return lasting


@dataclass(frozen=True, slots=True)
class Pins:
    """What somebody has decided about one upstream."""

    approved: Definitions = field(default_factory=dict)
    rejected: Mapping[Part, frozenset[str]] = field(default_factory=dict)
    """Hashes of definitions that are not to be served, whatever the policy."""
    fault: str = ""
    """Why the decisions cannot be read; then nothing counts as approved."""

    @classmethod
    def of(cls, listing: Listing) -> "Pins":
        """Agree to everything that is on offer now."""
        return cls(definitions(listing))

    def approving(self, agreed: Definitions) -> "Pins":
        """The same, and these definitions are agreed to."""
        rejected = {
            part: hashes - {agreed[part].hash} if part in agreed else hashes for part, hashes in self.rejected.items()
        }
        return replace(
            self,
            approved={**self.approved, **agreed},
            rejected={part: hashes for part, hashes in rejected.items() if hashes},
        )

    def rejecting(self, refused: Mapping[Part, str]) -> "Pins":
        """The same, and definitions with these hashes are not to be served."""
        rejected = {part: self.rejected.get(part, frozenset()) | {digest} for part, digest in refused.items()}
        approved = {part: one for part, one in self.approved.items() if refused.get(part) != one.hash}
        return replace(self, approved=approved, rejected={**self.rejected, **rejected})

    def without(self, parts: Iterable[Part]) -> "Pins":
        """The same, and these parts were never heard of: should they come back, they are new."""
        gone = set(parts)
        return replace(self, approved={part: one for part, one in self.approved.items() if part not in gone})


class State(StrEnum):
    """How a definition compares with the pinned one."""

    SAME = "same"
    NEW = "new"
    CHANGED = "changed"
    GONE = "gone"
    REJECTED = "rejected"


PENDING: Final = frozenset({State.NEW, State.CHANGED})
"""States in which somebody has to decide."""


@dataclass(frozen=True, slots=True)
class Finding:
    """How one part compares."""

    part: Part
    state: State
    pinned: Definition | None = None
    """What was agreed to; None for what was not."""
    offered: Definition | None = None
    """What is on offer; None for what is gone."""


def compare(pins: Pins, offered: Definitions) -> tuple[Finding, ...]:
    """How everything that is on offer, or is pinned, compares; in the order of the offer, what is gone at the end."""
    here = [Finding(part, _state(pins, part, one), pins.approved.get(part), one) for part, one in offered.items()]
    gone = [Finding(part, State.GONE, one) for part, one in pins.approved.items() if part not in offered]
    return (*here, *gone)


def _state(pins: Pins, part: Part, offered: Definition) -> State:
    if offered.hash in pins.rejected.get(part, ()):
        return State.REJECTED
    pinned = pins.approved.get(part)
    if pinned is None:
        return State.NEW
    return State.SAME if pinned.hash == offered.hash else State.CHANGED


@dataclass(frozen=True, slots=True)
class Seal:
    """Which definitions of one upstream may be served. The catalog asks it about every entry that it takes in."""

    approved: Mapping[Part, str] | None = None
    """The hashes of what may be served; None lets everything pass that was not rejected."""
    rejected: Mapping[Part, frozenset[str]] = field(default_factory=dict)
    instructions: str | None = None
    """The instructions that were agreed to."""

    def admits(self, kind: Kind, name: str, raw: Params) -> bool:
        """Whether an entry may be served."""
        if self.approved is None and not self.rejected:
            return True
        return self._passes(Part(kind.value, name), fingerprint(kind.value, raw))

    def told(self, instructions: str | None) -> str | None:
        """What may be told of the instructions on offer: they themselves, or else those that were agreed to."""
        if not instructions or self._passes(Part(INSTRUCTIONS, ""), fingerprint(INSTRUCTIONS, instructions)):
            return instructions
        return self.instructions

    def _passes(self, part: Part, digest: str) -> bool:
        if digest in self.rejected.get(part, ()):
            return False
        return self.approved is None or self.approved.get(part) == digest


OPEN: Final = Seal()
"""Lets everything pass."""
CLOSED: Final = Seal({})
"""Lets nothing pass."""


def seal(mode: PinMode, pins: Pins | None) -> Seal:
    """What may be served under a policy. Under ``hold``, nothing as long as nobody knows what was agreed to."""
    if mode is PinMode.OFF:
        return OPEN
    if pins is None or pins.fault:
        return CLOSED if mode is PinMode.HOLD else OPEN
    agreed = pins.approved.get(Part(INSTRUCTIONS, ""))
    text = agreed.content if agreed is not None else None
    if mode is PinMode.WARN:
        return Seal(None, pins.rejected, text)
    return Seal({part: one.hash for part, one in pins.approved.items()}, pins.rejected, text)
