"""What the two ends of a frame tell that nobody will decode: it is too long, or nested too deeply. Pure."""

import re
from typing import Final

from proxy.wire.envelope import Id, id_in
from proxy.wire.lines import EDGE, Oversized

_ID: Final = rb'"id"\s*:\s*(-?\d{1,18}|"[^"\\]{0,128}")\s*'
_METHOD: Final = rb'"method"\s*:\s*"[^"\\]*"\s*'
_PLAIN: Final = rb'"(?:jsonrpc|method|id)"\s*:\s*(?:-?\d{1,18}|"[^"\\]*")\s*'
_HEAD: Final = re.compile(rb"\s*\{\s*((?:" + _PLAIN + rb",\s*)*)")
"""The members before the first one that may be large."""
_TAIL: Final = re.compile(
    rb'[,{]\s*((?:"jsonrpc"\s*:\s*"2\.0"\s*,\s*)?' + _ID + rb'(?:,\s*"jsonrpc"\s*:\s*"2\.0"\s*)?)\}\s*$'
)
_FIND_ID: Final = re.compile(_ID)
_FIND_METHOD: Final = re.compile(_METHOD)


def ends_of(line: bytes) -> Oversized:
    """The ends of a frame that is there as a whole."""
    return Oversized(bytes(line[:EDGE]), bytes(line[-EDGE:]), len(line))


def asked(frame: Oversized) -> Id | None:
    """The id of the request that a frame is; None when it is none (a notification, an answer), or one cannot tell.

    The method must stand before the params, as every library known to us writes it; the id may also come last.
    """
    head = _HEAD.match(frame.head)
    if head is None or _FIND_METHOD.search(head[1]) is None:
        return None
    found = _FIND_ID.search(head[1]) or _at_the_end(frame.tail)
    return None if found is None else id_in(found[1])


def _at_the_end(tail: bytes) -> "re.Match[bytes] | None":
    found = _TAIL.search(tail)
    return None if found is None else _FIND_ID.search(found[1])
