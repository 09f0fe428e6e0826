"""uvicorn's HTTP protocol, which serves hot requests directly: without most of what it makes for each request.

A request that came in one piece, as nearly all do, and whose head the app is ready to take (``Direct.fit``), is started
when its body is there and not when its head is. So it needs no event to wait for its body, and no ASGI messages: the
app gets it as it is. If the app leaves it alone, uvicorn serves it as any other one, from the very same state. Whatever
else comes is uvicorn's from the beginning.
"""

import asyncio
import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, Protocol, cast

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from proxy.gateway.heads import BoundedHeads
from proxy.gateway.replying import WHOLE, Way, answer

if TYPE_CHECKING:
    from uvicorn._types import ASGI3Application


class Direct(Protocol):
    """An app that takes requests without ASGI. It is the attribute ``direct`` of the ASGI app."""

    def fit(self, url: bytes, scope: Scope) -> Mapping[bytes, bytes] | None:
        """The headers of a POST that it may take, by name; None if it will not.

        Args:
            url: the target as it came.
            scope: of the request.
        """
        ...

    async def serve(self, taken: "Taken") -> bool:
        """Serve one completely, or say that it was not touched."""
        ...


class Taken(RequestResponseCycle):
    """A request that came in one piece, and its response: uvicorn's own, with the dear parts made when they are needed.

    It serves itself as an ASGI app: directly, and by ``app`` if that fails.
    """

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

    def __init__(self, protocol: "HttpProtocol", headers: Mapping[bytes, bytes]) -> None:
        # Not uvicorn's, which sets each of the above for each request; test_direct.py compares them.
        self.scope = protocol.scope
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

    async def __call__(self, scope: Any, receive: Receive, send: Send) -> None:
        """Serve it."""
        assert self.direct is not None  # noqa: S101 - otherwise nothing is taken
        if not await self.direct.serve(self):
            scope[WHOLE] = Way(self)
            await self.app(scope, cast("Any", receive), cast("Any", send))


class HttpProtocol(BoundedHeads):
    """uvicorn's HTTP protocol, with the way past in the scope of each request, and hot ones served directly."""

    direct: Direct | None = None
    _held: Taken | None = None
    _idle_since: float | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Somebody connected."""
        super().connection_made(transport)
        plain = not self.access_log and not self.root_path and self.limit_concurrency is None
        self.direct = getattr(self.app, "direct", None) if plain else None

    def connection_lost(self, exc: Exception | None) -> None:
        """The connection is gone."""
        super().connection_lost(exc)
        super()._unset_keepalive_if_required()

    def data_received(self, data: bytes) -> None:
        """Feed the parser. What is not complete then is no matter for haste."""
        super().data_received(data)
        if self._held is not None:
            held, self._held = self._held, None
            self._start_asgi_task(held, self.app)

    def on_headers_complete(self) -> None:
        """A head is complete: perhaps one of a hot request."""
        taken = None if self.direct is None else self._taken(self.direct)
        if taken is None:
            super().on_headers_complete()
            return
        self._head_came()
        self.headers = []
        self.cycle = self._held = taken

    def _taken(self, direct: Direct) -> Taken | None:
        last, parser = self.cycle, self.parser
        if self.expect_100_continue or self.server_state.default_headers or parser.get_method() != b"POST":
            return None
        if self.pipeline or not (last is None or last.response_complete):
            return None
        scope = self.scope
        scope["method"] = "POST"
        headers = direct.fit(self.url, scope)  # type: ignore[arg-type]
        if headers is None or parser.get_http_version() != "1.1" or parser.should_upgrade():
            return None
        scope["path"] = self.url.decode("ascii")
        scope["raw_path"] = self.url
        scope["query_string"] = b""
        taken = Taken(self, headers)
        if not parser.should_keep_alive():
            taken.keep_alive = False
        return taken

    def on_body(self, body: bytes) -> None:
        """A part of the body came."""
        if self._held is None:
            super().on_body(body)
        else:
            self._body_came()
            self._held.body += body

    def on_message_complete(self) -> None:
        """All of it came."""
        if self._held is None:
            super().on_message_complete()
        else:
            held, self._held = self._held, None
            held.more_body = False
            super()._start_asgi_task(held, cast("ASGI3Application", held))

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: "ASGI3Application | Any") -> None:
        if not cycle.default_headers:
            cycle.scope[WHOLE] = Way(cycle)  # type: ignore[typeddict-unknown-key]
        super()._start_asgi_task(cycle, app)

    # -- keep-alive: one timer that lives on; uvicorn arms and cancels one for each request ----------------------------

    def on_response_complete(self) -> None:
        """A response went out; another request may be waiting."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)
            return
        self._idle_since = self.loop.time()
        if self.timeout_keep_alive_task is None:
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def _unset_keepalive_if_required(self) -> None:
        self._idle_since = None

    def timeout_keep_alive_handler(self) -> None:
        """Close the connection if nobody has used it for so long; otherwise look again when that may be."""
        self.timeout_keep_alive_task = None
        if self._idle_since is None:
            return
        left = self._idle_since + self.timeout_keep_alive - self.loop.time()
        if left > _ROUNDED:
            self.timeout_keep_alive_task = self.loop.call_later(left, self.timeout_keep_alive_handler)
        else:
            super().timeout_keep_alive_handler()


_ROUNDED: Final = 0.002
"""Seconds by which a timer may ring early: uvloop rounds to milliseconds."""
