"""Everything private of FastMCP and the SDK that ``proxy/gateway/seams.py`` touches is still there, as it needs it."""

import json
import math
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import anyio
import fastmcp
import httpx2
import mcp_types
import pytest
from fastmcp import FastMCP
from mcp.server.connection import Connection
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel.server import Server
from mcp.shared.dispatcher import Outbound

from proxy.gateway import seams
from proxy.gateway.resume import Events
from proxy.gateway.silent import Silent

Context = ServerRequestContext[Any, Any]


@asynccontextmanager
async def asked(look: Callable[[Context], Any], mode: str) -> AsyncIterator[list[Any]]:
    """What a middleware, put where the relay is, finds when a client of an era lists tools."""
    found: list[Any] = []
    server = FastMCP("seams")

    async def middleware(ctx: Context, call_next: Any) -> Any:
        if ctx.method == "tools/list":
            found.append(look(ctx))
        return await call_next(ctx)

    seams.plug_in(server, middleware)
    info = mcp_types.Implementation(name="looker", version="3")
    async with fastmcp.Client(server, mode=mode, client_info=info, roots=["file:///x"]) as client:
        await client.list_tools()
        yield found


ERAS = pytest.mark.parametrize("mode", ["legacy", "auto"])


def test_the_low_level_server_is_the_sdks_and_takes_middleware_and_a_schema_look_up() -> None:
    low = seams.low_level(FastMCP("seams"))
    assert isinstance(low, Server)
    assert isinstance(low.middleware, list)
    assert hasattr(low, "get_tool_input_schema")


def test_the_relay_is_the_first_middleware() -> None:
    server = FastMCP("seams")

    async def relay(ctx: Any, call_next: Any) -> Any:
        return await call_next(ctx)

    seams.plug_in(server, relay)
    assert seams.low_level(server).middleware[0] is relay


@ERAS
async def test_a_request_leads_to_its_connection(mode: str) -> None:
    async with asked(seams.connection, mode) as (connection,):
        assert isinstance(connection, Connection)
        assert isinstance(connection.state, dict)
        assert connection.initialize_accepted
        assert callable(connection.notify)
        assert hasattr(connection, "exit_stack")


@ERAS
async def test_a_request_leads_to_its_own_channel(mode: str) -> None:
    async with asked(seams.request_channel, mode) as (channel,):
        assert isinstance(channel, Outbound)
        assert callable(channel.notify)
        assert callable(channel.send_raw_request)


@ERAS
async def test_a_connection_tells_who_the_downstream_is_and_what_it_can_do(mode: str) -> None:
    def both(ctx: Context) -> tuple[Any, Any]:
        connection = seams.connection(ctx)
        return seams.client_info(connection), seams.capabilities(connection)

    async with asked(both, mode) as ((info, capabilities),):
        assert (info["name"], info["version"]) == ("looker", "3")
        assert "roots" in capabilities


async def test_the_live_sessions_of_an_app_can_be_looked_up() -> None:
    app = FastMCP("seams").http_app("/mcp")
    live = seams.session_transports(app, "/mcp")
    assert live() == {}
    async with app.router.lifespan_context(app):
        transport = httpx2.ASGITransport(app=app)
        async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as web:
            hello = await web.post("/mcp", json=HELLO, headers={"Accept": "application/json, text/event-stream"})
        (found,) = live().items()
        assert found[0] == hello.headers["mcp-session-id"]
        assert seams.resumed(found[1], "nothing") is None
        assert seams.events_of(found[1]) is None
        seams.keep_awake(found[1], anyio.current_time())
    assert live() == {}


HELLO = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "raw", "version": "1"}},
}


async def test_the_sdk_opens_a_session_under_an_id_that_is_known_already() -> None:
    app = FastMCP("seams").http_app("/mcp", event_store=Events())
    live, reviver = seams.session_transports(app, "/mcp"), seams.Reviver(app, "/mcp")
    store = seams.scoped_events(Events(), "known")
    scope = {"type": "http", "method": "GET", "path": "/mcp", "headers": [(b"host", b"127.0.0.1")]}
    hello = Silent(scope, json.dumps(HELLO).encode())
    assert not await reviver.revive("known", store, hello), "there is no manager yet"
    async with app.router.lifespan_context(app):
        assert await reviver.revive("known", store, hello)
        assert hello.status == 200
        ((session_id, transport),) = live().items()
        assert (session_id, transport.mcp_session_id) == ("known", "known")
        assert seams.events_of(transport) is store
        assert seams.event_log(store, "stream")[1].endswith("stream")
        assert [one.deadline < math.inf for one in seams.idle_scopes(live().values())] == [True]
        assert seams.leaving(live().values()) == 0
        transport.idle_scope.cancel()
        assert seams.leaving(live().values()) == 1


async def test_a_used_session_is_kept_awake() -> None:
    scope = anyio.CancelScope(deadline=anyio.current_time() + 1)
    seams.keep_awake(SimpleNamespace(idle_scope=scope, _idle_timeout=1000), anyio.current_time())
    endless = anyio.CancelScope()
    seams.keep_awake(SimpleNamespace(idle_scope=endless, _idle_timeout=1000), anyio.current_time())
    assert scope.deadline - anyio.current_time() > 500
    assert endless.deadline == math.inf
