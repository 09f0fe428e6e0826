"""What differs between two definitions, field by field, in a form that people can read. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from difflib import ndiff
from typing import Final, TypeGuard

import msgspec

from proxy.catalog.showing import on_one_line, visible
from proxy.model import Json

_LONGEST: Final = 4000
"""How much of one value is shown, in characters."""
_LINES: Final = 200
"""Texts of more lines are shown whole, one after the other: comparing them line by line would take too long."""


class _Absent:
    """Stands for a field that is not there; no JSON value does."""


ABSENT: Final = _Absent()


@dataclass(frozen=True, slots=True)
class Change:
    """One field that differs."""

    path: str
    """Where it is, as in ``inputSchema.properties.path.type``; empty for a definition that is a text."""
    before: Json
    """What was there, or ``ABSENT``."""
    after: Json
    """What is there, or ``ABSENT``."""


def differences(before: Json, after: Json) -> tuple[Change, ...]:
    """All fields in which two definitions differ, in the order of the new one; what is gone comes last."""
    return tuple(_differing("", before, after))


def _differing(path: str, before: Json, after: Json) -> Iterator[Change]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in (*after, *(key for key in before if key not in after)):
            inner = f"{path}.{key}" if path else str(key)
            yield from _differing(inner, before.get(key, ABSENT), after.get(key, ABSENT))
    elif _objects(before) and _objects(after):
        for index in range(max(len(before), len(after))):
            old, new = (one[index] if index < len(one) else ABSENT for one in (before, after))
            yield from _differing(f"{path}[{index}]", old, new)
    elif before is ABSENT or after is ABSENT or _written(before) != _written(after):
        yield Change(path, before, after)


def _objects(value: Json) -> TypeGuard[list[Json]]:
    """Whether it is a list of more than plain values: those are better seen side by side."""
    return isinstance(value, list) and any(isinstance(one, (Mapping, list)) for one in value)


def _written(value: Json) -> bytes:
    return msgspec.json.encode(value, order="deterministic")


def lines(change: Change) -> Iterator[str]:
    """A change for people: the path, then what went with ``-`` and what came with ``+``; nothing in it is invisible."""
    if change.path:
        yield on_one_line(change.path)
    before, after = (_shown(value) for value in (change.before, change.after))
    if max(len(before), len(after)) > _LINES:
        yield from (f"- {line}" for line in before)
        yield from (f"+ {line}" for line in after)
        return
    yield from (line for line in ndiff(before, after) if not line.startswith("? "))


def _shown(value: Json) -> list[str]:
    if value is ABSENT:
        return []
    text = value if isinstance(value, str) else msgspec.json.format(msgspec.json.encode(value), indent=2).decode()
    cut = text[:_LONGEST] + (f"… ({len(text)} characters)" if len(text) > _LONGEST else "")
    return [visible(line) for line in cut.split("\n")]
