r"""Newline framing, incremental and bounded.

A frame over the limit never takes more memory than the limit: it is cut down to its two ends while it passes by,
reported, and the stream goes on behind it.
"""

from dataclasses import dataclass
from typing import Final, cast

_LARGE: Final = 1 << 20

EDGE: Final = 512
"""How many bytes of each end of an oversized frame are kept."""


@dataclass(frozen=True, slots=True)
class Oversized:
    """A frame over the limit: its ends (at most ``EDGE`` bytes each) and its size in bytes."""

    head: bytes
    tail: bytes
    size: int


class Cut:
    """An oversized frame that is still passing by."""

    __slots__ = ("_head", "_tail", "size")

    def __init__(self) -> None:
        self._head = b""
        self._tail = b""
        self.size = 0

    def add(self, part: bytes | bytearray) -> None:
        """Take the next bytes of the frame."""
        self._head += bytes(part[: EDGE - len(self._head)])
        self._tail = (self._tail + bytes(part[-EDGE:]))[-EDGE:]
        self.size += len(part)

    def add_cut(self, part: Oversized) -> None:
        """Take the next part of the frame, which was too large by itself."""
        self._head += part.head[: EDGE - len(self._head)]
        self._tail = part.tail
        self.size += part.size

    def done(self) -> Oversized:
        """The frame is over: what is left of it."""
        return Oversized(self._head, self._tail, self.size)


class Lines:
    r"""Splits chunks of bytes into lines without their ``\n``. Where the chunks are cut makes no difference."""

    __slots__ = ("_cut", "_partial", "limit")

    def __init__(self, limit: int) -> None:
        """``limit`` is the longest line in bytes, without its end."""
        self.limit = limit
        self._partial = bytearray()
        self._cut: Cut | None = None

    def feed(self, chunk: bytes) -> list[bytes | Oversized]:
        """Take a chunk; return the lines that ended in it, empty ones included."""
        *ended, rest = chunk.split(b"\n")
        lines = [self._end(part) for part in ended]
        if rest:
            self._keep(rest)
        return lines

    def close(self) -> bytes | Oversized | None:
        """The stream is over: the last line if it lacks its end, else None."""
        if self._partial or self._cut is not None:
            return self._end(b"")
        return None

    def _end(self, part: bytes) -> bytes | Oversized:
        if not self._partial and self._cut is None and len(part) <= self.limit:
            return part
        self._keep(part)
        if self._cut is not None:
            line: bytes | Oversized = self._cut.done()
            self._cut = None
        else:
            line = self._whole()
        return line

    def _whole(self) -> bytes:
        partial, self._partial = self._partial, bytearray()
        # A large one is handed over as it is: a copy would hold up everybody for as long as reading it took.
        return bytes(partial) if len(partial) < _LARGE else cast("bytes", partial)

    def _keep(self, part: bytes) -> None:
        if self._cut is None and len(self._partial) + len(part) > self.limit:
            self._cut = Cut()
            self._cut.add(self._partial)
            self._partial = bytearray()
        if self._cut is not None:
            self._cut.add(part)
        else:
            self._partial += part
