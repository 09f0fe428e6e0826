"""How deeply JSON is nested, told from its bytes before anybody decodes it. Pure."""

import re
from itertools import accumulate
from typing import Final

DEEPEST: Final = 128
"""Levels that a message may have. Decoders and encoders have limits of their own, all higher, and all different."""

_TEXT: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_STEPS: Final = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")
"""A level more, a level less: as signed bytes."""
_APART: Final = 2
"""Between the codes of a bracket that opens and the one that closes it."""
_OTHERS: Final = bytes(set(range(256)) - set(b"[{]}"))


def too_deep(data: bytes, limit: int = DEEPEST) -> bool:
    """Whether a JSON text has more levels than a limit. What is no JSON is judged by its brackets.

    A text with few brackets, which is most of them, costs two counts; others some 30 ns for each bracket.
    """
    if len(data) <= limit or data.count(b"[") + data.count(b"{") <= limit:
        return False
    return deepest(_TEXT.sub(b"", data).translate(None, _OTHERS)) > limit


def deepest(brackets: bytes) -> int:
    """How many levels there are at most, from where these begin."""
    return max(accumulate(memoryview(brackets.translate(_STEPS)).cast("b")), default=0)


def unmatched(brackets: bytes) -> bytes:
    """What is left when each bracket that closes has taken away its own."""
    left = bytearray()
    for one in brackets:
        if left and one in b"]}" and left[-1] == one - _APART:
            left.pop()
        else:
            left.append(one)
    return bytes(left)
