"""Signed tokens (JWT, RFC 7519 and 9068): which issuers are trusted, verified by FastMCP's verifier.

Checked here besides: that a token has an end, that its time has begun, who it says it is, and the agents it is bound
to. The audience is always checked: a token that was issued for somebody else is refused (MCP, authorization: token
passthrough).
"""

import base64
import binascii
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeGuard

import msgspec
import structlog
from fastmcp.server.auth import TokenVerifier

from proxy.config.inbound import JwtConfig
from proxy.config.model import Config
from proxy.model import Principal

log = structlog.get_logger(__name__)

_PARTS: Final = 3
_SHOWN: Final = 100
_LATEST: Final = 1e15
"""Seconds since the epoch."""
_NAMES: Final = ("preferred_username", "name", "email")
_CLIENTS: Final = ("client_id", "azp")


@dataclass(frozen=True, slots=True)
class Verified:
    """A signed token that is good."""

    principal: Principal
    expires: float
    """Seconds since the epoch."""


@dataclass(frozen=True, slots=True)
class _Issuer:
    config: JwtConfig
    verifiers: Mapping[str, TokenVerifier]
    """By algorithm: each takes one."""


class Issuers:
    """All issuers of a configuration.

    Args:
        config: which there are.
        now: seconds since the epoch.
    """

    def __init__(self, config: Config, now: Callable[[], float] = time.time) -> None:
        self._now = now
        self._doors = resources(config)
        self._issuers = [_issuer(one, one.audience or tuple(self._doors)) for one in config.auth.jwt]

    def stands(self, who: str) -> bool:
        """Whether the issuer of somebody, as ``issuer#subject``, is trusted."""
        return any(who.startswith(f"{one.config.issuer}#") for one in self._issuers)

    def may_know(self, token: bytes) -> bool:
        """Whether something may be a signed token of a trusted issuer."""
        return bool(self._issuers) and token.count(b".") == _PARTS - 1

    async def verify(self, token: bytes) -> Verified | tuple[str, ...] | None:
        """Who a token says its bearer is; the scopes that it would need and lacks; or None if it is not good."""
        text = token.decode("latin-1")
        algorithm, issuer = _said(text)
        for one in self._issuers:
            verifier = one.verifiers.get(algorithm)
            if verifier is None or one.config.issuer != issuer:
                continue
            try:
                found = await verifier.verify_token(text)
            except (RecursionError, OverflowError):  # nested too deeply, or a time that is no time
                found = None
            if found is not None:
                if missing := set(one.config.required_scopes) - set(found.scopes):
                    log.info("downstream.token.scopes", issuer=issuer, missing=sorted(missing))
                    return tuple(one.config.required_scopes)
                return self._verified(one.config, found.claims, found.scopes)
        return None

    def _verified(self, config: JwtConfig, claims: Mapping[str, Any], scopes: Sequence[str]) -> Verified | None:
        expires, begins = claims.get("exp"), claims.get("nbf", 0)
        if not _is_time(expires) or not _is_time(begins) or self._now() < begins - config.leeway:
            log.info("downstream.token.refused", issuer=config.issuer, reason="its time is not now, or has no end")
            return None
        who, agents = _who(claims), _agents(config, claims)
        if agents is not None and not config.audience:
            agents = (*agents, *self._doors_of(claims))
        if who is None or agents is None:
            reason = "it names nobody" if who is None else f"its claim {config.agents_claim} names no agents"
            log.info("downstream.token.refused", issuer=config.issuer, reason=reason)
            return None
        agents = tuple(dict.fromkeys(agents))
        principal = Principal(f"jwt:{config.issuer}#{who}", agents, frozenset(map(str, scopes)), _name(claims))
        return Verified(principal, float(expires))

    def _doors_of(self, claims: Mapping[str, Any]) -> tuple[str, ...]:
        """The agents through whose doors alone a token may come, by the doors that it was issued for."""
        said = claims.get("aud")
        named = [one for one in (said if isinstance(said, list) else [said]) if isinstance(one, str)]
        found = [self._doors[one] for one in named if one in self._doors]
        return () if None in found else tuple(one for one in found if one is not None)


def resources(config: Config) -> Mapping[str, str | None]:
    """The URLs of Manifold's own doors, as its clients know them, and whose each is; none if nothing says so."""
    oauth = config.auth.oauth
    if oauth is None:
        return {}
    base = oauth.url.rstrip("/")
    doors: dict[str, str | None] = {base: None, **{f"{base}/agents/{name}": name for name in config.agents}}
    paths = (config.server.path, "/sse")
    return {base: None, f"{base}/": None} | {f"{door}{path}": who for door, who in doors.items() for path in paths}


def _issuer(config: JwtConfig, audience: Sequence[str]) -> _Issuer:
    from proxy.gateway.keysets import BoundedVerifier  # noqa: PLC0415 - 13 ms that only who has issuers needs

    key = None if config.public_key is None else config.public_key.get_secret_value()
    return _Issuer(
        config,
        {
            algorithm: BoundedVerifier(
                public_key=key,
                jwks_uri=config.jwks_url,
                issuer=config.issuer,
                audience=list(audience),
                algorithm=algorithm,
                jwks_refresh_interval=config.keys_interval,
            )
            for algorithm in config.algorithms
        },
    )


def _said(token: str) -> tuple[str, str]:
    """Algorithm and issuer as the token names them; nothing of it is proved yet."""
    parts = token.split(".")
    try:
        header, claims = (msgspec.json.decode(_unpadded(part)) for part in parts[:2])
        return str(header["alg"]), str(claims["iss"])
    except (ValueError, binascii.Error, msgspec.MsgspecError, KeyError, TypeError, RecursionError):
        return "", ""


def _unpadded(part: str) -> bytes:
    return base64.urlsafe_b64decode(part + "=" * (-len(part) % 4))


def _is_time(value: Any) -> TypeGuard[float]:
    # Neither what is no number nor what no number of seconds can be: arithmetic with it would fail.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LATEST


def _who(claims: Mapping[str, Any]) -> str | None:
    """The subject, or the client where a token belongs to a client itself. No subject can be called like a client."""
    subject = claims.get("sub")
    if isinstance(subject, str) and subject:
        return f"user:{subject}" if subject.startswith(("client:", "user:")) else subject
    client = next((claims[name] for name in _CLIENTS if isinstance(claims.get(name), str) and claims[name]), None)
    return None if client is None else f"client:{client}"


def _agents(config: JwtConfig, claims: Mapping[str, Any]) -> tuple[str, ...] | None:
    if config.agents_claim is None:
        return ()
    found = claims.get(config.agents_claim)
    names = [found] if isinstance(found, str) else found
    if not isinstance(names, list) or not names or not all(isinstance(one, str) and one for one in names):
        return None
    return tuple(names)


def _name(claims: Mapping[str, Any]) -> str:
    found = next((claims[name] for name in _NAMES if isinstance(claims.get(name), str)), "")
    return "".join(filter(str.isprintable, found))[:_SHOWN]
