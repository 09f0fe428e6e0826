"""HTTP header values of the modern era (2026-07-28, transports: standard and custom headers).

``Mcp-Name`` and ``Mcp-Param-*`` repeat members of the body, so that intermediaries can route without reading it. A
server refuses a request whose headers do not match its body, so whoever renames a tool writes them anew.
"""

import base64
import binascii
import re
from collections.abc import Iterator, Mapping
from typing import Any, Final

VERSION: Final = "MCP-Protocol-Version"
METHOD: Final = "Mcp-Method"
NAME: Final = "Mcp-Name"
PARAM_PREFIX: Final = "Mcp-Param-"
SESSION: Final = "Mcp-Session-Id"
LAST_EVENT: Final = "Last-Event-ID"

ANNOTATION: Final = "x-mcp-header"
"""The member of a property's schema that names the header which carries the argument."""

ParamMap = Mapping[tuple[str, ...], str]
"""Where an argument stands (a chain of property names), and the token of its header."""

_NAMED_BY: Final = {"tools/call": "name", "prompts/get": "name", "resources/read": "uri"}
_TASK_PREFIX: Final = "tasks/"

_PLAIN: Final = re.compile(r"(?:[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?)?")
_WRAPPED: Final = re.compile(r"=\?base64\?(.*)\?=")
_TOKEN: Final = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110, 5.6.2
_CARRIED_TYPES: Final = ("string", "integer", "boolean")

# Keywords of JSON Schema 2020-12 that hold schemas: one, a list, or a map of them. Keywords that hold data (default,
# enum, const, examples) are not looked into, and references are not followed.
_ONE: Final = frozenset(
    ("items", "contains", "unevaluatedItems", "additionalProperties", "unevaluatedProperties", "propertyNames")
) | frozenset(("not", "if", "then", "else", "contentSchema"))
_SOME: Final = frozenset(("allOf", "anyOf", "oneOf", "prefixItems"))
_NAMED: Final = frozenset(("patternProperties", "dependentSchemas", "$defs", "definitions"))


def encode_value(value: str) -> str:
    """A text as a header value: itself if it is plain ASCII without blanks at its edges, else wrapped in base64."""
    if _PLAIN.fullmatch(value) and not _WRAPPED.fullmatch(value):
        return value
    return f"=?base64?{base64.b64encode(value.encode()).decode()}?="


def decode_value(value: str) -> str | None:
    """The text that a header value stands for; None when it is wrapped, but not as ``encode_value`` wraps."""
    match = _WRAPPED.fullmatch(value)
    if match is None:
        return value
    try:
        data = base64.b64decode(match[1], validate=True)
        canonical = base64.b64encode(data).decode() == match[1]
        return data.decode() if canonical else None
    except (binascii.Error, ValueError):
        return None


def name_value(method: str, params: Mapping[str, Any] | None) -> str | None:
    """The value of ``Mcp-Name`` for a request; None when its method has none."""
    member = "taskId" if method.startswith(_TASK_PREFIX) else _NAMED_BY.get(method)
    value = params.get(member) if params and member else None
    return encode_value(value) if isinstance(value, str) else None


def annotation_fault(schema: Any) -> str | None:
    """Why a tool's input schema has an unusable ``x-mcp-header``; None when all are fine.

    A client on HTTP must drop such a tool.
    """
    taken: dict[str, str] = {}
    for path, node in _schemas(schema):
        if ANNOTATION in node:
            where = ".".join(path or ())
            if fault := _fault_at(path, node):
                return f"{ANNOTATION} at {where!r} {fault}" if where else f"{ANNOTATION} {fault}"
            token = node[ANNOTATION].lower()
            if token in taken:
                return f"{ANNOTATION} at {where!r} repeats the one at {taken[token]!r}"
            taken[token] = where
    return None


def _fault_at(path: tuple[str, ...] | None, node: Mapping[str, Any]) -> str | None:
    token, type_ = node[ANNOTATION], node.get("type")
    if not path:
        return "is not on a property that a plain chain of properties leads to"
    if not isinstance(token, str):
        return f"is not a text but {type(token).__name__}"
    if not _TOKEN.fullmatch(token):
        return f"is not a token of RFC 9110: {token!r}"
    if type_ not in _CARRIED_TYPES:
        return "is on a property whose type is not string, integer or boolean"
    return None


def param_map(schema: Any) -> dict[tuple[str, ...], str]:
    """Which arguments travel in headers, by an input schema that ``annotation_fault`` finds nothing wrong with."""
    return {path: node[ANNOTATION] for path, node in _schemas(schema) if path and isinstance(node.get(ANNOTATION), str)}


def param_headers(params: ParamMap, arguments: Mapping[str, Any]) -> dict[str, str]:
    """The ``Mcp-Param-*`` headers of a call. An argument that is absent, null or no scalar gets none."""
    headers = {}
    for path, token in params.items():
        text = _text(_at(arguments, path))
        if text is not None:
            headers[PARAM_PREFIX + token] = encode_value(text)
    return headers


def _at(value: Any, path: tuple[str, ...]) -> Any:
    for name in path:
        if not isinstance(value, Mapping):
            return None
        value = value.get(name)
    return value


def _text(value: Any) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    try:
        return str(value) if isinstance(value, str | int | float) else None
    except ValueError:  # more digits than Python writes
        return None


def _schemas(root: Any) -> Iterator[tuple[tuple[str, ...] | None, Mapping[str, Any]]]:
    """Every schema inside ``root``, with the chain of ``properties`` that leads to it, or None if something else does.

    A stack rather than recursion: a schema comes from outside and may be nested absurdly deep.
    """
    waiting: list[tuple[tuple[str, ...] | None, Any]] = [((), root)]
    while waiting:
        path, node = waiting.pop()
        if isinstance(node, Mapping):
            yield path, node
            for keyword, value in node.items():
                if keyword == "properties" and isinstance(value, Mapping):
                    waiting += [(None if path is None else (*path, name), sub) for name, sub in value.items()]
                else:
                    waiting += [(None, sub) for sub in _children(keyword, value)]


def _children(keyword: str, value: Any) -> Iterator[Any]:
    if keyword in _ONE:
        yield value
    elif keyword in _SOME and isinstance(value, list):
        yield from value
    elif keyword in _NAMED and isinstance(value, Mapping):
        yield from value.values()
