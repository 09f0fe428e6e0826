"""A relay on standard input and output with no features at all, the yardstick for a client that speaks over pipes.

``python bare_pipe_relay.py http URL``, or ``python bare_pipe_relay.py stdio COMMAND...``: lines go to an HTTP server by
aiohttp, or to a child under numbers of our own; answers come back as lines.
"""

import asyncio
import os
import sys
from itertools import count
from typing import Any

import aiohttp
import msgspec
import uvloop

KIND, PLACE = sys.argv[1], sys.argv[2:]


class Head(msgspec.Struct):
    """The envelope of a request or an answer, with everything else undecoded."""

    id: int | str | None = None
    method: str | None = None
    params: msgspec.Raw = msgspec.Raw(b"{}")
    result: msgspec.Raw = msgspec.Raw(b"{}")


DECODE = msgspec.json.Decoder(Head).decode
ENCODE = msgspec.json.encode


class Lines(asyncio.Protocol):
    """Gives every line that comes to somebody."""

    def __init__(self, heard: Any, ended: Any) -> None:
        self.heard, self.ended, self.rest = heard, ended, b""

    def data_received(self, data: bytes) -> None:
        *lines, self.rest = (self.rest + data).split(b"\n")
        for line in lines:
            self.heard(line)

    def connection_lost(self, _exc: Exception | None) -> None:
        self.ended()


async def reading(descriptor: int, heard: Any, ended: Any) -> None:
    """Listen to a pipe."""
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: Lines(heard, ended), os.fdopen(descriptor, "rb", buffering=0))


async def writing(descriptor: int) -> Any:
    """Something to write to a pipe with."""
    loop = asyncio.get_running_loop()
    out, _ = await loop.connect_write_pipe(asyncio.BaseProtocol, os.fdopen(descriptor, "wb", buffering=0))
    return out


async def to_http(over: asyncio.Event) -> None:
    """Each line is posted, and its answer written."""
    out, tasks = await writing(1), set[asyncio.Task[None]]()
    headers = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), headers=headers) as session:

        async def passed(line: bytes) -> None:
            async with session.post(PLACE[0], data=line) as response:
                if answer := await response.read():
                    out.write(answer + b"\n")

        def heard(line: bytes) -> None:
            task = asyncio.create_task(passed(line))
            tasks.add(task)
            task.add_done_callback(tasks.discard)

        await reading(0, heard, over.set)
        await over.wait()


async def to_child(over: asyncio.Event) -> None:
    """Each line goes to a child under a number of our own."""
    there, back = os.pipe(), os.pipe()
    child = await asyncio.create_subprocess_exec(*PLACE, stdin=there[0], stdout=back[1])
    os.close(there[0])
    os.close(back[1])
    out, down = await writing(1), await writing(there[1])
    numbers, asked = count(1), dict[int | str | None, int | str | None]()

    def heard(line: bytes) -> None:
        head = DECODE(line)
        if head.id is None:
            return
        number = next(numbers)
        asked[number] = head.id
        down.write(ENCODE({"jsonrpc": "2.0", "id": number, "method": head.method, "params": head.params}) + b"\n")

    def answered(line: bytes) -> None:
        head = DECODE(line)
        if (number := asked.pop(head.id, None)) is not None:
            out.write(ENCODE({"jsonrpc": "2.0", "id": number, "result": head.result}) + b"\n")

    await reading(back[0], answered, over.set)
    await reading(0, heard, over.set)
    await over.wait()
    down.close()
    await child.wait()


async def main() -> None:
    """Serve until standard input ends."""
    await (to_http if KIND == "http" else to_child)(asyncio.Event())


uvloop.run(main())
