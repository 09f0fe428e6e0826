"""How one HTTP request is heard and answered, whatever serves the connection."""

import asyncio
from collections.abc import Awaitable
from typing import Any, Protocol

from starlette.types import Message, Receive, Scope, Send

from proxy.gateway.replying import way_of


class Channel(Protocol):
    """The channel of one request."""

    @property
    def task(self) -> "asyncio.Task[Any] | None":
        """The task that serves it; by cancelling that it is given up."""
        ...

    def receive(self) -> Awaitable[Message]:
        """The next ASGI message."""
        ...

    def send(self, message: Message, /) -> Awaitable[None]:
        """Send an ASGI message."""
        ...

    def whole(self, status: int, head: bytes, body: bytes) -> bool:
        """Send a complete answer at once; see ``replying.Whole``."""
        ...


class Asgi:
    """The channel of a request that came by ASGI. Made in the task that serves it."""

    __slots__ = ("_way", "receive", "send", "task")

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.receive = receive
        self.send = send
        self.task = asyncio.current_task()
        self._way = way_of(scope)

    def whole(self, status: int, head: bytes, body: bytes) -> bool:
        """Send a complete answer at once, where the server can."""
        return self._way is not None and self._way(status, head, body)
