"""A hot request past ASGI: what it is to the app, and to uvicorn if the app leaves it alone."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol, cast

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from proxy.gateway.repeated import Repeated
from proxy.gateway.replying import DECLINED, WHOLE, Way, answer

if TYPE_CHECKING:
    from proxy.gateway.direct import HttpProtocol


_App = Callable[[Scope, Receive, Send], Awaitable[None]]


class Direct(Protocol):
    """An app that takes requests without ASGI. It is the attribute ``direct`` of the ASGI app."""

    largest: int
    """Bytes of a body that it takes."""

    def fit(self, url: bytes, scope: Scope) -> Mapping[bytes, bytes] | None:
        """The headers of a POST that it may take, by name; None if it will not.

        The same for the same head on the same connection, whatever the length of the body up to ``largest``.

        Args:
            url: the target as it came.
            scope: of the request.
        """
        ...

    async def serve(self, taken: "Taken") -> bool:
        """Serve one completely, or say that it was not touched."""
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
    missing = 0
    """Bytes of the body that are still to come."""
    length = 0
    declined = False
    """Whether the express lane has looked at it and will not serve it."""
    head: Repeated | None = None
    """A head that was had before: then ``scope`` is that of all its requests."""

    def __init__(self, protocol: "HttpProtocol", scope: Any, headers: Mapping[bytes, bytes]) -> None:
        # Not uvicorn's, which sets each of the above for each request; test_direct.py compares them.
        self.scope = scope
        self.transport = protocol.transport
        self.flow = protocol.flow
        self.on_response = protocol.on_response_complete
        self.app = protocol.app
        self.direct = protocol.direct
        self.known = headers
        """The headers by name."""
        self.body = bytearray()
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

    async def run(self) -> None:
        """Serve it: directly, or else as any other one."""
        assert self.direct is not None  # noqa: S101 - otherwise nothing is taken
        try:
            if await self.direct.serve(self) and (self.response_complete or self.disconnected):
                self.on_response = _nothing
                return
            rest: _App = self._leave
        except BaseException as error:  # noqa: BLE001 - uvicorn answers and logs it
            rest = _raising(error)
        await self.run_asgi(cast("Any", rest))

    async def _leave(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Have the app serve it, if it was not touched."""
        if self.response_started:
            return
        self.restore()
        scope = cast("Any", self.scope)
        scope[WHOLE] = Way(self)
        if self.declined:
            scope[DECLINED] = True
        await self.app(scope, cast("Any", receive), cast("Any", send))

    def restore(self) -> None:
        """Give it a scope of its own, which an app may change."""
        if self.head is not None:
            self.scope = cast("Any", self.head.restored(self.length))


def _raising(error: BaseException) -> _App:
    async def fail(_scope: Scope, _receive: Receive, _send: Send) -> None:
        raise error

    return fail


def _nothing() -> None:
    """Nobody waits for the end of a response."""
