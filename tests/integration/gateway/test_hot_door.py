"""Which requests go past ASGI in a Manifold that serves: hot ones of both eras, as soon as a client is known."""

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from proxy.config.model import Config
from proxy.gateway.hot import HotDoor
from proxy.gateway.refusals import audited
from proxy.gateway.server import Gateway
from proxy.gateway.serving import Idle, bind, http_server
from proxy.runtime import Runtime

HELLO = {
    "jsonrpc": "2.0",
    "id": 0,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}},
}
META = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
}
MODERN = ("MCP-Protocol-Version: 2026-07-28", "Mcp-Method: tools/list")
LIST = {"jsonrpc": "2.0", "id": 2, "method": "tools/list", "params": {"_meta": META}}


class Door:
    """A served Manifold, and how many requests its hot door has taken."""

    def __init__(self, idle: Idle, port: int) -> None:
        assert isinstance(idle.direct, HotDoor)
        self.port = port
        self.taken = 0
        self._count = idle.direct.opened
        idle.direct.opened = self._opened

    def _opened(self) -> None:
        self.taken += 1
        self._count()

    async def ask(self, message: Any, *lines: str, path: str = "/mcp", pieces: bool = False) -> tuple[int, str]:
        """The status and all of an answer."""
        body = json.dumps(message).encode()
        head = [
            f"POST {path} HTTP/1.1",
            f"Host: 127.0.0.1:{self.port}",
            "Accept: application/json, text/event-stream",
            "Content-Type: application/json",
            f"Content-Length: {len(body)}",
            "Connection: close",
        ]
        data = "\r\n".join([*head, *lines, "", ""]).encode() + body
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data[:50] if pieces else data)
        if pieces:
            await writer.drain()
            writer.write(data[50:])
        said = (await reader.read()).decode()
        writer.close()
        await writer.wait_closed()
        return int(said.split(" ")[1]), said

    async def session(self) -> tuple[str, str]:
        """The headers of a new session."""
        said = (await self.ask(HELLO))[1]
        session = said[said.lower().index("mcp-session-id: ") + 16 :].partition("\r\n")[0]
        own = (f"Mcp-Session-Id: {session}", "MCP-Protocol-Version: 2025-11-25")
        await self.ask({"jsonrpc": "2.0", "method": "notifications/initialized"}, *own)
        return own

    @asynccontextmanager
    async def legacy(self) -> AsyncIterator[str]:
        """Where the messages of a new legacy SSE session go, which is introduced."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(f"GET /sse HTTP/1.1\r\nHost: 127.0.0.1:{self.port}\r\n\r\n".encode())
        place = (await reader.readuntil(b"\r\n\r\n") + await reader.readuntil(b"\r\n\r\n")).decode()
        place = place[place.index("/messages/") :].partition("\r\n")[0]
        await self.ask(HELLO, path=place)
        assert b"serverInfo" in await reader.readuntil(b"\r\n\r\n")
        yield place
        writer.close()
        await writer.wait_closed()


@asynccontextmanager
async def serving(tmp_path: Path, **sections: Any) -> AsyncIterator[Door]:
    config = Config.model_validate({"upstreams": {}, **sections})
    sock = bind("127.0.0.1", 0)
    with anyio.fail_after(20):
        async with Runtime(config, state=tmp_path) as runtime:
            gateway = Gateway(runtime, tmp_path)
            runtime.start()
            idle = Idle(audited(gateway.http_app(), runtime.audit))
            server = http_server(idle)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(gateway.run)
                tasks.start_soon(lambda: server.serve(sockets=[sock]))
                yield Door(idle, sock.getsockname()[1])
                server.stop(now=True)
                tasks.cancel_scope.cancel()
    sock.close()


@pytest.mark.parametrize("audit", [False, True])
async def test_hot_requests_of_both_eras_go_past_asgi(tmp_path: Path, audit: bool) -> None:
    sections = {"audit": {"to": str(tmp_path / "audit.log")}} if audit else {}
    async with serving(tmp_path, **sections) as door:
        own = await door.session()
        first = door.taken
        assert (await door.ask({"jsonrpc": "2.0", "id": 1, "method": "ping"}, *own))[0] == 200
        assert (await door.ask(LIST, *MODERN))[0] == 200
        assert door.taken == first + 2


async def test_hot_requests_of_legacy_sse_go_past_asgi(tmp_path: Path) -> None:
    ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
    async with serving(tmp_path, agents={"alice": {}}) as door, door.legacy() as place:
        first = door.taken
        status, said = await door.ask(ping, path=place)
        assert (status, said.partition("\r\n\r\n")[2]) == (202, "Accepted")
        assert door.taken == first + 1
        for path in (f"{place}&x=1", place.upper(), f"/agents/alice{place}", f"/agents/bob{place}", "/messages/"):
            assert (await door.ask(ping, path=path))[0] in (202, 400, 404)
        for line in ("Origin: http://evil.example", "Host: evil.example", "Mcp-Session-Id: x", "Expect: 100-continue"):
            await door.ask(ping, line, path=place)
        await door.ask({**ping, "method": "nothing"}, path=place)
        assert door.taken == first + 1


async def test_what_somebody_asks_first_takes_the_long_way(tmp_path: Path) -> None:
    async with serving(tmp_path) as door:
        assert (await door.ask(LIST, *MODERN))[0] == 200
        assert door.taken == 0
        assert (await door.ask(LIST, *MODERN))[0] == 200
        assert door.taken == 1


@pytest.mark.parametrize(
    ("lines", "path"),
    [
        (("Origin: http://evil.example",), "/mcp"),
        (("Host: 127.0.0.1",), "/mcp"),
        (("Mcp-Param-X: 1",), "/mcp"),
        (("Expect: 100-continue",), "/mcp"),
        ((), "/mcp?x=1"),
        ((), "/mcp/"),
        ((), "/agents/%61lice/mcp"),
        ((), "/agents/alice/../bob/mcp"),
    ],
)
async def test_what_is_out_of_the_ordinary_does_not(tmp_path: Path, lines: tuple[str, ...], path: str) -> None:
    async with serving(tmp_path, agents={"alice": {}}) as door:
        for _ in range(2):
            await door.ask(LIST, *MODERN)
        taken = door.taken
        assert taken == 1
        await door.ask(LIST, *MODERN, *lines, path=path)
        assert door.taken == taken


async def test_a_request_for_an_agent_goes_past_asgi_if_there_is_such_an_agent(tmp_path: Path) -> None:
    async with serving(tmp_path, agents={"alice": {}}) as door:
        await door.ask(LIST, *MODERN)
        assert (await door.ask(LIST, *MODERN, path="/agents/alice/mcp"))[0] == 200
        assert door.taken == 1
        assert (await door.ask(LIST, *MODERN, path="/agents/bob/mcp"))[0] == 404
        assert door.taken == 1


async def test_nobody_comes_in_without_a_credential_where_one_is_needed(tmp_path: Path) -> None:
    good = "a-token-of-the-store-1"
    async with serving(tmp_path, auth={"tokens": [good]}) as door:
        for _ in range(2):
            assert (await door.ask(LIST, *MODERN, f"Authorization: Bearer {good}"))[0] == 200
        assert door.taken == 1
        for lines in ((), ("Authorization: Bearer another-token-12345",), (f"Authorization: Bearer {good}",) * 2):
            assert (await door.ask(LIST, *MODERN, *lines))[0] in (400, 401)
        assert door.taken == 1


async def test_the_same_is_answered_in_pieces_and_in_one(tmp_path: Path) -> None:
    async with serving(tmp_path) as door:
        await door.ask(LIST, *MODERN)
        assert await door.ask(LIST, *MODERN) == await door.ask(LIST, *MODERN, pieces=True)
