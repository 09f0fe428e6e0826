"""A client of long streams: each call is answered with many progress notifications and then its result.

``python -m bench.stream URL TOOL CONNECTIONS SECONDS MESSAGES GAP`` prints one JSON document: messages a second, how
long one is under way from the upstream to here (in microseconds, by the clock of the machine), and how many of those
that were promised did not come.
"""

import asyncio
import re
import sys
import time
from itertools import count

import uvloop

from bench.speaking import Connection, figures, message, opened

URL, TOOL, CONNECTIONS, SECONDS = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
MESSAGES, GAP = int(sys.argv[5]), float(sys.argv[6])
STAMP = re.compile(rb'"message":\s*"(\d+)"')
NUMBERS = count(1)


class Stream(Connection):
    """A connection whose answers are streams."""

    def __init__(self, url: str) -> None:
        super().__init__(url)
        self.took: list[int] = []
        """Nanoseconds that each message was under way."""

    def begin(self) -> None:
        super().begin()
        self.heard, self.rest = 0, b""

    def on_body(self, body: bytes) -> None:
        *lines, self.rest = (self.rest + body).split(b"\n")
        now = time.monotonic_ns()
        for line in lines:
            if found := STAMP.search(line):
                self.took.append(now - int(found[1]))
                self.heard += 1
            elif b'"result"' in line or b'"error"' in line:
                self.parts = [line]

    def on_message_complete(self) -> None:
        self.parts.append(self.rest)
        super().on_message_complete()


async def call(stream: Stream, lines: str, messages: int, gap: float) -> int:
    """A call that is answered with so many messages; returns how many did not come."""
    number = next(NUMBERS)
    params = {"name": TOOL, "arguments": {"messages": messages, "gap": gap}, "_meta": {"progressToken": number}}
    status, answer = await stream.ask(message("tools/call", params, number), lines)
    if status >= 300 or b'"error"' in answer or b'"result"' not in answer:
        raise SystemExit(f"{status} {answer[:300]!r}")
    return messages - stream.heard


async def worker(stream: Stream, lines: str, until: float) -> int:
    """Call until the time is over; returns how many messages did not come."""
    missing = 0
    while time.perf_counter() < until:
        missing += await call(stream, lines, MESSAGES, GAP)
    return missing


async def connect() -> tuple[Stream, str]:
    """Open one connection and a session of its own; returns the lines that every head bears."""
    stream = Stream(URL)
    await stream.open()
    lines = await opened(stream, "tools/call", TOOL, modern=False)
    await call(stream, lines, 20, 0.0)
    stream.took.clear()
    return stream, lines


async def main() -> None:
    """Warm up, measure, print."""
    clients = [await connect() for _ in range(CONNECTIONS)]
    began = time.perf_counter()
    missing = sum(await asyncio.gather(*(worker(one, lines, began + SECONDS) for one, lines in clients)))
    took = [one for stream, _ in clients for one in stream.took]
    print(figures(took, time.perf_counter() - began, missing=missing))


uvloop.run(main())
