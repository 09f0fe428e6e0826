"""A relay to a stdio child with no features at all: uvicorn in front, a pipe behind.

``python bare_stdio_relay.py PORT COMMAND...``. POST to ``/mcp`` for streamable HTTP; a GET of ``/sse`` begins a session
of the legacy transport, which is written to at the place that its first event names.
"""

import asyncio
import sys
from itertools import count
from typing import Any

import msgspec
import uvicorn

PORT, COMMAND = int(sys.argv[1]), sys.argv[2:]


class Head(msgspec.Struct):
    """The envelope of a request or an answer, with everything else undecoded."""

    id: int | str | None = None
    method: str | None = None
    params: msgspec.Raw = msgspec.Raw(b"{}")
    result: msgspec.Raw = msgspec.Raw(b"{}")


DECODE = msgspec.json.Decoder(Head).decode
numbers = count(1)
waiting: dict[int | str | None, asyncio.Future[Head]] = {}
child: asyncio.subprocess.Process | None = None
reading: asyncio.Task[None] | None = None


async def read(process: asyncio.subprocess.Process) -> None:
    """Give every line to whom it belongs."""
    assert process.stdout is not None
    while line := await process.stdout.readline():
        head = DECODE(line)
        future = waiting.pop(head.id, None)
        if future is not None:
            future.set_result(head)


async def ask(head: Head) -> bytes:
    """Ask the child under a number of our own."""
    global child, reading  # noqa: PLW0603 - made on the loop that uses them
    if child is None:
        pipe = asyncio.subprocess.PIPE
        child = await asyncio.create_subprocess_exec(*COMMAND, stdin=pipe, stdout=pipe, limit=1 << 26)
        reading = asyncio.create_task(read(child))
    assert child.stdin is not None
    if head.id is None:
        return b""
    number = next(numbers)
    future = waiting[number] = asyncio.get_running_loop().create_future()
    message = {"jsonrpc": "2.0", "id": number, "method": head.method, "params": head.params}
    child.stdin.write(msgspec.json.encode(message) + b"\n")
    answer = await future
    return msgspec.json.encode({"jsonrpc": "2.0", "id": head.id, "result": answer.result})


streams: dict[bytes, Any] = {}
"""What the legacy sessions are written to, by the query of their place."""


async def listen(receive: Any, send: Any) -> None:
    """Hold the stream of a legacy session until its client goes."""
    place = b"session=%d" % next(numbers)
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]})
    body = b"event: endpoint\ndata: /messages?" + place + b"\n\n"
    await send({"type": "http.response.body", "body": body, "more_body": True})
    streams[place] = send
    while (await receive())["type"] != "http.disconnect":
        pass
    del streams[place]


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Serve one request."""
    if scope["type"] != "http":
        return
    if scope["method"] == "GET":
        await listen(receive, send)
        return
    body = b""
    while True:
        message = await receive()
        body += message["body"]
        if not message.get("more_body"):
            break
    answer = await ask(DECODE(body))
    if answer and (stream := streams.get(scope["query_string"])):
        event = b"event: message\ndata: " + answer + b"\n\n"
        await stream({"type": "http.response.body", "body": event, "more_body": True})
        answer = b""
    length = str(len(answer)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", length)]
    await send({"type": "http.response.start", "status": 200 if answer else 202, "headers": headers})
    await send({"type": "http.response.body", "body": answer})


uvicorn.run(
    app,
    host="127.0.0.1",
    port=PORT,
    log_level="error",
    access_log=False,
    loop="uvloop",
    http="httptools",
    lifespan="off",
    ws="none",
    server_header=False,
    date_header=False,
)
