"""Raw MCP clients for tests: JSON in, JSON out, over HTTP and pipes, in both eras. Nothing is modelled or checked."""

import asyncio
import json
import os
import subprocess
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final, Protocol

import aiohttp
import anyio
from anyio.abc import Process, TaskGroup

from proxy.wire.headers import name_value
from tests.e2e.peers.rig import ROOT

Json = dict[str, Any]
PATIENCE: Final = 8.0
"""Seconds for one request."""
MODERN: Final = "2026-07-28"
HANDSHAKE: Final = "2025-11-25"
META: Final = "io.modelcontextprotocol/"
CLIENT: Final = {"name": "wire", "version": "1.0"}
ROUNDS: Final = 8

Answer = Callable[[str, Json | None], Json | Awaitable[Json]]
"""What the person before the client answers, and when: from a question's method and params to its result."""


@dataclass
class Exchange:
    """One request and everything that happened until it was answered."""

    answer: Json = field(default_factory=dict)
    """``{"result": …}`` or ``{"error": …}``."""
    notes: list[Json] = field(default_factory=list)
    """Notifications on the request's own stream, in order."""
    asked: list[Json] = field(default_factory=list)
    """Questions, as ``{"method", "params"}``, in order."""

    @property
    def result(self) -> Json:
        """The result. Raises AssertionError if there is none."""
        assert "result" in self.answer, self.answer
        result: Json = self.answer["result"]
        return result

    @property
    def error(self) -> Json:
        """The error. Raises AssertionError if there is none."""
        assert "error" in self.answer, self.answer
        error: Json = self.answer["error"]
        return error


class Pipe(Protocol):
    """A transport: puts requests and notifications on the wire."""

    async def send(self, message: Json, exchange: Exchange, answer: Answer, headers: Mapping[str, str]) -> None:
        """Send a request and wait for its answer."""
        ...

    async def tell(self, message: Json) -> None:
        """Send a notification."""
        ...


class Client:
    """One client. ``heard`` is what the server says outside any request; ``arrived`` rings on each."""

    def __init__(self, pipe: Pipe, heard: "Heard", *, version: str, capabilities: Json) -> None:
        self._pipe = pipe
        self.heard = heard
        self.version = version
        self.capabilities = capabilities
        self.introduction: Json = {}
        self._ids = count(1)
        self._last: dict[str, int] = {}

    @property
    def over_http(self) -> bool:
        """Whether each request has a stream of its own."""
        return isinstance(self._pipe, HttpPipe)

    @property
    def pipe(self) -> Any:
        """The transport, for what no client would do."""
        return self._pipe

    @property
    def modern(self) -> bool:
        return self.version == MODERN

    async def send(  # noqa: PLR0913 - each says something else about one request
        self,
        method: str,
        params: Json | None = None,
        *,
        answer: Answer | None = None,
        headers: Mapping[str, str] | None = None,
        exchange: Exchange | None = None,
        started: anyio.Event | None = None,
        patience: float = PATIENCE,
    ) -> Exchange:
        """One request, one answer: questions of the modern era come back as they are.

        ``started`` rings when the request has its number: what is sent next comes after it.
        """
        exchange = Exchange() if exchange is None else exchange
        message: Json = {"jsonrpc": "2.0", "id": next(self._ids), "method": method}
        self._last[str((params or {}).get("name", method))] = message["id"]
        if params is not None or self.modern:
            message["params"] = self._dressed(params or {})
        every = dict(headers or {})
        if self.modern:
            every = {"MCP-Protocol-Version": self.version, "Mcp-Method": method} | every
            if (name := name_value(method, params or {})) is not None:
                every.setdefault("Mcp-Name", name)
        with anyio.fail_after(patience):
            if started is not None:
                started.set()
            await self._pipe.send(message, exchange, answer or _silent, every)
        return exchange

    async def cancel_last(self, name: str) -> None:
        """Cancel the last request of this method, or for this target, in the way of the handshake era."""
        await self.tell("notifications/cancelled", {"requestId": self._last[name], "reason": "test"})

    async def call(self, method: str, params: Json | None = None, **rest: Any) -> Exchange:
        """A request with all its rounds: questions are answered in the way of the era."""
        exchange, answer = Exchange(), rest.get("answer") or _silent
        sent = params or {}
        for _ in range(ROUNDS):
            await self.send(method, sent, exchange=exchange, **rest)
            result = exchange.answer.get("result", {})
            if result.get("resultType") != "input_required":
                return exchange
            asked = result.get("inputRequests") or {}
            exchange.asked += asked.values()
            answers = {key: await _told(answer, one) for key, one in asked.items()}
            sent = {**(params or {}), "inputResponses": answers}
            if "requestState" in result:
                sent["requestState"] = result["requestState"]
        raise AssertionError(f"no end after {ROUNDS} rounds")

    async def tool(self, name: str, arguments: Json | None = None, **rest: Any) -> Exchange:
        """Call a tool."""
        return await self.call("tools/call", {"name": name, "arguments": arguments or {}}, **rest)

    async def tell(self, method: str, params: Json | None = None) -> None:
        """Send a notification."""
        message: Json = {"jsonrpc": "2.0", "method": method}
        await self._pipe.tell(message if params is None else {**message, "params": params})

    def _dressed(self, params: Json) -> Json:
        if not self.modern:
            return params
        envelope = {
            META + "protocolVersion": self.version,
            META + "clientCapabilities": self.capabilities,
            META + "clientInfo": CLIENT,
        }
        return {**params, "_meta": {**envelope, **params.get("_meta", {})}}

    async def introduce(self) -> None:
        """Open the session, or discover the server."""
        if self.modern:
            self.introduction = (await self.send("server/discover")).result
            return
        params = {"protocolVersion": self.version, "capabilities": self.capabilities, "clientInfo": CLIENT}
        self.introduction = (await self.send("initialize", params)).result
        await self.tell("notifications/initialized")


class Heard:
    """Messages in the order they came, for tests that wait for one."""

    def __init__(self) -> None:
        self.messages: list[Json] = []
        self._rang = anyio.Event()

    def add(self, message: Json) -> None:
        self.messages.append(message)
        self._rang.set()
        self._rang = anyio.Event()

    def of(self, method: str) -> list[Json]:
        """All with this method."""
        return [message for message in self.messages if message.get("method") == method]

    async def until(self, method: str, number: int = 1) -> list[Json]:
        """Wait until that many of a method have come."""
        with anyio.fail_after(PATIENCE):
            while len(self.of(method)) < number:
                await self._rang.wait()
        return self.of(method)


def _silent(method: str, params: Json | None) -> Json:
    del params
    return {"error": {"code": -32601, "message": f"nobody is there to be asked {method}"}}


async def _told(answer: Answer, question: Json) -> Json:
    told = answer(question["method"], question.get("params"))
    return await told if isinstance(told, Awaitable) else told


def _bare(message: Json) -> Json:
    return {key: value for key, value in message.items() if key not in ("jsonrpc", "id")}


# -- HTTP --------------------------------------------------------------------------------------------------------------


class HttpPipe:
    """Streamable HTTP."""

    def __init__(self, http: aiohttp.ClientSession, url: str, heard: Heard) -> None:
        self._http = http
        self._url = url
        self._heard = heard
        self.session: dict[str, str] = {}

    async def send(self, message: Json, exchange: Exchange, answer: Answer, headers: Mapping[str, str]) -> None:
        async with self.post(message, headers) as response:
            if identity := response.headers.get("Mcp-Session-Id"):
                self.session = {"Mcp-Session-Id": identity}
            if response.content_type != "text/event-stream":
                exchange.answer = _bare(await response.json())
                return
            async for one in events(response):
                if "method" not in one:
                    exchange.answer = _bare(one)
                    if one["id"] == message["id"]:
                        break
                elif "id" in one:
                    exchange.asked.append(_bare(one))
                    await self._reply(one, answer)
                else:
                    exchange.notes.append(_bare(one))
        if message["method"] == "initialize":
            self.session["MCP-Protocol-Version"] = exchange.result["protocolVersion"]

    async def _reply(self, question: Json, answer: Answer) -> None:
        told = await _told(answer, question)
        body = {"jsonrpc": "2.0", "id": question["id"], **(told if "error" in told else {"result": told})}
        async with self.post(body):
            pass

    async def tell(self, message: Json) -> None:
        async with self.post(message) as response:
            assert response.status == 202, await response.text()

    def post(self, message: Any, headers: Mapping[str, str] | None = None) -> Any:
        """Put anything on the wire, as it is."""
        every = {"Accept": "application/json, text/event-stream", **self.session, **(headers or {})}
        return self._http.post(self._url, json=message, headers=every)

    def get(self, headers: Mapping[str, str]) -> Any:
        """Open a stream on which the server speaks on its own."""
        return self._http.get(self._url, headers={"Accept": "text/event-stream", **self.session, **headers})

    async def listen(self, *, task_status: Any) -> None:
        """The stream on which a handshake server speaks on its own."""
        async with self.get({}) as response:
            task_status.started()
            if response.status == 200:
                async for one in events(response):
                    self._heard.add(_bare(one))


async def events(response: aiohttp.ClientResponse) -> AsyncIterator[Json]:
    """The messages of an event stream."""
    data: list[str] = []
    async for raw in response.content:
        line = raw.decode().rstrip("\r\n")
        if line.startswith("data:"):
            data.append(line[5:].removeprefix(" "))
        elif not line and data:
            if text := "\n".join(data):
                yield json.loads(text)
            data = []


@asynccontextmanager
async def over_http(url: str, *, version: str, capabilities: Json | None = None) -> AsyncIterator[Client]:
    """Connect over streamable HTTP."""
    heard = Heard()
    limits = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=limits, read_bufsize=2**20) as http, anyio.create_task_group() as tasks:
        pipe = HttpPipe(http, url, heard)
        client = Client(pipe, heard, version=version, capabilities=capabilities or {})
        await client.introduce()
        if not client.modern:
            await tasks.start(_listening, pipe)
        yield client
        tasks.cancel_scope.cancel()


async def _listening(pipe: HttpPipe, *, task_status: Any) -> None:
    with suppress(aiohttp.ClientError):
        await pipe.listen(task_status=task_status)


# -- pipes -------------------------------------------------------------------------------------------------------------


class StdioPipe:
    """Standard input and output of a child."""

    def __init__(self, process: Process, heard: Heard) -> None:
        self._process = process
        self._heard = heard
        self._open: dict[Any, tuple[Exchange, Answer, anyio.Event]] = {}

    async def send(self, message: Json, exchange: Exchange, answer: Answer, headers: Mapping[str, str]) -> None:
        del headers
        done = anyio.Event()
        self._open[message["id"]] = exchange, answer, done
        await self.write(message)
        try:
            await done.wait()
        except BaseException:
            with anyio.CancelScope(shield=True):
                await self.tell(_cancelled(message["id"]))
            raise
        finally:
            del self._open[message["id"]]

    async def tell(self, message: Json) -> None:
        await self.write(message)

    async def write(self, message: Any) -> None:
        """Put anything on the wire, as it is."""
        assert self._process.stdin is not None
        await self._process.stdin.send(json.dumps(message).encode() + b"\n")

    async def read(self, tasks: TaskGroup) -> None:
        """Hand out what comes."""
        assert self._process.stdout is not None
        buffer = b""
        async for chunk in self._process.stdout:
            *lines, buffer = (buffer + chunk).split(b"\n")
            for line in lines:
                self._take(json.loads(line), tasks)

    def _take(self, message: Any, tasks: TaskGroup) -> None:
        if isinstance(message, list):
            self._heard.add({"method": "batch", "params": message})
            return
        if "method" not in message:
            if message.get("id") in self._open:
                exchange, _, done = self._open[message["id"]]
                exchange.answer = _bare(message)
                done.set()
            return
        last = next(reversed(self._open.values()), None)
        if "id" in message:
            assert last is not None, message
            last[0].asked.append(_bare(message))
            tasks.start_soon(self._reply, message, last[1])
        elif last is not None and _belongs(message):
            last[0].notes.append(_bare(message))
        else:
            self._heard.add(_bare(message))

    async def _reply(self, question: Json, answer: Answer) -> None:
        told = await _told(answer, question)
        await self.write({"jsonrpc": "2.0", "id": question["id"], **(told if "error" in told else {"result": told})})


def _belongs(message: Json) -> bool:
    """Whether a notification on a pipe is about the request under way."""
    about = ("notifications/progress", "notifications/message", "notifications/elicitation/complete")
    return message["method"] in about


def _cancelled(number: Any) -> Json:
    return {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": number}}


@asynccontextmanager
async def over_stdio(
    command: Sequence[str], *, version: str, capabilities: Json | None = None, env: Mapping[str, str] | None = None
) -> AsyncIterator[Client]:
    """Start a server and connect to its standard streams."""
    heard = Heard()
    process = await anyio.open_process(list(command), cwd=ROOT, env=os.environ | (env or {}), stderr=subprocess.DEVNULL)
    async with process, anyio.create_task_group() as tasks:
        pipe = StdioPipe(process, heard)
        tasks.start_soon(pipe.read, tasks)
        client = Client(pipe, heard, version=version, capabilities=capabilities or {})
        try:
            await client.introduce()
            yield client
        finally:
            with anyio.CancelScope(shield=True):
                assert process.stdin is not None
                await process.stdin.aclose()
                with anyio.move_on_after(5):
                    await process.wait()
            tasks.cancel_scope.cancel()


Connect = Callable[..., Awaitable[Client]]
__all__ = ["Client", "Exchange", "Heard", "HttpPipe", "StdioPipe", "asyncio", "over_http", "over_stdio"]
