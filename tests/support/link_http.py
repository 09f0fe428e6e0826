"""A scripted HTTP server on a raw socket: it answers as a test says, also in ways no framework would."""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import anyio

from proxy.wire import sse


@dataclass
class Request:
    """One request as it came."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes
    connection: int

    @property
    def message(self) -> Any:
        return json.loads(self.body)

    @property
    def number(self) -> Any:
        """The id of the JSON-RPC request that it is; None for anything else, such as a form."""
        with suppress(ValueError):
            return self.message.get("id")
        return None

    @property
    def rpc(self) -> str:
        """The JSON-RPC method; empty for what is no request or notification."""
        return str(self.message.get("method", "")) if self.body else ""


class Response:
    """How a test answers one request."""

    def __init__(self, request: Request, writer: asyncio.StreamWriter, gone: anyio.Event) -> None:
        self._request = request
        self._writer = writer
        self._chunked = False
        self.answers = request.number
        """The id of the request that ``result`` and ``result_event`` answer: for a GET, a test says which."""
        self.gone = gone
        """Set when the client has closed the connection."""

    def start(self, status: int, headers: Mapping[str, str], *, length: int | None = None) -> None:
        lines = [f"HTTP/1.1 {status} Status", *(f"{name}: {value}" for name, value in headers.items())]
        lines.append("Transfer-Encoding: chunked" if length is None else f"Content-Length: {length}")
        self._chunked = length is None
        self.raw("\r\n".join([*lines, "", ""]).encode())

    def raw(self, data: bytes) -> None:
        self._writer.write(data)

    def chunk(self, data: bytes) -> None:
        self.raw(b"%x\r\n%b\r\n" % (len(data), data) if self._chunked else data)

    def end(self) -> None:
        self.raw(b"0\r\n\r\n")

    def whole(self, status: int = 200, body: bytes = b"", kind: str = "application/json", **headers: str) -> None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        self.start(status, {**({"Content-Type": kind} if body else {}), **named}, length=len(body))
        self.raw(body)

    def json(self, message: Any, status: int = 200, **headers: str) -> None:
        self.whole(status, json.dumps(message).encode(), **headers)

    def result(self, result: Any, **headers: str) -> None:
        self.json({"jsonrpc": "2.0", "id": self.answers, "result": result}, 200, **headers)

    def stream(self, **headers: str) -> None:
        self.start(200, {"Content-Type": "text/event-stream", **headers})

    def event(self, message: Any, **fields: Any) -> None:
        self.chunk(sse.encode(json.dumps({"jsonrpc": "2.0", **message}).encode(), **fields))

    def result_event(self, result: Any, **fields: Any) -> None:
        self.event({"id": self.answers, "result": result}, **fields)

    async def drain(self) -> None:
        """Wait until the client reads."""
        await self._writer.drain()

    def end_of_connection(self) -> None:
        """Say that no more will come on this connection."""
        self._writer.close()

    async def drop(self) -> None:
        """Break the connection off."""
        with suppress(ConnectionError):
            await self._writer.drain()
        self._writer.transport.abort()


Handler = Callable[[Request, Response], Awaitable[None]]


def introduced(request: Request, response: Response, session: Callable[[], str], **headers: str) -> bool:
    """Answer as a handshake server with sessions does what comes before there is one; False for all else.

    Args:
        request: what is asked.
        response: the answer to it.
        session: the id of a new session.
        headers: go with each answer.
    """
    if request.method != "POST":
        response.whole(405, b"", **headers)
    elif request.rpc == "server/discover":
        response.whole(400, b"", **headers)
    elif request.rpc == "initialize":
        about = {"protocolVersion": "2025-11-25", "serverInfo": {"name": "s", "version": "1"}}
        response.result({**about, "capabilities": {"tools": {}}}, Mcp_Session_Id=session(), **headers)
    else:
        return False
    return True


def listed(request: Request, response: Response, tools: Iterable[str], **headers: str) -> bool:
    """Answer notifications, and the list of tools without arguments; False for all else."""
    if "id" not in request.message:
        response.whole(202, b"", **headers)
    elif request.rpc == "tools/list":
        schema = {"type": "object"}
        response.result({"tools": [{"name": name, "inputSchema": schema} for name in tools]}, **headers)
    else:
        return False
    return True


@dataclass
class Site:
    """A running server: its address, and what it was asked."""

    url: str = ""
    requests: list[Request] = field(default_factory=list)
    refuse: Callable[[], None] = lambda: None
    """Take no new connections from now on; those that there are go on, as a server does that ends gracefully."""
    _more: anyio.Event = field(default_factory=anyio.Event)

    def note(self, request: Request) -> None:
        self.requests.append(request)
        self._more.set()

    def of(self, name: str) -> list[Request]:
        """The requests with this HTTP or JSON-RPC method."""
        return [each for each in self.requests if name in (each.method, each.rpc)]

    async def asked(self, name: str, times: int = 1) -> Request:
        """Wait until a method was asked for so many times; the last such request."""
        with anyio.fail_after(10):
            while len(self.of(name)) < times:
                self._more = anyio.Event()
                await self._more.wait()
        return self.of(name)[times - 1]


@asynccontextmanager
async def serve(handler: Handler, *, tls: ssl.SSLContext | None = None, port: int = 0) -> AsyncIterator[Site]:
    """Serve until the block is left; on a free port, if none is given."""
    site = Site()
    tasks: set[asyncio.Task[Any]] = set()
    connections = 0

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        task = asyncio.current_task()
        assert task is not None
        tasks.add(task)
        try:
            await _talk(reader, writer, connections, site, handler)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            tasks.discard(task)
            writer.transport.abort()

    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Protocol(connected), "127.0.0.1", port, ssl=tls)
    site.refuse = server.close
    port = server.sockets[0].getsockname()[1]
    site.url = f"{'https' if tls else 'http'}://127.0.0.1:{port}/mcp"
    try:
        yield site
    finally:
        with anyio.CancelScope(shield=True):
            server.close()
            for task in list(tasks):
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


class _Protocol(asyncio.StreamReaderProtocol):
    """A stream that tells when the client is gone, even while nobody reads."""

    def __init__(self, connected: Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]) -> None:
        super().__init__(asyncio.StreamReader(), connected)
        self.gone = anyio.Event()

    def eof_received(self) -> bool | None:
        self.gone.set()
        return super().eof_received()

    def connection_lost(self, exc: Exception | None) -> None:
        self.gone.set()
        super().connection_lost(exc)


async def _talk(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, connection: int, site: Site, handler: Handler
) -> None:
    protocol = writer.transport.get_protocol()
    assert isinstance(protocol, _Protocol)
    while True:
        request = await _read(reader, connection)
        site.note(request)
        await handler(request, Response(request, writer, protocol.gone))
        await writer.drain()


async def _read(reader: asyncio.StreamReader, connection: int) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode()
    first, *lines = head.rstrip().split("\r\n")
    method, path, _ = first.split(" ", 2)
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    if headers.get("transfer-encoding") == "chunked":
        body = b""
        while size := int(await reader.readuntil(b"\r\n"), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readexactly(2)
    else:
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    return Request(method, path, headers, body, connection)
