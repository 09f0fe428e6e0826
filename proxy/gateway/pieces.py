"""Large results on their way out: the pieces that they came in, with what the downstream's era adds or leaves out."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import msgspec

from proxy.model import Body

Parts = list[bytes]
"""One text in several pieces, none of them large."""

_BREAKS = bytes.maketrans(b"\r\n", b"  ")


def relaid(body: Body, shaped: Mapping[str, Any]) -> Parts | None:
    """A result with other members than it came with: what did not change stays as it is, piece by piece.

    Args:
        body: the result.
        shaped: what became of its ``head``.

    Returns None if something changed of which the head knows nothing.
    """
    head = body.head or {}
    if shaped == head:
        return body.parts
    parts: Parts = []
    for name, value in shaped.items():
        parts += (b"," if parts else b"{", msgspec.json.encode(name), b":")
        if name in head and head[name] == value:
            parts += body.between(*body.spans[name])
        elif name in head and not head[name]:
            return None  # it may be large, and emptied
        else:
            parts.append(msgspec.json.encode(value))
    return [*parts, b"}"]


def answer(number: str | float | None, result: Parts) -> Parts:
    """The answer to a request."""
    return [b'{"jsonrpc":"2.0","id":%b,"result":' % msgspec.json.encode(number), *result, b"}"]


def event(frame: Parts, number: str | None = None) -> Iterator[bytes]:
    """A message as a server-sent event, piece by piece: to look through all of it at once takes some milliseconds."""
    yield b"event: message\n" + (b"" if number is None else b"id: %b\n" % number.encode()) + b"data: "
    yield from map(plain, frame)
    yield b"\n\n"


def plain(part: bytes) -> bytes:
    """A part of a message on one line: its line breaks, which are blanks between tokens, become other blanks."""
    return part.translate(_BREAKS) if b"\n" in part or b"\r" in part else part


def gathered(parts: Iterable[bytes] | bytes, size: int) -> Iterator[bytes]:
    """The same text in pieces of some ``size`` bytes."""
    if isinstance(parts, bytes):
        yield from (parts[start : start + size] for start in range(0, len(parts), size))
        return
    group: Parts = []
    held = 0
    for part in parts:
        group.append(part)
        held += len(part)
        if held >= size:
            yield b"".join(group)
            group, held = [], 0
    if group:
        yield b"".join(group)


def size_of(parts: Parts) -> int:
    """Bytes."""
    return sum(map(len, parts))
