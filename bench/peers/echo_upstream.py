"""An MCP server that does nothing as fast as Python can: asyncio.Protocol and httptools, canned answers.

Speaks both eras over streamable HTTP with JSON answers, and a call takes DELAY seconds:
``python echo_upstream.py PORT [TOOLS] [RESULT_BYTES] [DELAY]``. A call whose arguments have ``messages`` is answered
with a stream: so many progress notifications, ``gap`` seconds apart, and then the result. Each says when it was sent,
by the monotonic clock of the machine in nanoseconds.
"""

import asyncio
import json
import sys
import time
from typing import Any

import httptools
import msgspec
import uvloop

PORT = int(sys.argv[1])
TOOLS = int(sys.argv[2]) if len(sys.argv) > 2 else 1
SIZE = int(sys.argv[3]) if len(sys.argv) > 3 else 16
DELAY = float(sys.argv[4]) if len(sys.argv) > 4 else 0.0


class Head(msgspec.Struct):
    """The envelope of a request."""

    method: str
    id: int | str | None = None


class Arguments(msgspec.Struct):
    """How a call is to be answered."""

    messages: int = 0
    gap: float = 0.0


class Meta(msgspec.Struct, rename="camel"):
    """Whom progress is for."""

    progress_token: int | str | None = None


class Params(msgspec.Struct):
    """What a call says."""

    arguments: Arguments = msgspec.field(default_factory=Arguments)
    meta: Meta = msgspec.field(default_factory=Meta, name="_meta")


class Streamed(msgspec.Struct):
    """A call that is answered with a stream."""

    params: Params


DECODE = msgspec.json.Decoder(Head).decode
DECODE_STREAMED = msgspec.json.Decoder(Streamed).decode
STREAM = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
TOGETHER = 20
"""Messages that are sent in one turn of the loop when there is no gap between them."""
SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}, "count": {"type": "integer"}}}
LIST = json.dumps(
    {
        "tools": [
            {"name": "echo" if n == 0 else f"tool_{n}", "description": f"Tool number {n}. " * 4, "inputSchema": SCHEMA}
            for n in range(TOOLS)
        ]
    }
)
CAPABILITIES = '"capabilities":{"tools":{}},"serverInfo":{"name":"echo","version":"1"}'
RESULTS = {
    "initialize": f'{{"protocolVersion":"VERSION",{CAPABILITIES}}}',
    "tools/list": LIST,
    "tools/call": json.dumps({"content": [{"type": "text", "text": "x" * SIZE}], "isError": False}),
    "ping": "{}",
}

VERSIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
STAMP = '"resultType":"complete","_meta":{"io.modelcontextprotocol/serverInfo":{"name":"echo","version":"1"}}'
CACHED = '"ttlMs":60000,"cacheScope":"public"'
MODERN = {
    "server/discover": f'{{{STAMP},{CACHED},"supportedVersions":["2026-07-28"],"capabilities":{{"tools":{{}}}}}}',
    "tools/list": f"{{{STAMP},{CACHED},{LIST[1:]}",
    "tools/call": f"{{{STAMP},{RESULTS['tools/call'][1:]}",
}


STREAMS: set["asyncio.Task[None]"] = set()


class Server(asyncio.Protocol):
    """One connection."""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.parser = httptools.HttpRequestParser(self)
        self.body = bytearray()
        self.writable = asyncio.Event()
        self.writable.set()

    def pause_writing(self) -> None:
        self.writable.clear()

    def resume_writing(self) -> None:
        self.writable.set()

    def connection_lost(self, _exc: Exception | None) -> None:
        self.writable.set()

    def data_received(self, data: bytes) -> None:
        self.parser.feed_data(data)

    def on_message_begin(self) -> None:
        self.body.clear()
        self.modern = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if value == b"2026-07-28" and name.lower() == b"mcp-protocol-version":
            self.modern = True

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        if self.parser.get_method() != b"POST":
            self.transport.write(b"HTTP/1.1 405 No\r\ncontent-length: 0\r\n\r\n")
            return
        head = DECODE(bytes(self.body))
        if head.id is None:
            self.transport.write(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")
            return
        result = (MODERN if self.modern else RESULTS).get(head.method)
        if result and head.method == "initialize":
            asked = json.loads(self.body)["params"]["protocolVersion"]
            result = result.replace("VERSION", asked if asked in VERSIONS else VERSIONS[-1])
        if result is None:
            error = f'{{"jsonrpc":"2.0","id":{json.dumps(head.id)},"error":{{"code":-32601,"message":"no"}}}}'.encode()
            self._write(b"404 Not Found", error)
        elif head.method == "tools/call" and b'"messages"' in self.body:
            params = DECODE_STREAMED(bytes(self.body)).params
            answer = f'{{"jsonrpc":"2.0","id":{json.dumps(head.id)},"result":{result}}}'.encode()
            task = asyncio.get_running_loop().create_task(self._stream(params, answer))
            STREAMS.add(task)
            task.add_done_callback(STREAMS.discard)
        elif DELAY and head.method == "tools/call":
            answer = f'{{"jsonrpc":"2.0","id":{json.dumps(head.id)},"result":{result}}}'.encode()
            asyncio.get_running_loop().call_later(DELAY, self._write, b"200 OK", answer)
        else:
            self._write(b"200 OK", f'{{"jsonrpc":"2.0","id":{json.dumps(head.id)},"result":{result}}}'.encode())

    async def _stream(self, params: Params, answer: bytes) -> None:
        token, messages, gap = json.dumps(params.meta.progress_token), params.arguments.messages, params.arguments.gap
        self.transport.write(STREAM)
        for number in range(messages):
            if self.transport.is_closing():
                return
            said = f'"progress":{number},"message":"{time.monotonic_ns()}"'
            self._event(
                f'{{"jsonrpc":"2.0","method":"notifications/progress","params":{{"progressToken":{token},{said}}}}}'.encode()
            )
            if gap or number % TOGETHER == TOGETHER - 1:
                await asyncio.sleep(gap)
            await self.writable.wait()
        self._event(answer)
        self.transport.write(b"0\r\n\r\n")

    def _event(self, message: bytes) -> None:
        data = b"event: message\ndata: " + message + b"\n\n"
        self.transport.write(b"%x\r\n%b\r\n" % (len(data), data))

    def _write(self, status: bytes, body: bytes) -> None:
        length = str(len(body)).encode()
        self.transport.write(
            b"HTTP/1.1 "
            + status
            + b"\r\ncontent-type: application/json\r\ncontent-length: "
            + length
            + b"\r\n\r\n"
            + body
        )


async def main() -> None:
    """Serve until killed."""
    server = await asyncio.get_running_loop().create_server(Server, "127.0.0.1", PORT)
    await server.serve_forever()


uvloop.run(main())
