"""Looks at one listing entry as an upstream sent it, because one bad entry must not cost anybody a whole list.

Clients check lists as a whole: with one tool whose schema is no object, many of them show no tools at all. So what
strict clients refuse is left out and reported. Two things that many servers do wrong are put right instead: a null in
an optional field goes, and an ``inputSchema`` without a type gets ``"type": "object"``.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import msgspec

from proxy.model import Json, Kind, Params

KEYS: Final[Mapping[Kind, str]] = {
    Kind.TOOL: "name",
    Kind.PROMPT: "name",
    Kind.RESOURCE: "uri",
    Kind.TEMPLATE: "uriTemplate",
}
"""The field that identifies an entry of a kind."""

MAX_DEPTH: Final = 128
"""How deeply an entry may be nested. Deeper ones exhaust the stack of whoever encodes or compares a list."""

_Type: TypeAlias = type | tuple[type, ...]

_COMMON: Final[Mapping[str, _Type]] = {"title": str, "description": str, "icons": list, "_meta": dict}
_RESOURCE: Final[Mapping[str, _Type]] = {**_COMMON, "mimeType": str, "annotations": dict}
_OPTIONAL: Final[Mapping[Kind, Mapping[str, _Type]]] = {
    Kind.TOOL: {**_COMMON, "outputSchema": dict, "annotations": dict, "execution": dict},
    Kind.PROMPT: {**_COMMON, "arguments": list},
    Kind.RESOURCE: {**_RESOURCE, "size": (int, float)},
    Kind.TEMPLATE: _RESOURCE,
}
_WORDS: Final[Mapping[type, str]] = {str: "a string", list: "a list", dict: "an object"}


@dataclass(frozen=True, slots=True)
class Checked:
    """An entry after the look at it: usable under ``name``, or refused with a ``fault``."""

    name: str
    raw: Params
    fault: str = ""


def check(kind: Kind, raw: Json) -> Checked:
    """Look at one entry of a listing. An entry that needs no repair stays the very object that came in."""
    if not isinstance(raw, Mapping):
        return Checked("", {}, "the entry is not an object")
    name = raw.get(KEYS[kind])
    if fault := _json_fault(raw) or _name_fault(KEYS[kind], name):
        return Checked("", raw, fault)
    entry = _with_type(_without_nulls(raw, _OPTIONAL[kind]))
    return Checked(str(name), entry, _required_fault(kind, entry) or _optional_fault(kind, entry))


def _json_fault(raw: Params) -> str:
    try:
        data = msgspec.json.encode(raw)
    except (ValueError, TypeError, RecursionError) as error:
        return "it is nested too deeply" if isinstance(error, RecursionError) else "it is not valid JSON or Unicode"
    if data.count(b"{") + data.count(b"[") <= MAX_DEPTH:  # the usual case, without looking at every value
        return ""
    return "it is nested too deeply" if _depth(raw) > MAX_DEPTH else ""


def _depth(value: Json) -> int:
    depth, level = 0, [value]
    while level:
        depth += 1
        level = [inner for outer in level for inner in _inside(outer) if isinstance(inner, (dict, list))]
    return depth


def _inside(value: Json) -> Iterable[Json]:
    return value.values() if isinstance(value, Mapping) else value


def _name_fault(field: str, name: Any) -> str:
    if not isinstance(name, str):
        return f"{field} is missing" if name is None else f"{field} is not a string"
    return "" if name else f"{field} is empty"


def _without_nulls(raw: Params, optional: Mapping[str, _Type]) -> Params:
    nulls = [field for field in optional if field in raw and raw[field] is None]
    return {field: value for field, value in raw.items() if field not in nulls} if nulls else raw


def _with_type(raw: Params) -> Params:
    schema = raw.get("inputSchema")
    if not isinstance(schema, dict) or "type" in schema:
        return raw
    return {**raw, "inputSchema": {"type": "object", **schema}}


def _required_fault(kind: Kind, raw: Params) -> str:
    if kind is Kind.TOOL:
        return _schema_fault(raw.get("inputSchema"))
    if kind is Kind.PROMPT:
        return "" if _has_names(raw.get("arguments", [])) else "arguments is not a list of objects with a name"
    return "" if isinstance(raw.get("name"), str) else "name is missing or not a string"


def _schema_fault(schema: Json) -> str:
    if not isinstance(schema, dict):
        return "inputSchema is missing" if schema is None else "inputSchema is not an object"
    return "" if schema["type"] == "object" else "inputSchema is not of type object"


def _has_names(arguments: Json) -> bool:
    return isinstance(arguments, list) and all(
        isinstance(argument, dict) and isinstance(argument.get("name"), str) for argument in arguments
    )


def _optional_fault(kind: Kind, raw: Params) -> str:
    for field, expected in _OPTIONAL[kind].items():
        if field in raw and (not isinstance(raw[field], expected) or isinstance(raw[field], bool)):
            words = _WORDS[expected] if isinstance(expected, type) else "a number"
            return f"{field} is not {words}"
    return ""
