"""A load generator that speaks legacy SSE: sessions with one request in flight on each, latencies in microseconds.

``python -m bench.load_sse URL TOOL SESSIONS SECONDS`` prints one JSON document. Each session is a stream that is read
(GET) and a connection that is written to (POST), both kept. A request counts as answered when its result has come on
the stream, and the next one leaves when its POST has been answered as well.
"""

import asyncio
import json
import sys
import time
from itertools import count
from urllib.parse import urljoin

import uvloop

from bench.speaking import HELLO, INITIALIZED, Connection, figures, message

URL, TOOL, SESSIONS, SECONDS = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
PATIENCE = 30.0
"""Seconds for a session to begin."""


class Events(Connection):
    """The stream of a session."""

    def __init__(self) -> None:
        super().__init__(URL)
        self.rest = b""
        self.place_to_write: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.result: asyncio.Future[tuple[int, bytes]] | None = None

    async def listen(self) -> str:
        """Begin the session; returns where it is written to."""
        await self.open()
        self.begin()
        self.transport.write(self.head("GET", "accept: text/event-stream\r\n"))
        return urljoin(URL, await self.place_to_write)

    def on_body(self, body: bytes) -> None:
        *events, self.rest = (self.rest + body).replace(b"\r\n", b"\n").split(b"\n\n")
        for event in events:
            said = dict(line.split(b":", 1) for line in event.split(b"\n") if b":" in line)
            kind, data = said.get(b"event", b"message").strip(), said.get(b"data", b"").strip()
            if kind == b"endpoint" and not self.place_to_write.done():
                self.place_to_write.set_result(data.decode())
            elif kind == b"message" and b'"method"' not in data[:60] and self.result and not self.result.done():
                self.result.set_result((time.perf_counter_ns(), data))

    def on_message_complete(self) -> None:
        self.connection_lost(None)

    def connection_lost(self, exc: Exception | None) -> None:
        for future in (self.place_to_write, self.result):
            if future is not None and not future.done():
                future.set_exception(exc or ConnectionError(f"the stream ended, {self.parser.get_status_code()}"))


class Session:
    """A session: the stream, and the connection that is written to."""

    def __init__(self, events: Events, posts: Connection) -> None:
        self.events, self.posts = events, posts

    async def ask(self, body: bytes, number: int) -> int:
        """Ask, check the answer, and return the nanoseconds that it took."""
        self.events.result = asyncio.get_running_loop().create_future()
        began = time.perf_counter_ns()
        taken = self.posts.ask(body)
        ended, answer = await self.events.result
        status, said = await taken
        if status >= 300:
            raise SystemExit(f"{status} {said[:300]!r}")
        found = json.loads(answer)
        if found.get("id") != number:
            raise SystemExit(f"the answer to request {found.get('id')} of another session came to that of {number}")
        if "result" not in found or found["result"].get("isError"):
            raise SystemExit(f"{answer[:500]!r}")
        return ended - began


async def opened() -> Session:
    """Begin a session and shake hands."""
    events = Events()
    posts = Connection(await events.listen())
    await posts.open()
    session = Session(events, posts)
    await session.ask(message("initialize", HELLO, 0), 0)
    await posts.ask(INITIALIZED)
    return session


async def worker(session: Session, numbers: "count[int]", until: float, took: list[int]) -> None:
    """Ask until the time is over."""
    while time.perf_counter() < until:
        number = next(numbers)
        params = {"name": TOOL, "arguments": {"text": "hello", "count": number}}
        took.append(await session.ask(message("tools/call", params, number), number))


async def main() -> None:
    """Warm up, measure, print."""
    async with asyncio.timeout(PATIENCE):
        sessions = [await opened() for _ in range(SESSIONS)]
    numbers = count(1)
    await asyncio.gather(*(worker(one, numbers, time.perf_counter() + SECONDS / 4, []) for one in sessions))
    took: list[int] = []
    began = time.perf_counter()
    await asyncio.gather(*(worker(one, numbers, began + SECONDS, took) for one in sessions))
    print(figures(took, time.perf_counter() - began))


uvloop.run(main())
