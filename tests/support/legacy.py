"""A client that speaks legacy SSE by hand: a stream that is read when somebody wants to know, and POSTs."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from io import BytesIO
from typing import Final

import aiohttp
import anyio

from proxy.wire.lines import Oversized
from proxy.wire.sse import Event, Parser
from tests.support.manifold import PATIENCE, Json, Manifold, Wire

JSON: Final = {"Content-Type": "application/json"}


class Legacy(Wire):
    """One session."""

    def __init__(self, manifold: Manifold, http: aiohttp.ClientSession, stream: aiohttp.ClientResponse) -> None:
        super().__init__(manifold)
        self.http = http
        self.stream = stream
        self.place = ""
        """Where its messages go."""
        self.kinds: list[str] = []
        """The events that came."""
        self._parser = Parser(1 << 26)
        self._events: list[Event] = []

    async def post(self, body: bytes, place: str = "", **headers: str) -> int:
        """Send something; returns what is said to that."""
        url = self.manifold.base + (place or self.place)
        async with self.http.post(url, data=BytesIO(body), headers={**JSON, **headers}) as answer:
            await answer.read()
            return answer.status

    async def send(self, message: Json) -> None:
        """Send one message."""
        assert await self.say(encoded(message)) == [202]

    async def say(self, *messages: bytes) -> list[int]:
        """Send messages, one after the other; returns what is said to each."""
        return [await self.post(one) for one in messages]

    async def line(self) -> str:
        """The data of the next event."""
        while not self._events:
            await self.hear()
        event = self._events.pop(0)
        self.kinds.append(event.event)
        self.lines.append(bytes(event.data).decode())
        return self.lines[-1]

    async def hear(self) -> None:
        """Take in what has come of the stream, or what comes next."""
        with anyio.fail_after(PATIENCE):
            chunk = await self.stream.content.readany()
        assert chunk, "the stream has ended"
        for event in self._parser.feed(chunk):
            assert not isinstance(event, Oversized)
            self._events.append(event)

    async def ended(self) -> None:
        """Wait for the end of the stream; one that is cut off is an error."""
        with anyio.fail_after(PATIENCE):
            while await self.stream.content.readany():
                pass


def encoded(message: Json) -> bytes:
    """A message as it is sent."""
    return json.dumps({"jsonrpc": "2.0", **message}).encode()


@asynccontextmanager
async def legacy(manifold: Manifold, agent: str = "", **headers: str) -> AsyncIterator[Legacy]:
    """A session, not introduced yet."""
    door = f"/agents/{agent}/sse" if agent else "/sse"
    plain = aiohttp.TCPConnector(limit=0)
    async with (
        aiohttp.ClientSession(connector=plain, headers=headers) as http,
        http.get(manifold.base + door) as stream,
    ):
        assert stream.status == 200
        session = Legacy(manifold, http, stream)
        session.place = await session.line()
        assert session.kinds == ["endpoint"]
        yield session
