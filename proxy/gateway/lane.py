"""One request on the express lane: its answer as JSON, or as an event stream from the moment something else is said.

The response is JSON as long as the upstream only answers. When it reports progress, logs, or asks something, the
response turns into an event stream on the spot (spec, streamable HTTP: the server chooses).
"""

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

import structlog

from proxy.gateway.channel import Channel
from proxy.gateway.letgo import let_go
from proxy.gateway.onlane import OnLane, token_of
from proxy.gateway.paced import PIECE, paced
from proxy.gateway.pieces import Parts, event, size_of
from proxy.gateway.resume import History
from proxy.model import Caller, Params
from proxy.wire import envelope, sse

log = structlog.get_logger(__name__)

Header = tuple[bytes, bytes]

JSON_TYPE: Final[Header] = (b"content-type", b"application/json")
_JSON_LINE: Final = b"content-type: application/json\r\n"
STREAM: Final[tuple[Header, ...]] = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
)

_AT_ONCE: Final = 1 << 20
"""Bytes of an answer that are written at once, if it is complete when it begins."""

CANCELLED: Final = -32800
"""The code by which a cancelled handshake request ends: an HTTP response of that era cannot end without an answer."""

Keep = Callable[[Any, object], History | None]
"""Where what is streamed for a session in answer to a request is kept, if anybody can come back for it."""


class Bears(NamedTuple):
    """The headers that all responses of somebody have in common, and what that makes of those of a complete answer."""

    headers: tuple[Header, ...]
    lines: bytes

    @classmethod
    def of(cls, *headers: Header) -> "Bears":
        """These headers."""
        return cls(headers, _JSON_LINE + b"".join([b"%b: %b\r\n" % header for header in headers]))


BARE: Final = Bears((), _JSON_LINE)


class Lane(OnLane):
    """Writes one response, and is the back channel of the call behind it.

    Args:
        channel: of the request.
        caller: who asked.
        params: of the request.
        bears: what every response bears.
    """

    # No slots: what is the same for nearly every response stands here and is not set for each.
    at: float
    """When it rings (``expiry.Alarm``)."""
    number: object = None
    """The id of the request, where the downstream may come back for the answer."""
    keep: Keep | None = None
    _history: History | None = None
    _streaming = False
    _finished = False
    _opening: asyncio.Task[None] | None = None
    _pending: asyncio.Lock | None = None

    def __init__(self, channel: Channel, caller: Caller, params: Params, bears: Bears = BARE) -> None:
        self.caller = caller
        self.progress_token = token_of(params)
        self._channel = channel
        self._bears = bears

    async def event(self, frame: bytes | Parts, *, last: bool = False) -> None:
        """Write one message as an event; the first one turns the response into a stream."""
        async with self._writing():
            await self._stream()
            if self._history is not None:
                body = await self._history.event(frame, last=last)
            else:
                body = sse.encode(frame, event="message") if isinstance(frame, bytes) else event(frame)
            if body is not None:
                await self._write(body)

    def ring(self) -> None:
        """Begin a stream now: the answer takes long, and the downstream must be able to come back for it."""
        if self._kept() is not None:
            # Owned by the request: ``finish`` waits for it.
            self._opening = asyncio.get_running_loop().create_task(self._open())

    async def _open(self) -> None:
        async with self._writing():
            if not self._finished:
                await self._stream()

    def _kept(self) -> History | None:
        return None if self.keep is None else self.keep(self.session, self.number)

    def _writing(self) -> asyncio.Lock:
        if self._pending is None:
            self._pending = asyncio.Lock()
        return self._pending

    async def _stream(self) -> None:
        if self._streaming:
            return
        self._streaming = True
        self._history = history = self._kept()
        start = {"type": "http.response.start", "status": 200, "headers": [*STREAM, *self._bears.headers]}
        await self._channel.send(start)
        if history is not None:
            await self._write(history.opening())

    async def _write(self, body: bytes | Iterable[bytes]) -> None:
        """Write a part of the response; a large one in pieces. In between others run, and the client reads."""
        if isinstance(body, bytes) and len(body) <= PIECE:
            await self._part(body)
            return
        await paced(body, self.upstream, self._part)

    async def _part(self, body: bytes) -> None:
        await self._channel.send({"type": "http.response.body", "body": body, "more_body": True})

    async def finish(self, frame: bytes | Parts, status: int = 200) -> None:
        """Write the answer and end the response."""
        if self.finish_at_once(frame, status):
            return
        if self._opening is not None:
            await self._opening
        if self._streaming:
            await self.event(frame, last=True)
        else:
            await self._in_one(frame, status)
        await self._channel.send({"type": "http.response.body", "body": b"", "more_body": False})
        if not isinstance(frame, bytes):
            let_go(frame)

    async def _in_one(self, frame: bytes | Parts, status: int) -> None:
        size = len(frame) if isinstance(frame, bytes) else size_of(frame)
        headers = [JSON_TYPE, (b"content-length", b"%d" % size), *self._bears.headers]
        await self._channel.send({"type": "http.response.start", "status": status, "headers": headers})
        await self._write(frame)

    def finish_at_once(self, frame: bytes | Parts, status: int = 200) -> bool:
        """The same without waiting, where the server can do that and nothing has been said before; False if not."""
        self._finished = True
        self.asking = None
        if self._opening is not None or self._streaming:
            return False
        if not isinstance(frame, bytes):
            if size_of(frame) > _AT_ONCE:
                return False
            frame = b"".join(frame)
        return len(frame) <= _AT_ONCE and self._channel.whole(status, self._bears.lines, frame)

    def abandon(self, key: str) -> None:
        """Nothing to do: the stream on which it was put ends with the request."""

    async def give_up(self, number: str | float | None) -> None:
        """End the response to a request that the downstream has cancelled, as the SDK does, if it has not ended yet."""
        if not self._finished:
            await self.finish(envelope.error(number, CANCELLED, "Request cancelled"))
