"""Bodies that came compressed (RFC 9110, 8.4.1), unpacked a bounded piece at a time."""

import zlib
from typing import Final

ACCEPTED: Final = "gzip, deflate"
"""What we offer to unpack (``Accept-Encoding``)."""

PIECE: Final = 1 << 18
"""Bytes that come out at once, at most: a small body may unpack into a huge one."""

_GZIP: Final = 16 + zlib.MAX_WBITS
_DEFLATE_METHOD: Final = 8


class Unpackable(ValueError):
    """A body that is not what its header says, or packed in a way we do not know."""


class Unpacker:
    """Unpacks one body.

    Args:
        encoding: the value of ``Content-Encoding``.

    Raises:
        Unpackable: an encoding that we do not know.
    """

    def __init__(self, encoding: str) -> None:
        if encoding not in ("gzip", "x-gzip", "deflate"):
            raise Unpackable(f"the answer is packed as {encoding[:40]!r}, which we did not offer to take")
        self._gzip = encoding != "deflate"
        self._zlib = zlib.decompressobj(_GZIP) if self._gzip else None
        self._rest = b""
        self._full = False

    @property
    def pending(self) -> bool:
        """Whether there may be more to come out of what went in."""
        return bool(self._rest) or self._full

    @property
    def complete(self) -> bool:
        """Whether what went in could be all."""
        return self._zlib is None or self._zlib.eof

    def feed(self, data: bytes) -> None:
        """Put packed bytes in."""
        self._rest += data

    def take(self) -> bytes:
        """At most ``PIECE`` unpacked bytes; empty if more has to go in first.

        Raises:
            Unpackable: it is not packed as it says.
        """
        out = b""
        while self.pending and not out:
            out = self._piece(self._unpacker())
        return out

    def _unpacker(self) -> "zlib._Decompress":
        if self._zlib is None:
            # "deflate" means zlib's format, but some servers send it without its frame.
            framed = self._rest[0] & 0x0F == _DEFLATE_METHOD
            self._zlib = zlib.decompressobj(zlib.MAX_WBITS if framed else -zlib.MAX_WBITS)
        elif self._zlib.eof and self._rest:
            if not self._gzip:
                raise Unpackable("something came behind the packed answer")
            self._zlib = zlib.decompressobj(_GZIP)  # gzip may have several members
        return self._zlib

    def _piece(self, unpacker: "zlib._Decompress") -> bytes:
        try:
            out = unpacker.decompress(self._rest, PIECE)
        except zlib.error as error:
            raise Unpackable("the answer is not packed as it says") from error
        self._full = len(out) == PIECE  # then some may be left inside, though nothing is left to put in
        self._rest = unpacker.unused_data if unpacker.eof else unpacker.unconsumed_tail
        return out
