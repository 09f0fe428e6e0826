"""What of a client's request reaches an upstream: never its token, and of its headers those alone that are named."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx2
import pytest
from mcp import ClientSession
from mcp.client.sse import sse_client

from tests.support.authority import Guarded, guarded
from tests.support.legacy import encoded, legacy
from tests.support.manifold import PATIENCE, Home, Json, Manifold, serving

INBOUND: Final = "inbound-token-of-the-client"
PROOFS: Final = {
    "Authorization": f"Bearer {INBOUND}",
    "Cookie": f"session={INBOUND}",
    "Proxy-Authorization": f"Basic {INBOUND}",
    "Last-Event-ID": INBOUND,
    "X-Secret": INBOUND,
}
ENVELOPE: Final = {
    "io.modelcontextprotocol/protocolVersion": "2026-07-28",
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "t", "version": "1"},
}
HELLO: Final = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
MACHINE: Final = {"type": "client_credentials", "client_id": "robot", "client_secret": "se/cret"}


class Door:
    """A way into Manifold: calls the tool that tells which headers came, with headers of the client's own."""

    def __init__(self, manifold: Manifold, client: httpx2.AsyncClient) -> None:
        self.manifold = manifold
        self.client = client
        self.session = ""

    async def post(self, method: str, params: Json, headers: list[tuple[str, str]]) -> Json:
        own = [("Accept", "application/json, text/event-stream"), *headers]
        body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
        answer = await self.client.post(self.manifold.url, json=body, headers=own)
        self.session = answer.headers.get("Mcp-Session-Id", self.session)
        lines = [line.removeprefix("data:") for line in answer.text.splitlines() if line.startswith(("data: {", "{"))]
        found: Json = json.loads(lines[-1])
        return found

    async def handshake(self, headers: list[tuple[str, str]]) -> Json:
        if not self.session:
            # What came with the opening must not stick to the session.
            await self.post("initialize", HELLO, [*headers, ("X-Tenant", "of-the-opening")])
        params = {"name": "mcp_up_headers", "arguments": {}}
        return told(await self.post("tools/call", params, [*headers, ("Mcp-Session-Id", self.session)]))

    async def modern(self, headers: list[tuple[str, str]]) -> Json:
        params = {"name": "mcp_up_headers", "arguments": {}, "_meta": ENVELOPE}
        own = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "mcp_up_headers"}
        return told(await self.post("tools/call", params, [*headers, *own.items()]))

    async def sse(self, headers: list[tuple[str, str]]) -> Json:
        url = f"{self.manifold.base}/sse"
        async with sse_client(url, headers=dict(headers)) as streams, ClientSession(*streams[:2]) as session:
            await session.initialize()
            result = await session.call_tool("mcp_up_headers", {})
            return dict(result.structured_content or {})


def told(answer: Json) -> Json:
    found: Json = answer["result"]["structuredContent"]
    return found


@asynccontextmanager
async def door(folder: Path, *, express: bool = True, **more: Any) -> AsyncIterator[tuple[Door, Guarded]]:
    async with guarded() as upstream:
        home = Home(folder).write(
            {"up": upstream.config(auth=MACHINE, era="auto", **more)}, server={"express": express}
        )
        async with serving(home) as manifold, httpx2.AsyncClient(timeout=PATIENCE) as client:
            await manifold.event("upstream.state", upstream="up", new="ready")
            yield Door(manifold, client), upstream


@pytest.mark.parametrize("express", [True, False], ids=["express", "fastmcp"])
@pytest.mark.parametrize("way", ["handshake", "modern", "sse"])
async def test_a_clients_token_never_travels_on(tmp_path: Path, way: str, express: bool) -> None:
    async with door(tmp_path, express=express, forward_headers=["X-Tenant"]) as (at, upstream):
        call = getattr(at, way)
        headers = await call([*PROOFS.items(), ("X-Tenant", "blue")])
        assert headers["authorization"].removeprefix("Bearer ") in upstream.authority.tokens
        assert headers["x-tenant"] == "blue"
        everything = [value for request in upstream.site.requests for value in request.headers.values()]
        assert not any(INBOUND in value for value in everything)
        assert not any(INBOUND.encode() in request.body for request in upstream.site.requests)


@pytest.mark.parametrize("express", [True, False], ids=["express", "fastmcp"])
@pytest.mark.parametrize("way", ["handshake", "modern"])
async def test_a_header_belongs_to_its_own_request_only(tmp_path: Path, way: str, express: bool) -> None:
    async with door(tmp_path, express=express, forward_headers=["X-Tenant", "X-Other"]) as (at, _):
        call = getattr(at, way)
        assert (await call([("x-tenant", "blue")]))["x-tenant"] == "blue"
        assert "x-tenant" not in await call([])
        assert (await call([("X-TENANT", "red")]))["x-tenant"] == "red"
        assert "x-tenant" not in await call([("X-Tenant", "red"), ("X-Tenant", "blue")])


@pytest.mark.parametrize("express", [True, False], ids=["express", "fastmcp"])
async def test_a_header_belongs_to_its_own_message_in_a_session_of_legacy_sse(tmp_path: Path, express: bool) -> None:
    tenants = ["blue", "", "red", "", "blue", "green"]
    async with (
        door(tmp_path, express=express, forward_headers=["X-Tenant"]) as (at, _),
        legacy(at.manifold) as session,
    ):
        await session.open()
        for number, tenant in enumerate(tenants, 10):
            asked = {"id": number, "method": "tools/call", "params": {"name": "mcp_up_headers", "arguments": {}}}
            headers = {"X-Tenant": tenant} if tenant else {}
            assert await session.post(encoded(asked), **headers) == 202
        found: dict[int, str] = {}
        while len(found) < len(tenants):
            message = await session.next()
            if "result" in message:
                found[message["id"]] = told(message).get("x-tenant", "")
        assert found == dict(enumerate(tenants, 10))


async def test_without_a_list_nothing_is_forwarded(tmp_path: Path) -> None:
    async with door(tmp_path) as (at, _):
        assert "x-tenant" not in await at.modern([("X-Tenant", "blue")])


async def test_results_are_not_shared_across_forwarded_headers(tmp_path: Path) -> None:
    async with door(tmp_path, forward_headers=["X-Tenant"], cache={"ttl": 600}) as (at, upstream):
        for tenant in ("blue", "red", "blue"):
            assert (await at.handshake([("X-Tenant", tenant)]))["x-tenant"] == tenant
        assert upstream.served == 2
