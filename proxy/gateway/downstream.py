"""Who is asking: what the gateway knows of the downstream behind a request."""

from collections.abc import Mapping
from itertools import count
from typing import Any, Final, NamedTuple

from mcp.server.connection import Connection
from mcp.server.context import ServerRequestContext
from msgspec.structs import replace

from proxy.errors import INVALID_PARAMS, Rejected
from proxy.gateway import seams
from proxy.gateway.paths import AGENT_KEY, PRINCIPAL_KEY
from proxy.model import ANONYMOUS, META_LOG_LEVEL, Caller, Era, Principal
from proxy.upstream.pool import canonical
from proxy.upstream.session import LEVELS

_STATE: Final = "manifold.caller"
_numbers = count(1)


class Who(NamedTuple):
    """Whom a request is from."""

    agent: str | None
    """All agents that apply, joined."""
    principal: Principal = ANONYMOUS


class Introduced(NamedTuple):
    """What a handshake downstream has said of itself, as JSON."""

    capabilities: Mapping[str, Any]
    told: str
    client_info: Mapping[str, Any]


def who_in(scope: Mapping[str, Any], default: str | None = None) -> Who:
    """Whom an HTTP request is from; ``default`` is the agent of an app that was not told of agents."""
    return Who(scope.get(AGENT_KEY, default), scope.get(PRINCIPAL_KEY, ANONYMOUS))


def who_of(ctx: ServerRequestContext[Any, Any], default: str | None) -> Who:
    """Whom a request is from; on stdio, where nobody proves anything, ``default`` is the agent."""
    scope = getattr(ctx.request, "scope", None)
    return Who(default) if scope is None else who_in(scope, default)


def caller_of(ctx: ServerRequestContext[Any, Any], who: Who) -> Caller:
    """Describe the downstream of a request to the router."""
    level = _log_level(ctx.params) if Era.of(ctx.protocol_version) is Era.MODERN else None
    return caller_on(seams.connection(ctx), who, level)


def caller_on(connection: Connection, who: Who, log_level: str | None = None) -> Caller:
    """Describe the downstream of a connection: made once per handshake connection, once per modern request."""
    known = connection.state.get(_STATE)
    version = connection.protocol_version
    if isinstance(known, Caller) and known.version == version and known.agent == who.agent:
        if known.principal is who.principal or known.principal == who.principal:
            return known
        if known.principal.id == who.principal.id:
            known = connection.state[_STATE] = known_as(known, who.principal)
            return known
    era = Era.of(version)
    capabilities = seams.capabilities(connection)
    caller = Caller(
        era=era,
        version=version,
        capabilities=capabilities,
        told=canonical(capabilities),
        client_info=seams.client_info(connection),
        agent=who.agent,
        principal=who.principal,
        session=_number() if era is Era.HANDSHAKE else None,
        log_level=log_level,
    )
    if connection.initialize_accepted:
        connection.state[_STATE] = caller
    return caller


def known_as(caller: Caller, principal: Principal) -> Caller:
    """The same downstream with a new token of the same user."""
    return caller if caller.principal == principal else replace(caller, principal=principal)


def newcomer(version: str, introduced: Introduced, who: Who) -> Caller:
    """Describe a downstream that has just introduced itself on a handshake session."""
    return Caller(
        version=version,
        capabilities=introduced.capabilities,
        told=introduced.told,
        client_info=introduced.client_info,
        agent=who.agent,
        principal=who.principal,
        session=_number(),
    )


def adopt(connection: Connection, caller: Caller) -> None:
    """From now on this is the downstream of a connection."""
    connection.state[_STATE] = caller


def _number() -> str:
    return f"d{next(_numbers)}"


def first_caller(ctx: ServerRequestContext[Any, Any], who: Who) -> Caller | None:
    """Who opens a connection, from its very first request; None if that does not tell (a ping before the handshake)."""
    if Era.of(ctx.protocol_version) is Era.MODERN:
        return caller_of(ctx, who)
    declared = (ctx.params or {}).get("capabilities")
    if ctx.method != "initialize" or not isinstance(declared, Mapping):
        return None
    return Caller(capabilities=declared, told=canonical(declared), agent=who.agent)


def set_log_level(ctx: ServerRequestContext[Any, Any], caller: Caller) -> None:
    """What a handshake downstream wants to hear from now on (``logging/setLevel``)."""
    seams.connection(ctx).state[_STATE] = at_level(caller, ctx.params or {})


def at_level(caller: Caller, params: Mapping[str, Any]) -> Caller:
    """The same downstream, which wants to hear of a level from now on.

    Raises:
        Rejected: there is no such level.
    """
    level = params.get("level")
    if level not in LEVELS:
        raise Rejected(INVALID_PARAMS, f"logging/setLevel: params.level must be one of {', '.join(LEVELS)}")
    return replace(caller, log_level=level)


def _log_level(params: Mapping[str, Any] | None) -> str | None:
    meta = (params or {}).get("_meta")
    level = meta.get(META_LOG_LEVEL) if isinstance(meta, Mapping) else None
    return level if isinstance(level, str) else None
