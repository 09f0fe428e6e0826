"""One request on the express lane: its answer as JSON, or as an event stream from the moment something else is said.

The response is JSON as long as the upstream only answers. When it reports progress, logs, or asks something, the
response turns into an event stream on the spot (spec, streamable HTTP: the server chooses).
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import anyio.lowlevel
import structlog
from starlette.types import Send

from proxy.agents import rewrite
from proxy.agents.view import View
from proxy.bridge.questions import check_permitted
from proxy.errors import METHOD_NOT_FOUND, Rejected
from proxy.gateway.backchannel import LOG, wants_log
from proxy.gateway.pieces import Parts, event, gathered, size_of
from proxy.gateway.replying import Whole
from proxy.gateway.resume import History
from proxy.model import Caller, Era, Json, Params
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

_PIECE: Final = 1 << 18
"""Bytes that are written at once."""
_AT_ONCE: Final = 1 << 20
"""The same of an answer that is complete when it begins."""

CANCELLED: Final = -32800
"""The code by which a cancelled handshake request ends: an HTTP response of that era cannot end without an answer."""

Questions = dict[str, "asyncio.Future[envelope.Message]"]
"""What a session was asked and has not answered yet."""
Keep = Callable[[Any, object], History]
Ask = Callable[["Lane", Questions, str, Params | None], Awaitable[Json]]


class Lane:
    """Writes one response, and is the back channel of the call behind it.

    Args:
        send: the ASGI channel.
        caller: who asked.
        headers: what every response bears (the session id).
        params: of the request.
    """

    # No slots: what is the same for nearly every response stands here and is not set for each.
    at: float
    """When it rings (``expiry.Alarm``)."""
    asking: tuple[Ask, Questions] | None = None
    """How a question gets its answer, and where it is waited for; None where the downstream cannot be asked."""
    resumed: tuple[Keep, Any, object] | None = None
    """Whom to ask for a history, the session and the id of the request, where the downstream may come back."""
    history: History | None = None
    """Keeps what is streamed then."""
    lines: bytes | None = None
    """The headers of a complete answer, if they are known."""
    view: View | None = None
    upstream = ""
    whole: Whole | None = None
    """Sends a complete answer at once, where the server can."""
    _streaming = False
    _finished = False
    _opening: asyncio.Task[None] | None = None
    _pending: asyncio.Lock | None = None
    _token: str | int | None = None

    def __init__(self, send: Send, caller: Caller, headers: tuple[Header, ...], params: Params) -> None:
        self._send = send
        self._caller = caller
        self._headers = headers
        meta = params.get("_meta")
        token = meta.get("progressToken") if isinstance(meta, dict) else None
        if token is not None and isinstance(token, str | int) and not isinstance(token, bool):
            self._token = token

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
        asking, questions = self.asking
        return await asking(self, questions, method, self._mapped(method, params))

    async def event(self, frame: bytes | Parts, *, last: bool = False) -> None:
        """Write one message as an event; the first one turns the response into a stream."""
        async with self._writing():
            await self._stream()
            if self.history is not None:
                body = await self.history.event(frame, last=last)
            else:
                body = sse.encode(frame, event="message") if isinstance(frame, bytes) else event(frame)
            if body is not None:
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
        if self.resumed is not None:
            keep, session, number = self.resumed
            self.history = keep(session, number)
        await self._send({"type": "http.response.start", "status": 200, "headers": [*STREAM, *self._headers]})
        if self.history is not None:
            await self._write(self.history.opening())

    async def _write(self, body: bytes | Parts) -> None:
        """Write a part of the response; a large one in pieces. In between others run, and the client reads."""
        if isinstance(body, bytes) and len(body) <= _PIECE:
            await self._send({"type": "http.response.body", "body": body, "more_body": True})
            return
        for piece in gathered(body, _PIECE):
            await self._send({"type": "http.response.body", "body": piece, "more_body": True})
            await anyio.lowlevel.checkpoint()

    async def finish(self, frame: bytes | Parts, status: int = 200) -> None:
        """Write the answer and end the response."""
        self._finished = True
        self.asking = None
        if self._opening is not None:
            await self._opening
        if self._streaming:
            await self.event(frame, last=True)
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
            return
        size = len(frame) if isinstance(frame, bytes) else size_of(frame)
        if self.whole is not None and size <= _AT_ONCE:
            whole = frame if isinstance(frame, bytes) else b"".join(frame)
            if self.whole(status, self.lines or lines_of(self._headers), whole):
                return
        headers = [JSON_TYPE, (b"content-length", b"%d" % size), *self._headers]
        await self._send({"type": "http.response.start", "status": status, "headers": headers})
        await self._write(frame)
        await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def give_up(self, number: str | float | None) -> None:
        """End the response to a request that the downstream has cancelled, as the SDK does, if it has not ended yet."""
        if not self._finished:
            await self.finish(envelope.error(number, CANCELLED, "Request cancelled"))

    def _mapped(self, method: str, params: Params | None) -> Params | None:
        return params if self.view is None else rewrite.incoming(self.view, self.upstream, method, params)


def lines_of(headers: tuple[Header, ...]) -> bytes:
    """The header lines of a complete answer that bears these."""
    return _JSON_LINE + b"".join([b"%b: %b\r\n" % header for header in headers]) if headers else _JSON_LINE
