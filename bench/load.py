"""A load generator in one process: keep-alive connections, one request in flight on each, latencies in microseconds.

``python -m bench.load URL TOOL CONNECTIONS SECONDS [handshake|modern] [METHOD] [careless] [halves]`` prints one JSON
document. An error ends it, unless it is careless; then it makes a pause after each answer. With ``halves``, the head of
a request and its body are written apart, as many HTTP clients do.
"""

import asyncio
import sys
import time
from itertools import count
from typing import Any

import uvloop

from bench.speaking import ENVELOPE, Connection, figures, message, opened

URL, TOOL, CONNECTIONS, SECONDS = sys.argv[1], sys.argv[2], int(sys.argv[3]), float(sys.argv[4])
MODERN = sys.argv[5:6] == ["modern"]
METHOD = sys.argv[6] if len(sys.argv) > 6 else "tools/call"
CARELESS = "careless" in sys.argv[7:]
HALVES = "halves" in sys.argv[7:]
PAUSE = 0.05
"""Seconds between two calls of a careless worker: refusals cost nothing, and would be asked for all the time."""
FIRST = count(1_000_000, 1_000_000)


def request(number: int) -> bytes:
    """One request of the measured method."""
    params: dict[str, Any] = (
        {"name": TOOL, "arguments": {"text": "hello", "count": number}} if METHOD == "tools/call" else {}
    )
    return message(METHOD, {**params, "_meta": ENVELOPE} if MODERN else params, number)


async def worker(connection: Connection, lines: str, until: float, took: list[int]) -> None:
    """Ask until the time is over. Ids are unique in the session, as JSON-RPC asks."""
    number = next(FIRST)
    while time.perf_counter() < until:
        body = request(number)
        began = time.perf_counter_ns()
        status, answer = await connection.ask(body, lines)
        took.append(time.perf_counter_ns() - began)
        number += 1
        if CARELESS:
            await asyncio.sleep(PAUSE)
        elif status != 200 or b'"error"' in answer[:200] or b'"isError":true' in answer:
            raise SystemExit(f"{status} {answer[:500]!r}")


async def main() -> None:
    """Warm up, measure, print."""
    connections = [Connection(URL, halves=HALVES) for _ in range(CONNECTIONS)]
    for one in connections:
        await one.open()
    lines = await opened(connections[0], METHOD, TOOL, modern=MODERN)
    await asyncio.gather(*(worker(one, lines, time.perf_counter() + SECONDS / 4, []) for one in connections))
    took: list[int] = []
    began = time.perf_counter()
    await asyncio.gather(*(worker(one, lines, began + SECONDS, took) for one in connections))
    print(figures(took, time.perf_counter() - began))


uvloop.run(main())
