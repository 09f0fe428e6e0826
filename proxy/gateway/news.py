"""The stream on which a resting session hears news: a GET that the express lane answers by itself.

It looks as the SDK's does: events with ids, and a comment now and then which shows that the line is alive. When its
session is woken the stream goes over to the SDK, in the middle and unseen by the client.
"""

import asyncio
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from proxy.gateway import seams
from proxy.gateway.intake import again
from proxy.gateway.lane import STREAM, Header
from proxy.model import Params
from proxy.service.expiry import Lane
from proxy.wire import envelope, sse

GET_STREAM: Final = "_GET_stream"
"""How the SDK calls the stream in which a session hears what belongs to no request."""
PING_AFTER: Final = 15.0
"""Seconds between two comments."""

OK: Final = 200

_PING: Final = b": ping\n\n"


class News:
    """One such stream; lives in the task of its request.

    Args:
        send: the ASGI channel.
        store: where events are kept for a client that comes back.
        pings: says when a comment is due.
    """

    __slots__ = ("_begun", "_ended", "_lock", "_pinging", "_pings", "_send", "_store", "_task", "at", "handed")

    def __init__(self, send: Send, store: Any, pings: Lane) -> None:
        self.at = 0.0
        self._send = send
        self._store = store
        self._pings = pings
        self._task: asyncio.Task[Any] | None = asyncio.current_task()
        self._lock = asyncio.Lock()
        self._pinging: asyncio.Task[None] | None = None
        self._begun = False
        self._ended = False
        self.handed = False
        """Whether it goes on at the SDK."""

    async def serve(self, headers: tuple[Header, ...], receive: Receive, missed: tuple[str, ...] = ()) -> None:
        """Be open until the client goes, somebody ends it, or it is handed over.

        Args:
            headers: of the response.
            receive: the ASGI channel.
            missed: notifications that the client would have heard had it listened before.
        """
        try:
            await self._begin(headers)
            for method in missed:
                await self.notify(method, None)
            while (await receive())["type"] != "http.disconnect":
                pass
        except asyncio.CancelledError:
            # ``end`` and ``hand_over`` cancel, and so may others; then it is over whatever we think.
            if not (self._ended or self.handed) or self._task is None or self._task.uncancel():
                raise
        finally:
            self._pings.stop(self)
            if self._pinging is not None:
                self._pinging.cancel()
            self._task = None
        if self._ended and not self.handed:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _begin(self, headers: tuple[Header, ...]) -> None:
        async with self._lock:
            self._begun = True
            await self._send({"type": "http.response.start", "status": 200, "headers": [*STREAM, *headers]})
            await self._send({"type": "http.response.body", "body": b"", "more_body": True})
        self._pings.start(self)

    async def notify(self, method: str, params: Params | None) -> None:
        """Tell the client something."""
        frame = envelope.notification(method, params)
        number = None
        if self._store is not None:
            events, stream = seams.event_log(self._store, GET_STREAM)
            number = events.keep(stream, frame)
        await self._write(sse.encode(frame, event="message", id=number))

    def end(self) -> None:
        """Its session is over."""
        self._ended = True
        self._stop()

    def hand_over(self) -> None:
        """The SDK has its session."""
        self.handed = True
        self._stop()

    def ring(self) -> None:
        """A comment is due."""
        # Owned by the stream: ``serve`` cancels it in its finally.
        self._pinging = asyncio.get_running_loop().create_task(self._write(_PING))
        self._pings.start(self)

    def _stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    async def rest(self, message: Message) -> None:
        """Send what somebody else has to say on the stream, without beginning it twice.

        Raises:
            Refused: it is no stream.
        """
        if message["type"] == "http.response.start" and self._begun:
            if message["status"] != OK:
                raise Refused
            return
        await self._send(message)

    async def _write(self, body: bytes) -> None:
        async with self._lock:
            if self._task is not None:
                await self._send({"type": "http.response.body", "body": body, "more_body": True})


async def go_on(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Let an app serve a request of which the body was read, and the response may have begun (``News.rest``)."""
    try:
        await app(scope, again(b"", receive), send)
    except Refused:
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class Refused(Exception):
    """The app would not serve it, and that cannot be said any more."""
