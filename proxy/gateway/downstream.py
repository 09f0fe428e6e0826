"""Who is asking: what the gateway knows of the downstream behind a request."""

from collections.abc import Mapping
from dataclasses import replace
from itertools import count
from typing import Any, Final

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
    """Describe the downstream to the router. Made once per handshake connection, once per modern request."""
    connection = seams.connection(ctx)
    known = connection.state.get(_STATE)
    if isinstance(known, Caller) and known.agent == agent and known.version == ctx.protocol_version:
        return known
    era = Era.of(ctx.protocol_version)
    capabilities = seams.capabilities(ctx)
    caller = Caller(
        era=era,
        version=ctx.protocol_version,
        capabilities=capabilities,
        told=canonical(capabilities),
        client_info=seams.client_info(ctx),
        agent=agent,
        session=f"d{next(_numbers)}" if era is Era.HANDSHAKE else None,
        log_level=_log_level(ctx.params) if era is Era.MODERN else None,
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
