"""``Mcp-Param`` headers are checked against the tools that this caller sees, also those that are shown to it alone."""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import httpx2
import pytest
from starlette.types import Receive, Scope, Send

from proxy.gateway.paths import PRINCIPAL_KEY
from proxy.gateway.server import Gateway
from proxy.model import Principal, UpstreamState
from tests.support.authority import guarded
from tests.support.logins import logged_in
from tests.support.running import PATIENCE, running

AUTH = {"type": "oauth", "per": "principal"}
VERSION = "2026-07-28"
META = {
    "io.modelcontextprotocol/protocolVersion": VERSION,
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "raw", "version": "1"},
}


@asynccontextmanager
async def door(tmp_path: Path, *, express: bool) -> AsyncIterator[httpx2.AsyncClient]:
    """A client of whom the guard has found out that she is ada."""
    async with guarded() as upstream:
        upstream.private = True
        for who, whose in (("operator", ""), ("ada", "principal ada")):
            upstream.authority.person = who
            await logged_in(upstream, tmp_path, whose=whose, auth=AUTH)
        async with running({"up": upstream.config(auth=AUTH)}, tmp_path, server={"express": express}) as manifold:
            await manifold.status("up", UpstreamState.READY)
            app = Gateway(manifold.runtime).http_app()

            async def as_ada(scope: Scope, receive: Receive, send: Send) -> None:
                await app({**scope, PRINCIPAL_KEY: Principal("ada")}, receive, send)

            transport = httpx2.ASGITransport(app=as_ada)
            async with (
                app._lifespan(app._life),
                httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1:8300") as client,
            ):
                yield client


async def called(client: httpx2.AsyncClient, **headers: str) -> tuple[int, str]:
    params = {"name": "mcp_up_only_ada", "arguments": {"room": "blue"}, "_meta": META}
    message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
    every = {
        "Accept": "application/json, text/event-stream",
        "Content-Type": "application/json",
        "MCP-Protocol-Version": VERSION,
        "Mcp-Method": "tools/call",
        "Mcp-Name": "mcp_up_only_ada",
        **headers,
    }
    answer = await client.post("/mcp", content=json.dumps(message), headers=every)
    return answer.status_code, answer.text


@pytest.mark.parametrize("express", [True, False], ids=["lane", "no lane"])
async def test_a_header_that_does_not_fit_is_refused_for_a_tool_of_one_s_own(tmp_path: Path, *, express: bool) -> None:
    async with door(tmp_path, express=express) as client:
        with anyio.fail_after(PATIENCE):
            for _ in range(2):
                status, text = await called(client, **{"Mcp-Param-Room": "blue"})
                assert (status, "ada" in text) == (200, True)
                status, text = await called(client, **{"Mcp-Param-Room": "red"})
                assert status == 400
                assert json.loads(text)["error"]["code"] == -32020
