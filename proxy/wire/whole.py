"""Where a piece of JSON text may end, so that no character and no escape is cut. Pure."""

import re
from typing import Final

_HIGH: Final = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\Z")
_ESCAPE: Final = 6
_LEAD, _LEAD_OF_3, _LEAD_OF_4, _CONTINUED = 0xC0, 0xE0, 0xF0, 0x80
(_U,) = b"u"


def escapes(masked: bytes) -> int:
    """How much of a piece that ends within a string does not end within an escape, or half a surrogate pair."""
    size = len(masked)
    begun = masked.rfind(b"\\", max(0, size - _ESCAPE))
    if begun >= 0 and (begun == size - 1 or (masked[begun + 1] == _U and size - begun < _ESCAPE)):
        size = begun
    return size - _ESCAPE if _HIGH.search(masked, max(0, size - _ESCAPE), size) else size


def characters(data: bytes, size: int) -> int:
    """How much of a piece does not end within a character."""
    for back in range(1, min(4, size + 1)):
        byte = data[size - back]
        if byte >= _LEAD:
            needed = 2 + (byte >= _LEAD_OF_3) + (byte >= _LEAD_OF_4)
            return size - back if back < needed else size
        if byte < _CONTINUED:
            break
    return size
