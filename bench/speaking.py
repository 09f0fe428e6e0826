"""What the load generators share: a connection with one request in flight, and how a session begins on both wires."""

import asyncio
import json
from typing import Any, Final
from urllib.parse import urlsplit

import httptools

HANDSHAKE: Final = "2025-11-25"
MODERN: Final = "2026-07-28"
CLIENT: Final = {"name": "load", "version": "1"}
HELLO: Final = {"protocolVersion": HANDSHAKE, "capabilities": {}, "clientInfo": CLIENT}
ENVELOPE: Final = {
    "io.modelcontextprotocol/protocolVersion": MODERN,
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": CLIENT,
}
"""What each request of the modern wire says of itself in ``_meta``."""
INITIALIZED: Final = b'{"jsonrpc":"2.0","method":"notifications/initialized"}'

Answer = tuple[int, bytes]
"""Status and body."""


def message(method: str, params: Any, number: int) -> bytes:
    """A request of JSON-RPC."""
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}).encode()


class Connection(asyncio.Protocol):
    """A connection that is kept, with one request in flight.

    Args:
        url: where requests go.
        halves: whether head and body are written apart, as many clients do.
    """

    def __init__(self, url: str, *, halves: bool = False) -> None:
        self.place = urlsplit(url)
        self.halves = halves
        self.headers: dict[str, str] = {}
        self.parts: list[bytes] = []
        self.answer: asyncio.Future[Answer] | None = None

    async def open(self) -> None:
        """Connect."""
        host, port = self.place.hostname or "", self.place.port or 80
        await asyncio.get_running_loop().create_connection(lambda: self, host, port)

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def head(self, method: str, *lines: str) -> bytes:
        """The head of a request; each line with its end."""
        path = f"{self.place.path}?{self.place.query}" if self.place.query else self.place.path
        return f"{method} {path} HTTP/1.1\r\nhost: {self.place.netloc}\r\n{''.join(lines)}\r\n".encode()

    def ask(self, body: bytes, extra: str = "") -> asyncio.Future[Answer]:
        """Post; ``extra`` are more lines of the head."""
        self.begin()
        self.answer = asyncio.get_running_loop().create_future()
        about = "content-type: application/json\r\naccept: application/json, text/event-stream\r\n"
        head = self.head("POST", about, extra, f"content-length: {len(body)}\r\n")
        if self.halves:
            self.transport.write(head)
            # In the next turn: what is written in one turn leaves in one piece.
            asyncio.get_running_loop().call_soon(self.transport.write, body)
        else:
            self.transport.write(head + body)
        return self.answer

    def begin(self) -> None:
        """Expect an answer."""
        self.parser = httptools.HttpResponseParser(self)
        self.parts, self.headers = [], {}

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode().lower()] = value.decode()

    def on_body(self, body: bytes) -> None:
        self.parts.append(body)

    def on_message_complete(self) -> None:
        if self.answer is not None and not self.answer.done():
            self.answer.set_result((self.parser.get_status_code(), b"".join(self.parts)))

    def connection_lost(self, exc: Exception | None) -> None:
        if self.answer is not None and not self.answer.done():
            self.answer.set_exception(exc or ConnectionError("closed"))


async def opened(connection: Connection, method: str, tool: str, *, modern: bool) -> str:
    """The lines that the head of every request bears from now on; on the handshake wire a session is begun for them.

    Raises:
        SystemExit: there is none to be had.
    """
    if modern:
        name = f"mcp-name: {tool}\r\n" if method == "tools/call" else ""
        return f"mcp-protocol-version: {MODERN}\r\nmcp-method: {method}\r\n{name}"
    status, answer = await connection.ask(message("initialize", HELLO, 0))
    if status != 200:
        raise SystemExit(f"initialize: {status} {answer[:300]!r}")
    session = connection.headers.get("mcp-session-id")
    lines = f"mcp-protocol-version: {HANDSHAKE}\r\n" + (f"mcp-session-id: {session}\r\n" if session else "")
    await connection.ask(INITIALIZED, lines)
    return lines


def at(took: list[int], share: float) -> float:
    """A quantile of sorted nanoseconds, in microseconds."""
    return round(took[min(len(took) - 1, int(len(took) * share))] / 1000, 1)


def figures(took: list[int], seconds: float, **more: Any) -> str:
    """What a load generator prints: one JSON object.

    Raises:
        SystemExit: nothing was answered.
    """
    if not took:
        raise SystemExit("nothing was answered")
    took.sort()
    found = {name: at(took, share) for name, share in (("p50", 0.5), ("p95", 0.95), ("p99", 0.99))}
    return json.dumps({"calls": len(took), "per_second": round(len(took) / seconds, 1), **found, **more})
