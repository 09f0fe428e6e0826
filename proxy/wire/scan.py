"""Checking a large JSON text piece by piece, so that nobody waits for the whole of it.

msgspec checks, and only whole texts. So each piece is made one: it is cut where the state of the text is known (behind
a comma, or within a string), and gets what opens and closes all that is open there. If the pieces are good, so is the
text, for what is put on says exactly in which state the one leaves it and the next takes it up
(docs/decisions/0021-large-results-in-pieces.md). Pure.
"""

import re
from enum import IntEnum
from functools import lru_cache
from typing import Final, NamedTuple

import msgspec

from proxy.wire import whole
from proxy.wire.depth import DEEPEST, deepest, unmatched
from proxy.wire.repair import without_lone_surrogates

PIECE: Final = 1 << 16
"""Bytes that are checked at once: some tenths of a millisecond."""
FIRST: Final = 1 << 12
"""The same at the beginning, which is looked at more closely."""
STUCK: Final = 1 << 20
"""Bytes in which there must be a place to cut. What has none is a blank or a number without end."""

CROWD: Final = 1 << 10
"""Commas of one level that are noted; a list of numbers has millions."""
NEAR: Final = 2
"""Levels whose commas are noted: those of the message, and those of its result."""

_LOOKED, _HOPELESS = 32, 1000
"""Levels seen to close, each at the cost of a look at all, until they are matched one by one, if that is worth it."""
_LONG: Final = 1 << 10
"""A string that is cut rather than left to the next piece whole."""
_TRACE: Final = 1 << 6
"""Bytes that a string must have for a cut: shorter ones are looked for as a whole."""
_OTHERS: Final = bytes(set(range(256)) - set(b"[]{}"))
_TOKEN: Final = re.compile(rb'"[^"]*"?|[\[\]{},]')
_ODD: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"?|-?Infinity|NaN', re.DOTALL)
_COMMA, _LIST = b",["

_check = msgspec.json.Decoder(msgspec.Raw).decode


class Bad(ValueError):
    """What was put in is not JSON."""


class _State(IntEnum):
    """Where a cut is."""

    START = 0
    COMMA = 1
    TEXT = 2
    KEY = 3


class _Cut(NamedTuple):
    """A piece of a text, up to a place where it can be cut."""

    size: int
    state: _State
    outside: list[bytes]
    """What stands outside of strings."""


class Scan:
    """Checks one text. What is ``good`` of it was checked, and mended as ``envelope.read`` mends.

    Mutable state: what is open at the end of what was checked, and what was noted of it.
    """

    __slots__ = ("_noticed", "_stack", "_state", "commas", "crowded", "depth", "position", "takes", "wants")

    def __init__(self) -> None:
        self._stack = b""
        self._state = _State.START
        self.position = 0
        """Bytes that are good."""
        self.depth = 0
        """Levels of nesting; no less than there are, and exact above ``DEEPEST``."""
        self.commas: list[tuple[int, int]] = []
        """Where the commas of the outermost levels stand, and of which level each of them is."""
        self._noticed = [0] * (NEAR + 1)
        self.crowded = False
        """Whether there are more of them, all of the level of the result."""
        self.wants = self.takes = FIRST
        """With how many bytes it wants to be called next at least, and at most, unless they are the last."""

    def step(self, data: bytes, *, last: bool = False) -> tuple[bytes, int]:
        """Check the next piece, from the first byte that is not good yet.

        Returns the piece as it is good, and how many bytes of ``data`` it stands for: none if more is needed to cut.

        Raises:
            Bad: it is not JSON.
        """
        try:
            if not last and self._state >= _State.TEXT and b'"' not in data and b"\\" not in data[-16:]:
                cut = _Cut(whole.characters(data, len(data)), self._state, [])
                piece = self._good(data[: cut.size], self._stack, cut.state)
            else:
                found = self._found(data, last=last)
                if found is None:
                    return self._stuck(data)
                cut = found
                piece = self._structure(data[: cut.size], cut, last=last)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError) as error:
            raise Bad(str(error)) from error
        self._state = cut.state
        self.position += len(piece)
        self.wants, self.takes = FIRST, PIECE
        return piece, cut.size

    def _stuck(self, data: bytes) -> tuple[bytes, int]:
        if len(data) > STUCK:
            raise Bad(f"{STUCK} bytes of it hold neither a comma nor a text")
        self.wants = self.takes = 2 * len(data)
        return b"", 0

    # -- where to cut --------------------------------------------------------------------------------------------------

    def _found(self, data: bytes, *, last: bool) -> _Cut | None:
        masked = _masked(data)
        parts = masked.split(b'"')
        first = int(self._state >= _State.TEXT)
        if last:
            return _Cut(len(data), _State.START, parts[first::2])
        if (len(parts) - 1) % 2 != first and len(parts[-1]) >= _LONG:
            return self._within_text(masked, parts, first)
        return _behind_comma(len(masked), parts, first) or self._within_text(masked, parts, first)

    def _within_text(self, masked: bytes, parts: list[bytes], first: int) -> _Cut | None:
        if (len(parts) - 1) % 2 == first or len(parts[-1]) < _TRACE:
            return None
        size = whole.characters(masked, whole.escapes(masked))
        state = self._state
        if len(parts) > 1:
            state = _State.TEXT if self._holds_value(parts, first) else _State.KEY
        return _Cut(size, state, parts[first::2])

    def _holds_value(self, parts: list[bytes], first: int) -> bool:
        """Whether the last string is a value. A guess, which the check proves right: a wrong one is no JSON."""
        before = parts[-2].rstrip()
        if before.endswith(b":"):
            return True
        return self._after(parts[first::2])[0][-1:] == b"["

    # -- what it means -------------------------------------------------------------------------------------------------

    def _structure(self, piece: bytes, cut: _Cut, *, last: bool) -> bytes:
        stack, lowest = self._after(cut.outside)
        if bool(stack) is last:
            raise Bad("something comes behind its end" if stack == b"" else "it is cut off")
        piece = self._good(piece, stack, cut.state)
        if lowest <= (NEAR - 1 if self.crowded else NEAR):
            self._note(_masked(piece))
        self._stack = stack
        return piece

    def _after(self, outside: list[bytes]) -> tuple[bytes, int]:
        """What is open after a piece, and the fewest levels that were on the way. Notes the most."""
        brackets = rest = b"".join(outside).translate(None, _OTHERS)
        rounds = 0
        while True:
            shorter = rest.replace(b"[]", b"").replace(b"{}", b"")
            if len(shorter) == len(rest):
                break
            rest = shorter
            rounds += 2
            if rounds == _LOOKED:
                if len(self._stack) + deepest(brackets) > _HOPELESS:
                    raise Bad("it is nested too deeply")
                rest, rounds = unmatched(rest), DEEPEST + 1
                break
        opened = rest.lstrip(b"]}")
        lowest = len(self._stack) - (len(rest) - len(opened))
        if lowest < 0 or b"]" in opened or b"}" in opened:
            raise Bad("its brackets do not match")
        most = len(self._stack) + rounds + len(opened)
        if most > DEEPEST:
            most = len(self._stack) + deepest(brackets)
        self.depth = max(self.depth, most)
        return self._stack[:lowest] + opened, lowest

    def _note(self, masked: bytes) -> None:
        depth, start = len(self._stack), 0
        if self._state >= _State.TEXT:
            start = masked.find(b'"') + 1 or len(masked)
        for found in _TOKEN.finditer(masked, start):
            byte = masked[found.start()]
            if byte == _COMMA:
                if depth < NEAR or (depth == NEAR and not self.crowded):
                    self._noted(self.position + found.start(), depth)
            elif byte in b"[{":
                depth += 1
            elif byte in b"]}":
                depth -= 1

    def _noted(self, comma: int, depth: int) -> None:
        self._noticed[depth] += 1
        if self._noticed[depth] <= CROWD:
            self.commas.append((comma, depth))
        elif depth < NEAR:
            raise Bad(f"it has more than {CROWD} members")
        else:
            self.crowded = True

    # -- the check -----------------------------------------------------------------------------------------------------

    def _good(self, piece: bytes, stack: bytes, state: _State) -> bytes:
        try:
            self._see(piece, stack, state)
        except (msgspec.DecodeError, UnicodeDecodeError):
            piece = self._mended(piece)
            self._see(piece, stack, state)
        return piece

    def _see(self, piece: bytes, stack: bytes, state: _State) -> None:
        if not piece.isascii():
            str(piece, "utf-8")  # msgspec does not look into what it leaves undecoded
        _check(b"".join((_opening(self._stack, self._state), piece, _closing(stack, state))))

    def _mended(self, piece: bytes) -> bytes:
        text = piece.decode(errors="replace").encode()
        if self._state >= _State.TEXT:
            return _ODD.sub(_replaced, b'"' + text)[1:]
        return _ODD.sub(_replaced, text)


def _replaced(found: "re.Match[bytes]") -> bytes:
    text = found[0]
    if text[:1] != b'"':
        return b"null"
    return without_lone_surrogates(text) if b"\\u" in text else text


def _masked(data: bytes) -> bytes:
    r"""A text of the same length in which each quote begins or ends a string, and each ``\`` an escape."""
    return data.replace(rb"\\", b"__").replace(rb"\"", b"__") if b"\\" in data else data


def _behind_comma(size: int, parts: list[bytes], first: int) -> _Cut | None:
    end, number = size, len(parts) - 1
    if number % 2 != first:
        end -= len(parts[number]) + 1
        number -= 1
    while number >= 0:
        part = parts[number]
        comma = part.rfind(b",")
        if comma >= 0:
            outside = parts[first:number:2]
            outside.append(part[: comma + 1])
            return _Cut(end - len(part) + comma + 1, _State.COMMA, outside)
        end -= len(part) + (len(parts[number - 1]) if number else 0) + 2
        number -= 2
    return None


@lru_cache(256)
def _opening(stack: bytes, state: _State) -> bytes:
    if state is _State.START:
        return b""
    outer = b"".join(b"[" if one == _LIST else b'{"":' for one in stack[:-1])
    listed = stack.endswith(b"[")
    if state is _State.COMMA:
        return outer + (b"[0," if listed else b'{"":0,')
    if state is _State.KEY:
        return outer + b'{"'
    return outer + (b'["' if listed else b'{"":"')


@lru_cache(256)
def _closing(stack: bytes, state: _State) -> bytes:
    if state is _State.START:
        return b""
    outer = stack[:-1][::-1].translate(bytes.maketrans(b"[{", b"]}"))
    listed = stack.endswith(b"[")
    if state is _State.COMMA:
        return (b"0]" if listed else b'"":0}') + outer
    if state is _State.KEY:
        return b'":0}' + outer
    return (b'"]' if listed else b'"}') + outer
