"""Resuming a broken response stream of the handshake era (spec 2025-11-25, transports: resumability and redelivery).

What was sent to a session is kept for a while, in memory and within bounds; a client whose connection broke asks for
what came after the last event it saw. FastMCP keeps the sessions apart (``SessionScopedEventStore``), and the SDK's
transport answers such requests, also for streams that the express lane writes.
"""

from collections import OrderedDict
from collections.abc import Iterator
from itertools import count
from typing import Any, Final, NamedTuple

from mcp.server.streamable_http import EventCallback, EventId, EventMessage, EventStore, StreamId
from mcp_types import JSONRPCMessage, jsonrpc_message_adapter
from starlette.types import ASGIApp, Receive, Scope, Send

from proxy.gateway import seams
from proxy.model import HANDSHAKE_VERSIONS
from proxy.wire import sse

MAX_EVENTS: Final = 10_000
MAX_BYTES: Final = 16 * 1024 * 1024
"""All that is kept for all sessions together; the oldest goes first."""
RETRY: Final = 1000
"""Milliseconds after which a client whose stream ended is asked to come back."""

SINCE: Final = "2025-11-25"
"""The first revision whose clients understand the empty event that opens a stream (SEP-1699)."""

_VERSION: Final = b"mcp-protocol-version"
_SESSION: Final = b"mcp-session-id"


class _Event(NamedTuple):
    stream: StreamId
    frame: bytes
    """Empty for the event that only opens a stream."""


class Events(EventStore):
    """The last events of all sessions."""

    def __init__(self, max_events: int = MAX_EVENTS, max_bytes: int = MAX_BYTES) -> None:
        self._max_events = max_events
        self._max_bytes = max_bytes
        self._events: OrderedDict[int, _Event] = OrderedDict()
        self._size = 0
        self._numbers = count(1)

    def __len__(self) -> int:
        return len(self._events)

    async def store_event(self, stream_id: StreamId, message: JSONRPCMessage | None) -> EventId:
        """Keep an event; its id."""
        dumped = None if message is None else message.model_dump_json(by_alias=True, exclude_unset=True)
        return self.keep(stream_id, None if dumped is None else dumped.encode())

    def keep(self, stream_id: StreamId, frame: bytes | None) -> EventId:
        """Keep an encoded event; its id. One that is larger than everything that may be kept is not kept."""
        frame = frame or b""
        number = next(self._numbers)
        self._events[number] = _Event(stream_id, frame)
        self._size += len(frame)
        while len(self._events) > self._max_events or self._size > self._max_bytes:
            _, old = self._events.popitem(last=False)
            self._size -= len(old.frame)
        return str(number)

    async def replay_events_after(self, last_event_id: EventId, send_callback: EventCallback) -> StreamId | None:
        """Send what followed an event on its stream; the stream, or None when the event is not known any more."""
        last = int(last_event_id) if last_event_id.isascii() and last_event_id.isdigit() else 0
        if last not in self._events:
            return None
        stream = self._events[last].stream
        for number, frame in tuple(self._after(last, stream)):
            message = jsonrpc_message_adapter.validate_json(frame, by_name=False)
            await send_callback(EventMessage(message, str(number)))
        return stream

    def _after(self, last: int, stream: StreamId) -> Iterator[tuple[int, bytes]]:
        return (
            (number, event.frame)
            for number, event in self._events.items()
            if number > last and event.stream == stream and event.frame
        )


class History:
    """The events of one response stream that the express lane writes.

    Args:
        transport: the session's.
        request: the id of the request that is answered.
    """

    def __init__(self, transport: Any, request: object) -> None:
        self._transport = transport
        self._stream = str(request)
        self._events, self._scoped = seams.event_log(transport, self._stream)

    def opening(self) -> bytes:
        """The first event of the stream: it has an id and nothing else, and says when to come back."""
        return sse.encode(b"", id=self._events.keep(self._scoped, None), retry=RETRY)

    async def event(self, frame: bytes, *, last: bool = False) -> bytes | None:
        """Keep a message; as an event, or None when the downstream has come back for it on another connection."""
        number = self._events.keep(self._scoped, frame)
        stream = seams.resumed(self._transport, self._stream)
        if stream is None:
            return sse.encode(frame, event="message", id=number)
        await stream.send(EventMessage(jsonrpc_message_adapter.validate_json(frame, by_name=False), number))
        if last:
            stream.close()
        return None


def history_of(transport: Any, version: str, request: object) -> History | None:
    """Where the events of a stream are kept; None where nobody could ask for them."""
    known = version >= SINCE and seams.event_log(transport, "")[0] is not None
    return History(transport, request) if known else None


class Negotiated:
    """ASGI middleware: within a session the version that was negotiated counts, whatever the header says or leaves out.

    The SDK goes by the header alone, and by it decides whether a client can resume its streams at all. Headers of the
    modern era are left alone: there they say which era a request is of.

    Args:
        app: what it stands before.
        versions: session id -> negotiated version.
    """

    def __init__(self, app: ASGIApp, versions: dict[str, str]) -> None:
        self.app = app
        self._versions = versions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http":
            said = dict(scope["headers"])
            version = self._versions.get(said.get(_SESSION, b"").decode("latin-1"))
            header = said.get(_VERSION, b"").decode("latin-1")
            if version is not None and header != version and header in ("", *HANDSHAKE_VERSIONS):
                others = [pair for pair in scope["headers"] if pair[0] != _VERSION]
                scope = {**scope, "headers": [*others, (_VERSION, version.encode())]}
        await self.app(scope, receive, send)
