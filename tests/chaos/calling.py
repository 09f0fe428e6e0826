"""A downstream over plain HTTP with little of its own between a test and the wire, so that it measures Manifold."""

import itertools
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import aiohttp
import anyio

from tests.support.manifold import PATIENCE

Json = dict[str, Any]

VERSION: Final = "2025-11-25"
HELLO: Final = {"protocolVersion": VERSION, "capabilities": {}, "clientInfo": {"name": "chaos", "version": "1"}}
ACCEPT: Final = "application/json, text/event-stream"


class Caller:
    """One downstream session of the handshake era."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http = http
        self._url = url
        self._headers = {"Accept": ACCEPT}
        self._numbers = itertools.count(1)

    async def open(self) -> None:
        """Shake hands."""
        hello = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": HELLO}
        async with self._http.post(self._url, json=hello, headers=self._headers) as response:
            assert response.status == 200, await response.text()
            answered(await response.read())
            self._headers["Mcp-Session-Id"] = response.headers["Mcp-Session-Id"]
        self._headers["Mcp-Protocol-Version"] = VERSION
        await self.notify("notifications/initialized")

    async def notify(self, method: str, params: Json | None = None) -> None:
        """Send a notification."""
        message = {"jsonrpc": "2.0", "method": method, "params": params or {}}
        async with self._http.post(self._url, json=message, headers=self._headers) as response:
            assert response.status == 202, await response.text()

    async def request(self, method: str, params: Json | None = None, *, number: int | None = None) -> Json:
        """Send a request and wait for the whole answer, a result or an error."""
        message = {"jsonrpc": "2.0", "id": number or self.number(), "method": method, "params": params or {}}
        async with self._http.post(self._url, json=message, headers=self._headers) as response:
            assert response.status == 200, await response.text()
            return answered(await response.read())

    def number(self) -> int:
        """A request id of this session."""
        return next(self._numbers)

    async def call(self, name: str, *, number: int | None = None, **arguments: Any) -> Json:
        """Call a tool; its result, or a whole error. Bounded."""
        with anyio.fail_after(PATIENCE):
            answer = await self.request("tools/call", {"name": name, "arguments": arguments}, number=number)
        return dict(answer.get("result", answer))

    async def given_up(self, name: str) -> Json:
        """Call a tool, and cancel the call as soon as its answer takes long; the whole message that ends it."""
        number = self.number()
        message = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": {"name": name}}
        with anyio.fail_after(PATIENCE):
            async with self._http.post(self._url, json=message, headers=self._headers) as response:
                await self.notify("notifications/cancelled", {"requestId": number})
                return answered(await response.read())

    async def timed(self, name: str) -> float:
        """Call a tool that must answer well; how long that took, in seconds."""
        began = time.perf_counter()
        result = await self.call(name)
        took = time.perf_counter() - began
        assert result.get("isError") is not True, result
        assert "content" in result, result
        return took

    async def close(self) -> None:
        """End the session."""
        async with self._http.delete(self._url, headers=self._headers) as response:
            assert response.status == 200, await response.text()


def answered(body: bytes) -> Json:
    """The answer in a response, which is JSON or an event stream whose last message is the answer."""
    if body.lstrip()[:1] != b"{":
        body = [line for line in body.splitlines() if line.startswith(b"data: {")][-1].removeprefix(b"data: ")
    answer: Json = json.loads(body)
    return answer


@asynccontextmanager
async def web() -> AsyncIterator[aiohttp.ClientSession]:
    """What callers share: connections, as many as they like."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http:
        yield http


@asynccontextmanager
async def calling(url: str) -> AsyncIterator[Caller]:
    """One open session."""
    async with web() as http:
        caller = Caller(http, url)
        with anyio.fail_after(PATIENCE):
            await caller.open()
        yield caller
