"""Everything private of FastMCP 4.1 and the MCP SDK 2.3 that Manifold touches, and why.

``tests/unit/gateway/test_seams.py`` fails when one of these moves. Nothing else in the package reaches behind a leading
underscore of theirs.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from fastmcp import FastMCP
from fastmcp.server.session_scoped_event_store import SessionScopedEventStore
from mcp.server.auth.middleware.bearer_auth import AuthenticatedUser, authorization_context
from mcp.server.connection import Connection
from mcp.server.context import ServerMiddleware, ServerRequestContext
from mcp.server.lowlevel.server import Server
from mcp.server.streamable_http import EventStore
from mcp.shared.dispatcher import Outbound
from mcp.shared.exceptions import MCPError
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.routing import Route

from proxy.gateway.silent import Silent


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
    return {} if declared is None else dumped(declared)


def dumped(model: BaseModel) -> dict[str, Any]:
    """What a downstream said of itself, as JSON."""
    return model.model_dump(by_alias=True, mode="json", exclude_none=True)


def client_info(peer: Connection) -> Mapping[str, Any] | None:
    """How the downstream introduced itself, as JSON."""
    params = peer.client_params
    return None if params is None else dumped(params.client_info)


def session_transports(app: Starlette, path: str) -> Callable[[], Mapping[str, Any]]:
    """The transports of the live handshake sessions by session id, so that the express lane serves no dead one.

    FastMCP makes the manager anew with every lifespan, so it is looked up each time.
    """
    inner = _endpoint(app, path)

    def live() -> Mapping[str, Any]:
        manager = inner.session_manager
        return {} if manager is None else manager._server_instances  # noqa: SLF001 - nothing public tells

    return live


def _endpoint(app: Starlette, path: str) -> Any:
    endpoint = next(route.endpoint for route in app.routes if isinstance(route, Route) and route.path == path)
    return getattr(endpoint, "app", endpoint)  # behind RequireAuthMiddleware, if there is authentication


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


def events_of(transport: Any) -> EventStore | None:
    """Where a session's events are kept; None if they are not."""
    store: EventStore | None = transport._event_store  # noqa: SLF001 - the transport has it for itself
    return store


def scoped_events(events: EventStore | None, session_id: str) -> EventStore | None:
    """The part of one session, as FastMCP parts events by session; None if they are not kept."""
    return None if events is None else SessionScopedEventStore(events, session_id=session_id)


def event_log(store: Any, stream: str) -> tuple[Any, str]:
    """Where the events behind a session's part are, and under which name there a stream of it is."""
    return store._event_store, store._scope_stream_id(stream)  # noqa: SLF001 - FastMCP's partition by session


def resumed(transport: Any, stream: str) -> Any:
    """The way into a response stream that the downstream has come back for (``Last-Event-ID``), if it has."""
    pair = transport._request_streams.get(stream)  # noqa: SLF001 - nothing public tells
    return None if pair is None else pair[0]


def idle_scopes(transports: Iterable[Any]) -> list[Any]:
    """The scopes, each with a deadline, of the sessions in which nothing goes on; cancelling one ends its session."""
    scopes = (transport.idle_scope for transport in transports)
    return [one for one in scopes if one is not None and one.deadline < math.inf and not one.cancel_called]


def leaving(transports: Iterable[Any]) -> int:
    """How many of the sessions were ended by their scopes and are on their way out."""
    scopes = (transport.idle_scope for transport in transports)
    return sum(one is not None and one.cancel_called for one in scopes)


class Reviver:
    """Opens SDK sessions under ids that are known already. FastMCP makes the manager anew with every lifespan.

    Args:
        app: the ASGI app with the endpoint.
        path: the endpoint.
    """

    def __init__(self, app: Starlette, path: str) -> None:
        self._endpoint = _endpoint(app, path)

    async def revive(self, session_id: str, store: EventStore | None, hello: Silent) -> bool:
        """Let the SDK open a session with an ``initialize``; False if it would not.

        Args:
            session_id: its id.
            store: where its events are kept.
            hello: the request, in the name of whom the session belongs to.
        """
        manager = self._endpoint.session_manager
        user = hello.scope.get("user")
        requestor = authorization_context(user) if isinstance(user, AuthenticatedUser) else None
        transport = None if manager is None else manager._admit_session(requestor)  # noqa: SLF001 - ids are its own
        if transport is None:
            return False
        for known in (manager._server_instances, manager._session_owners):  # noqa: SLF001 - same
            if transport.mcp_session_id in known:
                known[session_id] = known.pop(transport.mcp_session_id)
        transport.mcp_session_id = session_id
        transport._event_store = store  # noqa: SLF001 - what was kept before must be found
        await manager._serve_opening_request(transport, hello.scope, hello.receive, hello.send)  # noqa: SLF001 - same
        return session_id in manager._server_instances  # noqa: SLF001 - same


__all__ = [
    "MCPError",
    "Reviver",
    "capabilities",
    "client_info",
    "connection",
    "dumped",
    "event_log",
    "events_of",
    "idle_scopes",
    "keep_awake",
    "leaving",
    "low_level",
    "plug_in",
    "request_channel",
    "resumed",
    "scoped_events",
    "session_transports",
]
