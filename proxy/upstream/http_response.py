"""A response as it comes in: its head, then its body piece by piece or as a whole."""

from collections.abc import Iterator, Mapping
from functools import lru_cache

from proxy.upstream.http_connection import Broken, Connection
from proxy.upstream.http_pool import Pool
from proxy.upstream.share import READING, Share, Turns
from proxy.wire.large import LARGE, Frame
from proxy.wire.packing import Unpackable, Unpacker
from proxy.wire.scan import PIECE


class TooMuch(Exception):
    """A body is larger than allowed; ``size`` is what is known of its length, in bytes."""

    def __init__(self, size: int) -> None:
        super().__init__(str(size))
        self.size = size


class Fields(Mapping[str, str]):
    """Header fields, by name in any case."""

    __slots__ = ("_fields",)

    def __init__(self, fields: Mapping[bytes, bytes]) -> None:
        """``fields`` has lower-case names."""
        self._fields = fields

    def __getitem__(self, name: str) -> str:
        return self._fields[name.lower().encode()].decode(errors="surrogateescape")

    def __iter__(self) -> Iterator[str]:
        return (name.decode("latin-1") for name in self._fields)

    def __len__(self) -> int:
        return len(self._fields)


class Response:
    """One response. ``release`` it when its body was read, ``close`` it otherwise; both may be called again."""

    __slots__ = ("_connection", "_fields", "_packed", "_pool", "status")

    def __init__(self, connection: Connection, pool: Pool) -> None:
        self._connection: Connection | None = connection
        self._pool = pool
        self._fields = fields = connection.incoming.fields
        self.status = connection.incoming.status
        encoding = fields.get(b"content-encoding")
        self._packed: Unpacker | None = None
        if encoding is not None and (named := encoding.decode("latin-1").strip().lower()) not in ("", "identity"):
            self._packed = Unpacker(named)

    @property
    def headers(self) -> Mapping[str, str]:
        """The header fields, by name in any case."""
        return Fields(self._fields)

    @property
    def kind(self) -> str:
        """The media type, lower case, without parameters."""
        return _media_type(self._fields.get(b"content-type", b""))

    @property
    def ended(self) -> bool:
        """Whether the body was read to its end, or the response is given back."""
        connection = self._connection
        if connection is None:
            return True
        packed = self._packed is not None and self._packed.pending
        return connection.incoming.over and not connection.incoming.parts and not packed

    async def some(self) -> bytes:
        """What comes next of the body; empty at its end.

        Raises:
            Broken: it breaks off.
        """
        if self._connection is None:
            return b""
        packed = self._packed
        if packed is None:
            return await self._connection.some()
        try:
            while not (data := packed.take()):
                came = await self._connection.some()
                if not came:
                    break
                packed.feed(came)
        except Unpackable as error:
            raise Broken(str(error)) from error
        if not data and not packed.complete:
            raise Broken("the answer broke off")
        return data

    async def whole(self, limit: int) -> bytes:
        """The whole body.

        Raises:
            TooMuch: it has more than ``limit`` bytes.
            Broken: it breaks off.
        """
        if self._connection is None:
            return b""
        incoming = self._connection.incoming
        if self._packed is not None:
            return await self._unpacked(limit)
        if incoming.over and incoming.waiting <= limit:
            return incoming.take()
        length = incoming.length or 0
        body = await self._connection.gather(limit) if length <= limit else None
        if body is None:
            raise TooMuch(max(length, incoming.waiting))
        return body

    async def frame(self, limit: int, share: Share) -> bytes | Frame:
        """The whole body, which is one message; a large one is checked while it comes in, on the account of a share.

        Raises:
            TooMuch, Broken: as ``whole`` does.
        """
        if self._connection is None:
            return b""
        incoming = self._connection.incoming
        if incoming.over and self._packed is None and incoming.waiting < min(LARGE, limit):
            return incoming.take()
        length = 0 if self._packed is not None else incoming.length or 0
        if length > limit:
            raise TooMuch(length)
        data = await self.some()
        frame, turns = Frame(), Turns(share)  # what was before was a wait
        while data:
            if len(frame) + len(data) > limit:
                raise TooMuch(max(length, len(frame) + len(data)))
            turns.begin(share.now() - len(data) * READING)
            for start in range(0, len(data), PIECE):
                frame.add(data[start : start + PIECE])
                await turns.pause()
            data = await self.some()
        return frame

    async def _unpacked(self, limit: int) -> bytes:
        parts, size = [], 0
        while data := await self.some():
            parts.append(data)
            size += len(data)
            if size > limit:
                raise TooMuch(size)
        return b"".join(parts)

    def release(self) -> None:
        """The body was read, or there is none to come: the connection may be used again, if it can."""
        if self._connection is not None:
            self._pool.give(self._connection)
            self._connection = None

    def close(self) -> None:
        """Nobody wants the rest: close the connection."""
        if self._connection is not None:
            self._connection.abort()
            self._connection = None


@lru_cache(64)
def _media_type(value: bytes) -> str:
    return value.partition(b";")[0].strip().lower().decode("latin-1")
