"""JSON-RPC batches, which exist in exactly one revision (spec 2025-03-26, basic: batching; taken out in 2025-06-18).

A batch is taken apart at the door and each of its messages is served as if it had come alone; the answers are put
together again. Everywhere else Manifold knows single messages only.
"""

from collections.abc import Mapping, MutableMapping
from typing import Any, Final

import anyio
import msgspec
from mcp_types import JSONRPCError, JSONRPCMessage, JSONRPCResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from proxy.errors import INVALID_REQUEST
from proxy.gateway.intake import SESSION, again, body_of
from proxy.gateway.replying import DECLINED, WHOLE
from proxy.wire import envelope, sse

REVISION: Final = "2025-03-26"
MAX_BATCH: Final = 100
"""Messages in one batch."""

_JSON: Final = (b"content-type", b"application/json")
_STREAM: Final = (b"content-type", b"text/event-stream")
_INITIALIZE: Final = b'"initialize"'
_TOO_LONG: Final = f"a batch may hold at most {MAX_BATCH} messages"


class Batches:
    """ASGI middleware: takes batches apart for the app behind it.

    The response is an array, unless one of the messages is answered by a stream: then it is a stream of everything.

    Args:
        app: serves single messages.
        versions: session id -> negotiated version.
    """

    def __init__(self, app: ASGIApp, versions: Mapping[str, str]) -> None:
        self.app = app
        self._versions = versions

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["method"] != "POST" or not self._speaks(scope):
            await self.app(scope, receive, send)
            return
        body = await body_of(receive)
        messages = taken_apart(body or b"")
        if not messages:
            await self.app(scope, again(body, receive), send)
            return
        joined = _Joined(send, scope)
        if len(messages) > MAX_BATCH:
            await joined.refuse(_TOO_LONG)
            return
        async with anyio.create_task_group() as tasks:
            for message in messages:
                tasks.start_soon(self._serve, _alone(scope, message), again(message, receive), _Part(joined))
        await joined.finish()

    async def _serve(self, scope: Scope, receive: Receive, part: "_Part") -> None:
        await self.app(scope, receive, part.send)

    def _speaks(self, scope: Scope) -> bool:
        session = next((value for name, value in scope["headers"] if name == SESSION), b"")
        return self._versions.get(session.decode("latin-1")) == REVISION


def taken_apart(body: bytes) -> list[bytes]:
    """The messages of a batch, as they are; empty if it is none."""
    if not body.lstrip().startswith(b"["):
        return []
    try:
        return [bytes(raw) for raw in msgspec.json.decode(body, type=list[msgspec.Raw])]
    except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
        return []


def _alone(scope: Scope, message: bytes) -> MutableMapping[str, Any]:
    headers = [pair for pair in scope["headers"] if pair[0] != b"content-length"]
    # The answer to one message is a part of the response only: it must not go past ``_Part``.
    return {
        **scope,
        WHOLE: None,
        DECLINED: False,
        "headers": [*headers, (b"content-length", str(len(message)).encode())],
    }


class _Joined:
    """The one response to a batch."""

    def __init__(self, send: Send, scope: Scope) -> None:
        self._send = send
        self._session = [pair for pair in scope["headers"] if pair[0] == SESSION]
        self._answers: list[bytes] = []
        self._streaming = False
        self._writing = anyio.Lock()

    async def answer(self, frame: bytes) -> None:
        """One message of the batch is answered."""
        if self._streaming:
            await self.write(sse.encode(frame, event="message"))
        else:
            self._answers.append(frame)

    async def write(self, body: bytes) -> None:
        """Something comes on a stream: so it is one."""
        async with self._writing:
            if not self._streaming:
                self._streaming = True
                await self._start(200, _STREAM, (b"cache-control", b"no-cache, no-transform"))
                for frame in self._answers:
                    await self._more(sse.encode(frame, event="message"))
            await self._more(body)

    async def finish(self) -> None:
        """Everything is answered."""
        if self._streaming:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})
        elif self._answers:
            await self._whole(200, b"[" + b",".join(self._answers) + b"]")
        else:
            await self._whole(202, b"")

    async def refuse(self, reason: str) -> None:
        """The batch as a whole cannot be served."""
        await self._whole(400, envelope.error(None, INVALID_REQUEST, reason))

    async def _whole(self, status: int, body: bytes) -> None:
        await self._start(status, _JSON, (b"content-length", str(len(body)).encode()))
        await self._send({"type": "http.response.body", "body": body, "more_body": False})

    async def _start(self, status: int, *headers: tuple[bytes, bytes]) -> None:
        await self._send({"type": "http.response.start", "status": status, "headers": [*headers, *self._session]})

    async def _more(self, body: bytes) -> None:
        await self._send({"type": "http.response.body", "body": body, "more_body": True})


class _Part:
    """The response to one message of a batch."""

    def __init__(self, joined: _Joined) -> None:
        self._joined = joined
        self._streams = False
        self._body = b""

    async def send(self, message: Message) -> None:
        """Take what the app sends for it."""
        if message["type"] == "http.response.start":
            kind = next((value for name, value in message["headers"] if name.lower() == b"content-type"), b"")
            self._streams = kind.startswith(b"text/event-stream")
        elif message["type"] == "http.response.body" and self._streams:
            if body := message.get("body", b""):
                await self._joined.write(body)
        elif message["type"] == "http.response.body":
            self._body += message.get("body", b"")
            if self._body.strip() and not message.get("more_body"):
                await self._joined.answer(self._body)


class LineBatches:
    """The same for a pipe: which answers belong together. No I/O."""

    def __init__(self) -> None:
        self._version = ""
        self._open: list[tuple[set[str | int], list[JSONRPCMessage]]] = []

    def apart(self, line: bytes) -> list[bytes]:
        """The messages of a line: of a batch, each of them; of anything else, the line as it is."""
        if _INITIALIZE in line:
            self._version = _asked_version(line) or self._version
        messages = taken_apart(line) if self._version == REVISION else []
        if not messages or len(messages) > MAX_BATCH:
            return [line]
        if numbers := {number for number in map(_number, messages) if number is not None}:
            self._open.append((numbers, []))
        return messages

    def frame(self, message: JSONRPCMessage) -> bytes:
        """The frame to send now that there is this message: it alone, its whole batch, or nothing yet."""
        if isinstance(message, JSONRPCResponse | JSONRPCError):
            for numbers, answers in self._open:
                if message.id in numbers:
                    numbers.discard(message.id)
                    answers.append(message)
                    if numbers:
                        return b""
                    self._open.remove((numbers, answers))
                    return b"[" + b",".join(map(_dumped, answers)) + b"]"
        return _dumped(message)


def _asked_version(line: bytes) -> str:
    """The revision that an ``initialize`` asks for, which it gets if Manifold knows it; empty for anything else."""
    try:
        message = envelope.decode(line)
        params = message.decoded_params() or {}
    except envelope.Malformed:
        return ""
    return str(params.get("protocolVersion")) if message.method == "initialize" else ""


def _dumped(message: JSONRPCMessage) -> bytes:
    return message.model_dump_json(by_alias=True, exclude_unset=True).encode()


def _number(raw: bytes) -> str | int | None:
    """The id of a request."""
    try:
        message = envelope.decode(raw)
    except envelope.Malformed:
        return None
    number = message.id
    return number if message.kind is envelope.Kind.REQUEST and isinstance(number, str | int) else None
