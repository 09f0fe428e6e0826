"""Tells whether a URI can come from a URI template (RFC 6570), in time linear in both.

Templates come from upstreams and URIs from downstreams, so neither may cost more than a bounded walk: no regular
expression is built from them.
"""

import re
from functools import lru_cache
from typing import Final, NamedTuple

MAX_URI: Final = 2048
"""Longer URIs, in characters, match no template."""
MAX_TEMPLATE: Final = 2048
"""Longer templates, in characters, match no URI."""
MAX_EXPRESSIONS: Final = 64
"""Templates with more expressions match no URI."""

_EXPRESSION = re.compile(r"\{([^{}]*)\}")
_STOPS: Final = {"": "/?#", "+": "", "#": "", ".": "/?#", "/": "/?#", ";": "/?#", "?": "#", "&": "#"}
_SILENT: Final = "+"
"""The operator that writes nothing before its value."""


class _Part(NamedTuple):
    """A literal text, or the value of an expression."""

    text: str
    """The literal, or what the operator writes before a value."""
    stops: str | None
    """Characters that cannot stand in the value; None for a literal."""


def matches(template: str, uri: str, *, strict: bool = True) -> bool:
    """Whether a template can expand to a URI.

    Args:
        template: a URI template of level 1 to 3; modifiers of level 4 are tolerated.
        uri: the URI.
        strict: whether the value of ``{name}`` ends at a slash, as RFC 6570 says; many servers do not care.
    """
    if len(uri) > MAX_URI or len(template) > MAX_TEMPLATE or template.count("{") > MAX_EXPRESSIONS:
        return False
    ends = {0}
    for part in _parts(template):
        ends = _after(part, uri, ends, strict=strict)
        if not ends:
            return False
    return len(uri) in ends


@lru_cache(maxsize=4096)
def _parts(template: str) -> tuple[_Part, ...]:
    parts: list[_Part] = []
    for index, piece in enumerate(_EXPRESSION.split(template)):
        if index % 2:
            parts.append(_expression(piece))
        elif piece:
            parts.append(_Part(piece, None))
    return tuple(parts)


def _expression(body: str) -> _Part:
    operator = body[:1] if body[:1] in _STOPS else ""
    stops = _STOPS[operator]
    if operator == "/" and ("*" in body or "," in body):
        stops = "?#"
    return _Part("" if operator == _SILENT else operator, stops)


def _after(part: _Part, uri: str, starts: set[int], *, strict: bool) -> set[int]:
    """The positions at which a part can end, given those at which it can start."""
    after = {start + len(part.text) for start in starts if uri.startswith(part.text, start)}
    if part.stops is None:
        return after
    ends = _run(uri, after, part.stops if strict else part.stops.replace("/", ""))
    return ends | starts  # an undefined variable expands to nothing at all


def _run(uri: str, starts: set[int], stops: str) -> set[int]:
    ends: set[int] = set()
    running = False
    for position in range(min(starts, default=len(uri) + 1), len(uri) + 1):
        running = running or position in starts
        if running:
            ends.add(position)
            running = position < len(uri) and uri[position] not in stops
    return ends
