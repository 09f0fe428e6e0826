"""Who is asking: what the gateway knows of the downstream behind a request."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import count
from typing import Any, Final

from mcp.server.connection import Connection
from mcp.server.context import ServerRequestContext

from proxy.gateway import seams
from proxy.gateway.paths import AGENT_KEY
from proxy.model import META_LOG_LEVEL, Caller, Era
from proxy.upstream.pool import canonical

_STATE: Final = "manifold.caller"
_numbers = count(1)


def agent_of(ctx: ServerRequestContext[Any, Any], default: str | None) -> str | None:
    """The agent that the request's URL names; ``default`` where there is no URL (stdio) or it names none."""
    scope = getattr(ctx.request, "scope", None)
    if scope is None:
        return default
    agent: str | None = scope.get(AGENT_KEY, default)
    return agent


def caller_of(ctx: ServerRequestContext[Any, Any], agent: str | None) -> Caller:
    """Describe the downstream of a request to the router."""
    level = _log_level(ctx.params) if Era.of(ctx.protocol_version) is Era.MODERN else None
    return caller_on(seams.connection(ctx), agent, level)


def caller_on(connection: Connection, agent: str | None, log_level: str | None = None) -> Caller:
    """Describe the downstream of a connection: made once per handshake connection, once per modern request."""
    known = connection.state.get(_STATE)
    version = connection.protocol_version
    if isinstance(known, Caller) and known.agent == agent and known.version == version:
        return known
    era = Era.of(version)
    capabilities = seams.capabilities(connection)
    caller = Caller(
        era=era,
        version=version,
        capabilities=capabilities,
        told=canonical(capabilities),
        client_info=seams.client_info(connection),
        agent=agent,
        session=f"d{next(_numbers)}" if era is Era.HANDSHAKE else None,
        log_level=log_level,
    )
    if connection.initialize_accepted:
        connection.state[_STATE] = caller
    return caller


def first_caller(ctx: ServerRequestContext[Any, Any], agent: str | None) -> Caller | None:
    """Who opens a connection, from its very first request; None if that does not tell (a ping before the handshake)."""
    if Era.of(ctx.protocol_version) is Era.MODERN:
        return caller_of(ctx, agent)
    declared = (ctx.params or {}).get("capabilities")
    if ctx.method != "initialize" or not isinstance(declared, Mapping):
        return None
    return Caller(capabilities=declared, told=canonical(declared), agent=agent)


def set_log_level(ctx: ServerRequestContext[Any, Any], caller: Caller, level: str) -> None:
    """What a handshake downstream wants to hear from now on (``logging/setLevel``)."""
    seams.connection(ctx).state[_STATE] = replace(caller, log_level=level)


def _log_level(params: Mapping[str, Any] | None) -> str | None:
    meta = (params or {}).get("_meta")
    level = meta.get(META_LOG_LEVEL) if isinstance(meta, Mapping) else None
    return level if isinstance(level, str) else None
