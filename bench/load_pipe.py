"""A load generator for a server on standard input and output: so many requests in flight on the one pipe.

``python -m bench.load_pipe READ WRITE TOOL IN_FLIGHT SECONDS FIRST`` prints one JSON document. READ and WRITE are the
descriptors of pipes that were opened, and introduced, by somebody else; FIRST is the first number that no request has
had before.
"""

import asyncio
import os
import sys
import time
from itertools import count
from typing import Any

import msgspec
import uvloop

from bench.speaking import figures, message

READ, WRITE, TOOL, IN_FLIGHT, SECONDS = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], int(sys.argv[4]), sys.argv[5]
NUMBERS = count(int(sys.argv[6]))


class Result(msgspec.Struct):
    """What tells a failed call."""

    is_error: bool = msgspec.field(default=False, name="isError")


class Answer(msgspec.Struct):
    """A message that comes."""

    id: int | str | None = None
    method: str | None = None
    result: Result | None = None


DECODE = msgspec.json.Decoder(Answer).decode


class Reader(asyncio.Protocol):
    """What the server says."""

    def __init__(self) -> None:
        self.rest = b""
        self.waiting: dict[int | str | None, int] = {}
        self.took: list[int] = []
        self.until = 0.0
        self.done: asyncio.Future[None] | None = None
        self.out: Any = None

    async def run(self, seconds: float) -> tuple[list[int], float]:
        """Keep requests in flight for some time; nanoseconds that each took, and seconds until all were answered."""
        self.took, self.done = [], asyncio.get_running_loop().create_future()
        began = time.perf_counter()
        self.until = began + seconds
        for _ in range(IN_FLIGHT):
            self.ask()
        await self.done
        return self.took, time.perf_counter() - began

    def ask(self) -> None:
        """Send one request."""
        number = next(NUMBERS)
        line = message("tools/call", {"name": TOOL, "arguments": {"text": "hello", "count": number}}, number) + b"\n"
        self.waiting[number] = time.perf_counter_ns()
        self.out.write(line)

    def data_received(self, data: bytes) -> None:
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            self.heard(line)
        if not self.waiting and self.done is not None and not self.done.done():
            self.done.set_result(None)

    def heard(self, line: bytes) -> None:
        """Take one line, and ask for the next; what is no answer to us is passed over."""
        now = time.perf_counter_ns()
        try:
            answer = DECODE(line)
        except msgspec.DecodeError:
            return  # some print other things there
        if answer.method is not None or (began := self.waiting.pop(answer.id, None)) is None:
            return
        if answer.result is None or answer.result.is_error:
            raise SystemExit(f"{line[:500]!r}")
        self.took.append(now - began)
        if time.perf_counter() < self.until:
            self.ask()

    def connection_lost(self, exc: Exception | None) -> None:
        if self.done is not None and not self.done.done():
            self.done.set_exception(exc or ConnectionError("it ended"))


async def main() -> None:
    """Warm up, measure, print."""
    loop = asyncio.get_running_loop()
    reader = Reader()
    await loop.connect_read_pipe(lambda: reader, os.fdopen(READ, "rb", buffering=0))
    reader.out, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(WRITE, "wb", buffering=0))
    await reader.run(float(SECONDS) / 4)
    took, seconds = await reader.run(float(SECONDS))
    print(figures(took, seconds))


uvloop.run(main())
