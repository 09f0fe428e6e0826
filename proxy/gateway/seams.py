"""Everything private of FastMCP 4.1 and the MCP SDK 2.3 that Manifold touches, and why.

``tests/unit/gateway/test_seams.py`` fails when one of these moves. Nothing else in the package reaches behind a leading
underscore of theirs.
"""

from collections.abc import Callable, Mapping
from typing import Any

from fastmcp import FastMCP
from mcp.server.connection import Connection
from mcp.server.context import ServerMiddleware, ServerRequestContext
from mcp.server.lowlevel.server import Server
from mcp.shared.dispatcher import Outbound
from mcp.shared.exceptions import MCPError
from starlette.applications import Starlette
from starlette.routing import Route


def low_level(server: FastMCP) -> Server[Any]:
    """The SDK server inside a FastMCP server: its public ``middleware`` list is where the relay plugs in."""
    return server._mcp_server  # noqa: SLF001 - FastMCP has no public way to it


def plug_in(server: FastMCP, relay: ServerMiddleware[Any]) -> None:
    """Put the relay before FastMCP's own chain: it answers what is ours, and the rest falls through."""
    low_level(server).middleware.insert(0, relay)


def connection(ctx: ServerRequestContext[Any, Any]) -> Connection:
    """The downstream's connection: one object for a whole handshake session, one per request in the modern era."""
    return ctx.session._connection  # noqa: SLF001 - the session offers typed sends only, which drop unknown fields


def request_channel(ctx: ServerRequestContext[Any, Any]) -> Outbound:
    """The channel that carries raw messages on this request's own stream."""
    return ctx.session._request_outbound  # noqa: SLF001 - same: the public sends re-model what they carry


def capabilities(peer: Connection) -> Mapping[str, Any]:
    """What the downstream declared, as JSON."""
    declared = peer.client_capabilities
    return {} if declared is None else declared.model_dump(by_alias=True, mode="json", exclude_none=True)


def client_info(peer: Connection) -> Mapping[str, Any] | None:
    """How the downstream introduced itself, as JSON."""
    params = peer.client_params
    return None if params is None else params.client_info.model_dump(by_alias=True, mode="json", exclude_none=True)


def session_transports(app: Starlette, path: str) -> Callable[[], Mapping[str, Any]]:
    """The transports of the live handshake sessions by session id, so that the express lane serves no dead one.

    FastMCP makes the manager anew with every lifespan, so it is looked up each time.
    """
    endpoint = next(route.endpoint for route in app.routes if isinstance(route, Route) and route.path == path)
    inner: Any = getattr(endpoint, "app", endpoint)  # behind RequireAuthMiddleware, if there is authentication

    def live() -> Mapping[str, Any]:
        manager = inner.session_manager
        return {} if manager is None else manager._server_instances  # noqa: SLF001 - nothing public tells

    return live


def keep_awake(transport: Any, used: float, *, least: float = 0.0) -> None:
    """The session was used, though not through its transport: push its idle deadline, which costs two timers.

    Args:
        transport: the session's.
        used: when, by the clock of the loop.
        least: not for less than so many seconds, or a tenth of the whole time.
    """
    scope, seconds = transport.idle_scope, transport._idle_timeout  # noqa: SLF001 - nothing public pushes it
    if scope is not None and seconds is not None:
        until = used + seconds
        if until - scope.deadline > min(least, seconds / 10):  # never where there is no deadline: it is infinite
            scope.deadline = until


def event_log(transport: Any, stream: str) -> tuple[Any, str]:
    """Where a session's events are kept, and under which name there; None if they are not."""
    scoped = transport._event_store  # noqa: SLF001 - the transport has it for itself
    if scoped is None:
        return None, stream
    return scoped._event_store, scoped._scope_stream_id(stream)  # noqa: SLF001 - FastMCP's partition by session


def resumed(transport: Any, stream: str) -> Any:
    """The way into a response stream that the downstream has come back for (``Last-Event-ID``), if it has."""
    pair = transport._request_streams.get(stream)  # noqa: SLF001 - nothing public tells
    return None if pair is None else pair[0]


__all__ = [
    "MCPError",
    "capabilities",
    "client_info",
    "connection",
    "event_log",
    "keep_awake",
    "low_level",
    "plug_in",
    "request_channel",
    "resumed",
    "session_transports",
]
