"""A hot request past ASGI: what it is to the app, and to uvicorn if the app leaves it alone."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, Protocol, cast

from starlette.types import Scope
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from proxy.gateway.known import Known
from proxy.gateway.repeated import Repeated
from proxy.gateway.replying import DECLINED, WHOLE, Way, answer

if TYPE_CHECKING:
    from proxy.gateway.direct import HttpProtocol


class Direct(Protocol):
    """An app that takes requests without ASGI. It is the attribute ``direct`` of the ASGI app."""

    largest: int
    """Bytes of a body that it takes."""

    def fit(self, url: bytes, scope: Scope) -> Known | None:
        """What the head says of a POST that it may take; None if it will not.

        The same for the same head on the same connection, whatever the length of the body up to ``largest``.

        Args:
            url: the target as it came.
            scope: of the request.
        """
        ...

    def begin(self, taken: "Taken") -> Coroutine[Any, Any, None] | None:
        """What serves one completely, in the task of this call; or None: it was not touched."""
        ...

    def closed(self) -> None:
        """What was begun is over."""
        ...


class Taken(RequestResponseCycle):
    """A request and its response: uvicorn's own, with the dear parts made when they are needed."""

    logger = logging.getLogger("uvicorn.error")
    access_logger = logging.getLogger("uvicorn.access")
    access_log = False
    default_headers: list[tuple[bytes, bytes]] = []  # noqa: RUF012 - uvicorn's type; it adds to a copy
    disconnected = False
    waiting_for_100_continue = False
    more_body = True
    response_started = False
    response_complete = False
    chunked_encoding = None
    expected_content_length = 0
    keep_alive = True

    task: "asyncio.Task[None] | None" = None
    """In which it is served."""
    body: bytes | bytearray  # type: ignore[assignment]
    missing = 0
    """Bytes of the body that are still to come."""
    length = 0
    declined = False
    """Whether the express lane has looked at it and will not serve it."""
    head: Repeated | None = None
    """A head that was had before: then ``scope`` is that of all its requests."""

    def __init__(self, protocol: "HttpProtocol", scope: Any, known: Known, body: bytes | bytearray) -> None:
        # Not uvicorn's, which sets each of the above for each request; test_direct.py compares them.
        self.scope = scope
        self.transport = protocol.transport
        self.flow = protocol.flow
        self.on_response = protocol.on_response_complete
        self.known = known
        """What its head says."""
        self.body = body
        self._event: asyncio.Event | None = None

    @property
    def message_event(self) -> asyncio.Event:  # type: ignore[override]
        """Set when there is something to receive."""
        if self._event is None:
            self._event = asyncio.Event()
            if self.body or not self.more_body or self.disconnected or self.response_complete:
                self._event.set()
        return self._event

    def whole(self, status: int, head: bytes, body: bytes) -> bool:
        """Send status, header lines and body at once; see ``replying.Whole``."""
        if not answer(self, status, head, body):
            return False
        if self._event is not None:
            self._event.set()
        return True

    def restore(self) -> None:
        """Give it a scope of its own, which an app may change."""
        if self.head is not None:
            self.scope = cast("Any", self.head.restored(self.length))

    async def leave(self, app: Any) -> None:
        """Have the app serve it as any other one, if it was not touched."""

        async def untouched(scope: Any, receive: Any, send: Any) -> None:
            if not self.response_started:
                await app(scope, receive, send)

        self.restore()
        scope = cast("Any", self.scope)
        scope[WHOLE] = Way(self)
        if self.declined:
            scope[DECLINED] = True
        await self.run_asgi(untouched)

    async def fail(self, error: BaseException) -> None:
        """Have uvicorn answer and log an error."""

        async def failing(_scope: Any, _receive: Any, _send: Any) -> None:
            raise error

        await self.run_asgi(failing)

    def end(self) -> None:
        """It was served. Nobody waits for the end of the response any more."""
        self.on_response = _nothing


def _nothing() -> None:
    """Nobody waits."""
