"""Taking leave: when the server stops, streams that would never end are told that their client went, and end.

Without it an open GET stream, which nearly every client has, holds the stop up until it is cut.
"""

import asyncio
from typing import Any, Final

from starlette.types import ASGIApp, Message, Receive, Scope, Send

_GOODBYE: Final[Message] = {"type": "http.disconnect"}


class Parting:
    """An ASGI app whose open requests can be asked to end.

    Calls are not cut by it: whoever stops the server drains them first.

    Args:
        app: serves the requests.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._waiting: set[asyncio.Task[Any]] = set()
        self._begun = asyncio.Event()
        self.direct = getattr(app, "direct", None)
        """The way past ASGI. It has no streams of its own."""

    def begin(self) -> None:
        """The server stops."""
        self._begun.set()
        for task in self._waiting:
            task.cancel()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        guest = _Guest(self, receive, send)
        await self._app(scope, guest.receive, guest.send)
        await guest.leave()

    async def wait(self, receive: Receive) -> Message:
        """What a client does next, or that it is to go. No task of its own: there are as many of these as clients."""
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - an ASGI app runs in a task
        if self._begun.is_set():
            return _GOODBYE
        self._waiting.add(task)
        try:
            return await receive()
        except asyncio.CancelledError:
            if not self._begun.is_set() or task.uncancel():
                raise  # somebody else has cancelled it, too
            return _GOODBYE
        finally:
            self._waiting.discard(task)


class _Guest:
    """The channel of one request."""

    __slots__ = ("_has_all", "_open", "_parting", "_receive", "_send", "_told")

    def __init__(self, parting: Parting, receive: Receive, send: Send) -> None:
        self._parting = parting
        self._receive = receive
        self._send = send
        self._has_all = False
        self._open = False
        self._told = False

    async def receive(self) -> Message:
        if self._has_all:
            message = await self._parting.wait(self._receive)
            self._told = message is _GOODBYE
            return message
        message = await self._receive()  # its body is on the way, and the server waits for that
        self._has_all = not message.get("more_body", False)
        return message

    async def send(self, message: Message) -> None:
        if self._told:  # what it still has to say, it says to nobody, as with any client that has gone
            return
        self._open = message["type"] == "http.response.start" or message.get("more_body", False)
        await self._send(message)

    async def leave(self) -> None:
        """End a response that its app left open because it was told that nobody is there."""
        if self._told and self._open:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
