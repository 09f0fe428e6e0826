"""What leaves on the stream of a legacy SSE session: whole events, those of the SDK and those of the express lane."""

from collections.abc import Iterator
from typing import Final

from starlette.types import Send

from proxy.gateway.letgo import let_go
from proxy.gateway.outlet import PIECE, Outlet
from proxy.gateway.paced import paced
from proxy.gateway.pieces import Parts, plain
from proxy.gateway.replying import Way

_HEAD: Final = b"event: message\r\ndata: "
"""Lines end as those that the SDK writes: some clients look for nothing else."""
_TAIL: Final = b"\r\n\r\n"


class Ready(bytes):
    """Events that somebody else has written, or a part of the stream which is none: to be sent as they are."""

    __slots__ = ()


class SseOutlet(Outlet):
    """The writing end of such a stream, behind the ASGI channel of its response.

    Args:
        send: the ASGI channel.
        way: the way past it, where the server has one.
    """

    def __init__(self, send: Send, way: Way | None) -> None:
        super().__init__()
        self._send = send
        self._way = way

    def _at_once(self, frame: bytes) -> bool:
        return self._way is not None and self._way.part(_framed(frame))

    async def _write(self, frame: bytes | Parts, upstream: str) -> None:
        if not isinstance(frame, bytes):
            await paced(_event(frame), upstream, self._pass)
            let_go(frame)
        elif len(frame) <= PIECE:
            await self._pass(_framed(frame))
        else:
            await paced(_framed(frame), upstream, self._pass)

    async def _pass(self, data: bytes) -> None:
        if not self._gone:
            await self._send({"type": "http.response.body", "body": data, "more_body": True})


def _framed(frame: bytes) -> bytes:
    return frame if type(frame) is Ready else _HEAD + plain(frame) + _TAIL


def _event(frame: Parts) -> Iterator[bytes]:
    """A large message as an event, piece by piece."""
    yield _HEAD
    yield from map(plain, frame)
    yield _TAIL
