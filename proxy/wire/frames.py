"""Newline framing for what may be large: a line that is long is checked while it comes in (``large.Frame``)."""

from collections.abc import Callable

from proxy.wire.large import LARGE, Frame
from proxy.wire.lines import Cut, Oversized

Start = Callable[[bytes], Frame | None]
"""Begins a frame with the first bytes of a long line; None if there is no frame in that line."""


class Frames:
    r"""Splits chunks of bytes into lines without their ``\n``, as ``Lines`` does."""

    __slots__ = ("_cut", "_frame", "_partial", "_plain", "_small", "_start", "limit")

    def __init__(self, limit: int, start: Start = Frame) -> None:
        """``limit`` is the longest line in bytes, without its end."""
        self.limit = limit
        self._start = start
        self._small = min(limit, LARGE)
        self._partial = bytearray()
        self._plain = False
        self._frame: Frame | None = None
        self._cut: Cut | None = None

    @property
    def large(self) -> bool:
        """Whether the line that has begun is large."""
        return self._frame is not None or self._cut is not None

    def feed(self, chunk: bytes) -> list[bytes | Frame | Oversized]:
        """Take a chunk; return the lines that ended in it, empty ones included."""
        *ended, rest = chunk.split(b"\n")
        lines: list[bytes | Frame | Oversized] = [*ended]
        if len(chunk) > self._small or self._partial or self.large:
            lines = [self._end(part) for part in ended]
        if rest:
            self._keep(rest)
        return lines

    def close(self) -> bytes | Frame | Oversized | None:
        """The stream is over: the last line if it lacks its end, else None."""
        if self._partial or self._frame is not None or self._cut is not None:
            return self._end(b"")
        return None

    def _end(self, part: bytes) -> bytes | Frame | Oversized:
        if not self._partial and len(part) <= self._small and self._frame is None and self._cut is None:
            return part
        self._keep(part)
        partial, frame, cut = self._partial, self._frame, self._cut
        self._frame = self._cut = None
        self._plain = False
        if partial:
            self._partial = bytearray()
        return cut.done() if cut is not None else frame if frame is not None else bytes(partial)

    def _keep(self, part: bytes) -> None:
        if self._cut is not None:
            self._cut.add(part)
        elif len(self._partial) + (0 if self._frame is None else len(self._frame)) + len(part) > self.limit:
            self._overflow(part)
        elif self._frame is not None:
            self._frame.add(part)
        else:
            self._partial += part
            if len(self._partial) >= LARGE and not self._plain:
                self._begin()

    def _begin(self) -> None:
        self._frame = self._start(bytes(self._partial))
        self._plain = self._frame is None
        if self._frame is not None:
            self._partial = bytearray()

    def _overflow(self, part: bytes) -> None:
        self._cut = Cut()
        if self._frame is None:
            self._cut.add(self._partial)
        else:
            self._cut.add_cut(self._frame.ends)
            self._frame = None
        self._cut.add(part)
        self._partial = bytearray()
