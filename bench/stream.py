"""A client of long streams: each call is answered with many progress notifications and then its result.

``python stream.py URL TOOL CONNECTIONS SECONDS MESSAGES GAP [handshake|modern]`` prints one JSON document: messages a
second, how long one is under way from the upstream to here (in microseconds, by the clock of the machine), and how many
of those that were promised did not come.
"""

import asyncio
import json
import re
import sys
import time
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import httptools
import uvloop

URL, TOOL, CONNECTIONS, SECONDS = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
MESSAGES, GAP = int(sys.argv[5]), float(sys.argv[6])
WIRE = sys.argv[7] if len(sys.argv) > 7 else "handshake"
PARTS = urlsplit(URL)
MODERN = "2026-07-28"
STAMP = re.compile(rb'"message":\s*"(\d+)"')
NUMBERS = count(1)


class Client(asyncio.Protocol):
    """One connection with one request in flight."""

    def __init__(self) -> None:
        self.took: list[int] = []
        """Nanoseconds that each message was under way."""
        self.heard = 0
        """Messages of the call that is under way."""
        self.last = b""
        """The line with its result."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def ask(self, body: bytes, extra: str) -> "asyncio.Future[bytes]":
        self.parser = httptools.HttpResponseParser(self)
        self.rest, self.last, self.heard, self.headers = b"", b"", 0, dict[str, str]()
        self.answer: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        head = (
            f"POST {PARTS.path} HTTP/1.1\r\nhost: {PARTS.netloc}\r\ncontent-type: application/json\r\n"
            f"accept: application/json, text/event-stream\r\n{extra}content-length: {len(body)}\r\n\r\n"
        )
        self.transport.write(head.encode() + body)
        return self.answer

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_header(self, name: bytes, value: bytes) -> None:
        self.headers[name.decode().lower()] = value.decode()

    def on_body(self, body: bytes) -> None:
        *lines, self.rest = (self.rest + body).split(b"\n")
        now = time.monotonic_ns()
        for line in lines:
            if found := STAMP.search(line):
                self.took.append(now - int(found[1]))
                self.heard += 1
            elif b'"result"' in line or b'"error"' in line:
                self.last = line

    def on_message_complete(self) -> None:
        status = self.parser.get_status_code()
        last = self.rest or self.last
        if status >= 300 or b'"error"' in last:
            raise SystemExit(f"{status} {last[:300]!r}")
        self.answer.set_result(last)

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.answer.done():
            self.answer.set_exception(exc or ConnectionError("closed"))


def call(number: int, messages: int, gap: float) -> bytes:
    """A call that is answered with so many messages."""
    meta: dict[str, Any] = {"progressToken": number}
    if WIRE == "modern":
        meta["io.modelcontextprotocol/protocolVersion"] = MODERN
        meta["io.modelcontextprotocol/clientCapabilities"] = {}
        meta["io.modelcontextprotocol/clientInfo"] = {"name": "stream", "version": "1"}
    params = {"name": TOOL, "arguments": {"messages": messages, "gap": gap}, "_meta": meta}
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}).encode()


async def connect() -> tuple[Client, str]:
    """Open one connection and a session of its own; returns the headers that every request bears."""
    _, client = await asyncio.get_running_loop().create_connection(Client, PARTS.hostname or "", PARTS.port or 80)
    if WIRE == "modern":
        return client, f"mcp-protocol-version: {MODERN}\r\nmcp-method: tools/call\r\nmcp-name: {TOOL}\r\n"
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "stream", "version": "1"}}
    await client.ask(json.dumps({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}).encode(), "")
    session = client.headers.get("mcp-session-id")
    extra = "mcp-protocol-version: 2025-11-25\r\n" + (f"mcp-session-id: {session}\r\n" if session else "")
    await client.ask(b'{"jsonrpc":"2.0","method":"notifications/initialized"}', extra)
    return client, extra


async def worker(client: Client, extra: str, until: float) -> int:
    """Call until the time is over; returns how many messages did not come."""
    missing = 0
    while time.perf_counter() < until:
        await client.ask(call(next(NUMBERS), MESSAGES, GAP), extra)
        missing += MESSAGES - client.heard
    return missing


async def main() -> None:
    """Warm up, measure, print."""
    clients = [await connect() for _ in range(CONNECTIONS)]
    for client, extra in clients:
        await client.ask(call(next(NUMBERS), 20, 0.0), extra)
        client.took.clear()
    began = time.perf_counter()
    missing = sum(await asyncio.gather(*(worker(client, extra, began + SECONDS) for client, extra in clients)))
    seconds = time.perf_counter() - began
    took = sorted(one for client, _ in clients for one in client.took)
    if not took:
        raise SystemExit("no message came")
    found = {name: round(took[int(len(took) * share)] / 1000, 1) for name, share in (("p50", 0.5), ("p99", 0.99))}
    print(json.dumps({"calls": len(took), "per_second": round(len(took) / seconds), **found, "missing": missing}))


uvloop.run(main())
