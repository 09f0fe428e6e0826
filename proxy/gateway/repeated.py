"""Heads that a connection has had before: what was understood once is not taken apart again.

A client sends the same head with each of its requests, byte for byte but for the length of the body. So a connection
keeps the last heads that led to a hot request, and what they meant there. A head that differs in anything else is read
in full.
"""

import re
from typing import Any, Final

from proxy.gateway.known import Known

Place = tuple[int, int]
"""Where the body begins in what was read, and how long it is."""

LARGEST: Final = 8192
"""Bytes of a head that is kept."""
MOST: Final = 4
"""Heads that a connection keeps: a modern client names the tool in the head."""

_LENGTH: Final = re.compile(rb"\r\ncontent-length: ?([0-9]{1,9})\r\n", re.IGNORECASE)
_DIGITS: Final = 10
_NAME: Final = b"content-length"


class Repeated:
    """One head, for any length of the body. ``scope`` and ``known`` are shared by its requests."""

    __slots__ = ("_before", "_behind", "known", "scope")

    def __init__(self, before: bytes, behind: bytes, scope: Any, known: Known) -> None:
        self._before = before
        self._behind = behind
        self.scope = scope
        self.known = known
        """What it says, but for the length."""

    @classmethod
    def of(cls, data: bytes, scope: Any, known: Known) -> "Repeated | None":
        """What can be kept of the head at the start of what was read, which meant this; None if it is unusual."""
        end = data.find(b"\r\n\r\n", 0, LARGEST) + 4
        head = data[:end]
        if not head.startswith(b"POST ") or head.count(b"\n") != head.count(b"\r\n"):
            return None
        found = _LENGTH.search(head)
        return None if found is None else cls(head[: found.start(1)], head[found.end(1) :], scope, known)

    def match(self, data: bytes) -> Place | None:
        """Where the body is in something that was read, if this head is at its start."""
        before, behind = self._before, self._behind
        if not data.startswith(before):
            return None
        start = len(before)
        end = data.find(b"\r", start, start + _DIGITS)
        digits = data[start:end]
        if not digits.isdigit() or not data.startswith(behind, end):
            return None
        return end + len(behind), int(digits)

    def restored(self, length: int) -> dict[str, Any]:
        """A scope for one request of its own."""
        text = b"%d" % length
        headers = [(name, text if name == _NAME else value) for name, value in self.scope["headers"]]
        return {**self.scope, "headers": headers, "state": self.scope["state"].copy()}
