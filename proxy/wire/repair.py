"""Frames that are almost JSON: invalid UTF-8 and lone surrogates, ``NaN`` and ``Infinity``. Pure.

Lone surrogates come from JavaScript servers that cut texts, and become U+FFFD like invalid UTF-8; ``NaN`` and
``Infinity`` come from Python servers, and become null.
"""

import json
import re
from typing import Final

_LONE_SURROGATE: Final = re.compile(
    rb"(\\\\)|\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(\\u[dD][89a-fA-F][0-9a-fA-F]{2})"
)


def repaired(frame: bytes) -> bytes | None:
    """The same frame as JSON; None if it is beyond repair."""
    try:
        value = json.loads(frame.decode(errors="replace"), parse_constant=lambda _: None)
        text = json.dumps(value, separators=(",", ":")).encode()
    except (ValueError, RecursionError):
        return None
    return without_lone_surrogates(text)


def without_lone_surrogates(text: bytes) -> bytes:
    """A JSON text with U+FFFD in the place of each escaped surrogate that lacks its other half."""
    return _LONE_SURROGATE.sub(lambda match: rb"\ufffd" if match[2] else match[0], text)
