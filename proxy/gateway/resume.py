"""Resuming a broken response stream of the handshake era (spec 2025-11-25, transports: resumability and redelivery).

What was sent to a session is kept for a while, in memory and within bounds; a client whose connection broke asks for
what came after the last event it saw. FastMCP keeps the sessions apart (``SessionScopedEventStore``), and the SDK's
transport answers such requests, also for streams that the express lane writes.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from itertools import count
from typing import Any, Final, NamedTuple

from mcp.server.streamable_http import EventCallback, EventId, EventMessage, EventStore, StreamId
from mcp_types import JSONRPCMessage, jsonrpc_message_adapter
from starlette.types import ASGIApp, Receive, Scope, Send

from proxy.gateway import seams
from proxy.gateway.pieces import Parts, event, size_of
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
    frame: bytes | Parts
    """Empty for the event that only opens a stream."""
    size: int


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

    def keep(self, stream_id: StreamId, frame: bytes | Parts | None) -> EventId:
        """Keep an encoded event; its id. One that is larger than everything that may be kept is not kept."""
        frame = frame or b""
        number = next(self._numbers)
        kept = _Event(stream_id, frame, len(frame) if isinstance(frame, bytes) else size_of(frame))
        if kept.size > self._max_bytes:
            self._forget(stream_id)
            return str(number)
        self._events[number] = kept
        self._size += kept.size
        while len(self._events) > self._max_events or self._size > self._max_bytes:
            _, old = self._events.popitem(last=False)
            self._size -= old.size
        return str(number)

    def _forget(self, stream_id: StreamId) -> None:
        """Forget a stream of which an event is missing: whoever comes back for it must not wait for that."""
        for number in [number for number, kept in self._events.items() if kept.stream == stream_id]:
            self._size -= self._events.pop(number).size

    async def replay_events_after(self, last_event_id: EventId, send_callback: EventCallback) -> StreamId | None:
        """Send what followed an event on its stream; the stream, or None when the event is not known any more."""
        last = int(last_event_id) if last_event_id.isascii() and last_event_id.isdigit() else 0
        if last not in self._events:
            return None
        stream = self._events[last].stream
        while behind := tuple(self._after(last, stream)):  # more may come while these are sent
            for number, frame in behind:
                await send_callback(EventMessage(_parsed(frame), str(number)))
                last = number
        return stream

    def _after(self, last: int, stream: StreamId) -> Iterator[tuple[int, bytes | Parts]]:
        return (
            (number, event.frame)
            for number, event in self._events.items()
            if number > last and event.stream == stream and event.frame
        )


class History:
    """The events of one response stream that the express lane writes.

    Args:
        store: where the session's events are kept.
        transport: the session's in the SDK, if it has one by now.
        request: the id of the request that is answered.
    """

    def __init__(self, store: EventStore | None, transport: Callable[[], Any], request: object) -> None:
        self._transport = transport
        self._stream = str(request)
        self._events, self._scoped = seams.event_log(store, self._stream)

    def opening(self) -> bytes:
        """The first event of the stream: it has an id and nothing else, and says when to come back."""
        return sse.encode(b"", id=self._events.keep(self._scoped, None), retry=RETRY)

    async def event(self, frame: bytes | Parts, *, last: bool = False) -> bytes | Iterable[bytes] | None:
        """Keep a message; as an event, or None when the downstream has come back for it on another connection."""
        number = self._events.keep(self._scoped, frame)
        transport = self._transport()
        stream = None if transport is None else seams.resumed(transport, self._stream)
        if stream is None:
            return sse.encode(frame, event="message", id=number) if isinstance(frame, bytes) else event(frame, number)
        await stream.send(EventMessage(_parsed(frame), number))
        if last:
            stream.close()
        return None


def _parsed(frame: bytes | Parts) -> JSONRPCMessage:
    text = frame if isinstance(frame, bytes) else b"".join(frame)
    return jsonrpc_message_adapter.validate_json(text, by_name=False)


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
