"""One request on the express lane: its answer as JSON, or as an event stream from the moment something else is said.

The response is JSON as long as the upstream only answers. When it reports progress, logs, or asks something, the
response turns into an event stream on the spot (spec, streamable HTTP: the server chooses).
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import anyio.lowlevel
import structlog
from starlette.types import Send

from proxy.agents import rewrite
from proxy.agents.view import View
from proxy.bridge.questions import check_permitted
from proxy.errors import METHOD_NOT_FOUND, Rejected
from proxy.gateway.backchannel import LOG, wants_log
from proxy.gateway.replying import Whole
from proxy.gateway.resume import History
from proxy.model import Caller, Era, Json, Params
from proxy.wire import envelope, sse

log = structlog.get_logger(__name__)

Header = tuple[bytes, bytes]

JSON_TYPE: Final[Header] = (b"content-type", b"application/json")
_JSON_LINE: Final = b"content-type: application/json\r\n"
_STREAM: Final[tuple[Header, ...]] = (
    (b"content-type", b"text/event-stream"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
)

_PIECE: Final = 1 << 18
"""Bytes that are written at once."""

CANCELLED: Final = -32800
"""The code by which a cancelled handshake request ends: an HTTP response of that era cannot end without an answer."""

Ask = Callable[[str, Params | None], Awaitable[Json]]


class Lane:
    """Writes one response, and is the back channel of the call behind it.

    Args:
        send: the ASGI channel.
        caller: who asked.
        headers: what every response bears (the session id).
        params: of the request.
    """

    __slots__ = (
        "_caller",
        "_finished",
        "_headers",
        "_opening",
        "_pending",
        "_send",
        "_streaming",
        "_token",
        "asking",
        "at",
        "history",
        "upstream",
        "view",
        "whole",
    )

    at: float
    """When it rings (``expiry.Alarm``)."""

    def __init__(self, send: Send, caller: Caller, headers: tuple[Header, ...], params: Params) -> None:
        self._send = send
        self._caller = caller
        self._headers = headers
        self._streaming = False
        self._finished = False
        self._opening: asyncio.Task[None] | None = None
        self._pending: asyncio.Lock | None = None
        meta = params.get("_meta")
        token = meta.get("progressToken") if isinstance(meta, dict) else None
        self._token: str | int | None = token if isinstance(token, str | int) and not isinstance(token, bool) else None
        self.asking: Ask | None = None
        """How a question gets its answer; None where the downstream cannot be asked."""
        self.history: History | None = None
        """Keeps what is streamed, where the downstream may come back for it."""
        self.view: View | None = None
        self.upstream = ""
        self.whole: Whole | None = None
        """Sends a complete answer at once, where the server can."""

    @property
    def progress_token(self) -> str | int | None:
        """The token under which the downstream expects progress."""
        return self._token

    async def notify(self, method: str, params: Params | None) -> None:
        """Put a notification on the stream."""
        if method != LOG or wants_log(self._caller, params):
            await self.event(envelope.notification(method, self._mapped(method, params)))

    async def ask(self, method: str, params: Params | None) -> Json:
        """Put a question on the stream, and wait for the answer, which comes in a request of its own.

        Raises:
            Rejected: the downstream answered with an error, or this era has no questions.
        """
        if self.asking is None or self._caller.era is Era.MODERN:
            raise Rejected(METHOD_NOT_FOUND, f"{method}: the client cannot be asked on this connection")
        check_permitted(method, params, self._caller.capabilities)
        return await self.asking(method, self._mapped(method, params))

    async def event(self, frame: bytes, *, last: bool = False) -> None:
        """Write one message as an event; the first one turns the response into a stream."""
        async with self._writing():
            await self._stream()
            if self.history is None:
                await self._write(sse.encode(frame, event="message"))
            elif (body := await self.history.event(frame, last=last)) is not None:
                await self._write(body)

    def ring(self) -> None:
        """Begin a stream now: the answer takes long, and the downstream must be able to come back for it."""
        # Owned by the request: ``finish`` waits for it.
        self._opening = asyncio.get_running_loop().create_task(self._open())

    async def _open(self) -> None:
        async with self._writing():
            if not self._finished:
                await self._stream()

    def _writing(self) -> asyncio.Lock:
        if self._pending is None:
            self._pending = asyncio.Lock()
        return self._pending

    async def _stream(self) -> None:
        if self._streaming:
            return
        self._streaming = True
        await self._send({"type": "http.response.start", "status": 200, "headers": [*_STREAM, *self._headers]})
        if self.history is not None:
            await self._write(self.history.opening())

    async def _write(self, body: bytes) -> None:
        if len(body) > _PIECE:
            body = await self._write_pieces(body)
        await self._send({"type": "http.response.body", "body": body, "more_body": True})

    async def _write_pieces(self, body: bytes) -> bytes:
        """Write a large body but for its last piece, which is returned. In between others run, and the client reads."""
        last = (len(body) - 1) // _PIECE * _PIECE
        for start in range(0, last, _PIECE):
            piece = body[start : start + _PIECE]
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})
            await anyio.lowlevel.checkpoint()
        return body[last:]

    async def finish(self, frame: bytes, status: int = 200) -> None:
        """Write the answer and end the response."""
        self._finished = True
        self.asking = None  # it knows us: a cycle, which only the garbage collector would find
        if self._opening is not None:
            await self._opening
        if self._streaming:
            await self.event(frame, last=True)
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        if self.whole is not None and self.whole(status, self._lines(), frame):
            return
        length = (b"content-length", str(len(frame)).encode())
        headers = [JSON_TYPE, length, *self._headers]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        if len(frame) > _PIECE:
            frame = await self._write_pieces(frame)
        await self._send({"type": "http.response.body", "body": frame, "more_body": False})

    def _lines(self) -> bytes:
        if not self._headers:
            return _JSON_LINE
        return _JSON_LINE + b"".join([b"%b: %b\r\n" % header for header in self._headers])

    async def give_up(self, number: str | float | None) -> None:
        """End the response to a request that the downstream has cancelled, as the SDK does, if it has not ended yet."""
        if not self._finished:
            await self.finish(envelope.error(number, CANCELLED, "Request cancelled"))

    def _mapped(self, method: str, params: Params | None) -> Params | None:
        return params if self.view is None else rewrite.incoming(self.view, self.upstream, method, params)
