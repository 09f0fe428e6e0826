"""A load generator in one process: keep-alive connections, one request in flight on each, latencies in microseconds.

``python load.py URL TOOL CONNECTIONS SECONDS [handshake|modern] [METHOD] [careless] [halves]`` prints one JSON
document. An error ends it, unless it is careless; then it makes a pause after each answer. With ``halves``, the head of
a request and its body are written apart, as many HTTP clients do.
"""

import asyncio
import json
import sys
import time
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import httptools
import uvloop

URL, TOOL, CONNECTIONS, SECONDS = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
WIRE = sys.argv[5] if len(sys.argv) > 5 else "handshake"
METHOD = sys.argv[6] if len(sys.argv) > 6 else "tools/call"
CARELESS = "careless" in sys.argv[7:]
HALVES = "halves" in sys.argv[7:]
PAUSE = 0.05
"""Seconds between two calls of a careless worker: refusals cost nothing, and would be asked for all the time."""
PARTS = urlsplit(URL)
MODERN = "2026-07-28"


FIRST = count(1_000_000, 1_000_000)


class Client(asyncio.Protocol):
    """One connection with one request in flight."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.answer: asyncio.Future[tuple[int, bytes]] | None = None
        self.headers: dict[str, str] = {}

    def ask(self, body: bytes, extra: str) -> "asyncio.Future[tuple[int, bytes]]":
        self.parser = httptools.HttpResponseParser(self)
        self.parts: list[bytes] = []
        self.headers = {}
        self.answer = asyncio.get_running_loop().create_future()
        head = (
            f"POST {PARTS.path} HTTP/1.1\r\nhost: {PARTS.netloc}\r\ncontent-type: application/json\r\n"
            f"accept: application/json, text/event-stream\r\n{extra}content-length: {len(body)}\r\n\r\n"
        )
        if HALVES:
            self.transport.write(head.encode())
            # In the next turn: what is written in one turn leaves in one piece.
            asyncio.get_running_loop().call_soon(self.transport.write, body)
        else:
            self.transport.write(head.encode() + body)
        return self.answer

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


def request(number: int) -> bytes:
    """One request of the measured method."""
    params: dict[str, Any] = (
        {"name": TOOL, "arguments": {"text": "hello", "count": number}} if METHOD == "tools/call" else {}
    )
    if WIRE == "modern":
        params["_meta"] = {
            "io.modelcontextprotocol/protocolVersion": MODERN,
            "io.modelcontextprotocol/clientCapabilities": {},
            "io.modelcontextprotocol/clientInfo": {"name": "load", "version": "1"},
        }
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": METHOD, "params": params}).encode()


async def connect() -> Client:
    """Open one connection."""
    _, client = await asyncio.get_running_loop().create_connection(Client, PARTS.hostname or "", PARTS.port or 80)
    return client


async def open_session(client: Client) -> str:
    """The headers that every request bears from now on."""
    if WIRE == "modern":
        name = f"mcp-name: {TOOL}\r\n" if METHOD == "tools/call" else ""
        return f"mcp-protocol-version: {MODERN}\r\nmcp-method: {METHOD}\r\n{name}"
    params = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "load", "version": "1"}}
    body = json.dumps({"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": params}).encode()
    status, answer = await client.ask(body, "")
    if status != 200:
        raise SystemExit(f"initialize: {status} {answer[:300]!r}")
    session = client.headers.get("mcp-session-id")
    extra = "mcp-protocol-version: 2025-11-25\r\n" + (f"mcp-session-id: {session}\r\n" if session else "")
    await client.ask(b'{"jsonrpc":"2.0","method":"notifications/initialized"}', extra)
    return extra


async def worker(client: Client, extra: str, until: float, took: list[int]) -> None:
    """Ask until the time is over. Ids are unique in the session, as JSON-RPC asks."""
    number = next(FIRST)
    while time.perf_counter() < until:
        body = request(number)
        began = time.perf_counter_ns()
        status, answer = await client.ask(body, extra)
        took.append(time.perf_counter_ns() - began)
        number += 1
        if CARELESS:
            await asyncio.sleep(PAUSE)
            continue
        if status != 200 or b'"error"' in answer[:200] or b'"isError":true' in answer:
            raise SystemExit(f"{status} {answer[:500]!r}")


def _at(took: list[int], share: float) -> float:
    return round(took[min(len(took) - 1, int(len(took) * share))] / 1000, 1)


async def main() -> None:
    """Warm up, measure, print."""
    clients = [await connect() for _ in range(CONNECTIONS)]
    extra = await open_session(clients[0])
    await asyncio.gather(*(worker(c, extra, time.perf_counter() + SECONDS / 4, []) for c in clients))
    took: list[int] = []
    began = time.perf_counter()
    await asyncio.gather(*(worker(c, extra, began + SECONDS, took) for c in clients))
    seconds = time.perf_counter() - began
    took.sort()
    print(
        json.dumps(
            {
                "calls": len(took),
                "per_second": round(len(took) / seconds),
                "p50": _at(took, 0.5),
                "p95": _at(took, 0.95),
                "p99": _at(took, 0.99),
            }
        )
    )


uvloop.run(main())
