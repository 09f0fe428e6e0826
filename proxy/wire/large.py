"""Large frames: checked while they come in, kept as they came, and never joined, decoded or copied as a whole.

What ``envelope.read`` does for a frame that is there, this does for one that comes part by part. The result of an
answer comes out as its bytes, with what the relay has to know of it (``model.Body``).
"""

import re
import secrets
from bisect import bisect_right
from collections.abc import Iterator
from typing import Any, Final

import msgspec
from msgspec.structs import replace

from proxy.model import URI_TRACES, Body
from proxy.wire import envelope
from proxy.wire.envelope import Malformed, Message
from proxy.wire.lines import Cut, Oversized
from proxy.wire.scan import Bad, Scan

LARGE: Final = 1 << 15
"""Bytes from which on a frame is taken in this way; below it one look at the whole is faster."""

MEMBERS: Final = 256
"""Members that a large message may have; JSON-RPC knows four."""

_SMALL: Final = 1 << 12
_KEY: Final = 1 << 10
"""Bytes in which a member's name and the blanks around it must fit."""
_NAME: Final = re.compile(rb'\s*("(?:[^"\\]|\\.)*")\s*:\s*(?=\S)', re.DOTALL)
_UNDECODED: Final = frozenset((b'"params"', b'"result"', b'"error"'))
_EMPTY: Final = {b"{": b"{}", b"[": b"[]", b'"': b'""'}
_MARK: Final = secrets.token_hex(12).encode()
"""Stands for a large value; nobody outside can know it."""

_decode_head = msgspec.json.Decoder(dict[str, Any]).decode
_encode = msgspec.json.encode


class Scanned(Message, frozen=True):
    """An answer whose large result stands beside the message."""

    body: Body | None = None


class Frame:
    """One frame, taken in part by part. Mutable state: what is good of it, and what is still to be looked at."""

    __slots__ = ("_bad", "_batch", "_ends", "_found", "_parts", "_rest", "_scan", "_size", "_spans", "_traces")

    def __init__(self, start: bytes = b"") -> None:
        self._scan = Scan()
        self._parts: list[bytes] = []
        self._ends: list[int] = []
        self._rest = b""
        self._size = 0
        self._bad = ""
        self._batch = False
        self._found: list[Message | Malformed] | None = None
        self._traces: set[bytes] = set()
        self._spans: dict[bytes, tuple[int, int]] = {}
        if start:
            self.add(start)

    def __len__(self) -> int:
        """How many bytes have come."""
        return self._size

    def __bytes__(self) -> bytes:
        """All of it. A copy."""
        return b"".join((*self._parts, self._rest))

    @property
    def ends(self) -> Oversized:
        """What is left of one that is no message, or too large."""
        passing = Cut()
        for part in (*self._parts, self._rest):
            passing.add(part)
        return passing.done()

    def add(self, part: bytes) -> None:
        """Take the next part, and check what can be checked."""
        self._size += len(part)
        if self._batch or self._bad:
            self._parts.append(part)
            return
        self._rest = self._rest + part if self._rest else part
        try:
            self._go_on()
        except Bad as error:
            self._give_up(error)

    def finish(self) -> list[Message | Malformed]:
        """It is complete: its messages, as ``envelope.read`` has them."""
        if self._found is None:
            self._found = self._finished()
        return self._found

    def _finished(self) -> list[Message | Malformed]:
        if self._batch:
            return envelope.read(bytes(self))
        try:
            if not self._bad:
                self._keep(self._scan.step(self._rest, last=True)[0])
                self._rest = b""
                return [self._message()]
        except Bad as error:
            self._give_up(error)
        except Malformed as error:
            return [error]
        return [Malformed(self._bad, envelope.answered(self.ends))]

    # -- as it comes in ------------------------------------------------------------------------------------------------

    def _go_on(self) -> None:
        if not self._parts and self._rest.lstrip()[:1] == b"[":
            # Of one revision only, and never large: it is looked at when it is complete.
            self._batch = True
            self._parts, self._rest = [self._rest], b""
            return
        rest, at, scan = self._rest, 0, self._scan
        try:
            while len(rest) - at > scan.wants:
                piece, taken = scan.step(rest[at : at + scan.takes])
                if taken:
                    self._keep(piece)
                    at += taken
        finally:
            self._rest = rest[at:] if at else rest

    def _keep(self, piece: bytes) -> None:
        self._parts.append(piece)
        self._ends.append(self._scan.position)
        first = piece.find(b'"')  # fast, where the other is not
        if first >= 0 and piece.find(b'ri"', first) >= 0:
            self._traces.update(trace for trace in URI_TRACES if trace in piece)

    def _give_up(self, error: Bad) -> None:
        """It is no message: all of it is kept, as it came, for whoever wants to show it."""
        self._bad = str(error) or "it is not JSON"
        self._parts.append(self._rest)
        self._rest = b""

    # -- when it is complete -------------------------------------------------------------------------------------------

    def _between(self, start: int, end: int) -> list[bytes]:
        found = []
        end = min(end, self._scan.position)
        number = bisect_right(self._ends, start)
        while start < end:
            part = self._parts[number]
            first = self._ends[number] - len(part)
            found.append(part[start - first : end - first] if start > first or end - first < len(part) else part)
            start = self._ends[number]
            number += 1
        return found

    def _text(self, start: int, end: int) -> bytes:
        return b"".join(self._between(start, end))

    def _message(self) -> Message | Malformed:
        first = self._parts[0]
        start = len(first) - len(first.lstrip())
        regions = list(self._regions(start + 1, self._stripped(start, self._scan.position) - 1, 1))
        if len(regions) > MEMBERS:
            return Malformed(f"it has more than {MEMBERS} members")
        members = [self._member(*region) for region in regions]
        if None in members:
            return envelope.decode(bytes(self))
        message = envelope.decode(b"{" + b",".join(one for one in members if one) + b"}")
        return self._filled(message) if self._spans else message

    def _stripped(self, start: int, end: int) -> int:
        """The end without the blanks before it."""
        while end > start:
            tail = self._text(max(start, end - _KEY), end)
            if kept := len(tail.rstrip()):
                return end - len(tail) + kept
            end -= len(tail)
        return end

    def _regions(self, start: int, end: int, depth: int) -> Iterator[tuple[int, int]]:
        for comma, level in self._scan.commas:
            if level == depth and start <= comma < end:
                yield start, comma
                start = comma + 1
        yield start, end

    def _member(self, start: int, end: int) -> bytes | None:
        """A member of the message, with a mark for a large value; empty for one that nobody knows; None if odd."""
        if end - start <= _SMALL:
            return self._text(start, end)
        named = _NAME.match(self._text(start, start + _KEY))
        if named is None or b"\\" in named[1] or named[1] in (b'"jsonrpc"', b'"id"', b'"method"'):
            return None
        if named[1] not in _UNDECODED:
            return b""
        mark = b'"%b%d"' % (_MARK, len(self._spans))
        self._spans[mark] = (start + named.end(), self._stripped(start, end))
        return named[1] + b":" + mark

    def _filled(self, message: Message) -> Message:
        spans = self._spans
        params, result, error = (spans.get(bytes(one)) for one in (message.params, message.result, message.error))
        return Scanned(
            "2.0",
            message.id,
            message.method,
            msgspec.Raw(self._text(*params)) if params else message.params,
            msgspec.Raw() if result else message.result,
            msgspec.Raw(self._text(*error)) if error else message.error,
            self._body(*result) if result else None,
        )

    def _body(self, start: int, end: int) -> Body:
        parts = self._between(start, end)
        body = Body(parts, end - start, self._scan.depth - 1, frozenset(self._traces))
        known = parts[0][:1] == b"{" and not self._scan.crowded
        regions = list(self._regions(start + 1, end - 1, 2)) if known else []
        values: dict[str, tuple[int, int]] = {}
        if not regions or len(regions) > MEMBERS or not all(self._named(region, values) for region in regions):
            return body
        head = {name: self._emptied(*span) for name, span in values.items()}
        spans = {name: (first - start, last - start) for name, (first, last) in values.items()}
        return replace(body, head=_decode_head(_encode(head)), spans=spans)

    def _named(self, region: tuple[int, int], values: dict[str, tuple[int, int]]) -> bool:
        """Note where the value of a member stands; False if its name cannot be read."""
        start, end = region
        named = _NAME.match(self._text(start, min(start + _KEY, end)))
        if named is not None:
            values[msgspec.json.decode(named[1], type=str)] = (start + named.end(), self._stripped(start, end))
        return named is not None

    def _emptied(self, start: int, end: int) -> msgspec.Raw:
        """A value, or an empty one in place of a large one."""
        if end - start <= _SMALL:
            return msgspec.Raw(self._text(start, end))
        return msgspec.Raw(_EMPTY.get(self._text(start, start + 1), b"0"))


def taken_in(data: bytes) -> "bytes | Frame":
    """A frame that is there as a whole, ready for ``read``."""
    return data if len(data) < LARGE else Frame(data)


def read(frame: "bytes | Frame") -> list[Message | Malformed]:
    """The messages of a frame; see ``envelope.read``."""
    return frame.finish() if isinstance(frame, Frame) else envelope.read(frame)
