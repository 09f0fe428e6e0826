"""The token endpoint: asking for tokens, renewing them, giving them back; and what its refusals mean."""

import base64
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final
from urllib.parse import quote

import msgspec
import structlog

from proxy.config.outbound import AuthConfig
from proxy.credentials.fetch import Answer, Fetcher
from proxy.credentials.grant import BASIC, POST, PUBLIC, Client, Grant, Server
from proxy.errors import AuthRequired, Unavailable, UpstreamError

log = structlog.get_logger(__name__)

_FINAL: Final = frozenset(
    {
        *("invalid_grant", "invalid_client", "unauthorized_client", "unsupported_grant_type"),
        *("invalid_scope", "invalid_target", "access_denied", "expired_token"),
    }
)
"""Errors that asking again does not change (RFC 6749 section 5.2, RFC 8707, RFC 8628)."""
PENDING: Final = frozenset({"authorization_pending", "slow_down"})
"""Errors of a device login that has not been confirmed yet."""


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """A token answer (RFC 6749, section 5.1)."""

    access_token: str
    token_type: str = "Bearer"  # noqa: S105 - a kind, no token
    expires_in: float | None = None
    refresh_token: str | None = None
    scope: str | None = None


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """An error answer (RFC 6749, section 5.2)."""

    error: str
    error_description: str = ""


class Denied(AuthRequired):
    """The authorization server said no for good. ``error`` is its word for why."""

    error: str = ""


class Pending(Unavailable):
    """A device login has not been confirmed yet. ``error`` is the server's word."""

    error: str = ""


async def ask(fetcher: Fetcher, server: Server, client: Client, fields: Mapping[str, str]) -> Tokens:
    """Send a grant to the token endpoint.

    Raises:
        Denied: it is not taken, and will not be.
        Pending: a device login is still to be confirmed.
        Unavailable: nobody knows; ask again later.
    """
    form, headers = proof(client, fields)
    answer = await fetcher.form(server.token_endpoint, form, headers)
    if answer.status == HTTPStatus.OK:
        tokens = answer.read(Tokens)
        if tokens is None or not tokens.access_token.isprintable() or not tokens.access_token.isascii():
            raise Unavailable("its authorization server gives an answer without a token", upstream=fetcher.upstream)
        if tokens.token_type.lower() != "bearer":
            raise AuthRequired("its authorization server gives tokens of another type", upstream=fetcher.upstream)
        return tokens
    raise _refusal(fetcher, answer)


def proof(client: Client, fields: Mapping[str, str]) -> tuple[dict[str, str], dict[str, str]]:
    """Fields and headers that say which client asks (RFC 6749, section 2.3.1)."""
    if client.client_secret is not None and client.method == BASIC:
        pair = f"{quote(client.client_id, safe='')}:{quote(client.client_secret, safe='')}"
        return dict(fields), {"Authorization": f"Basic {base64.b64encode(pair.encode()).decode()}"}
    own = {"client_id": client.client_id}
    if client.client_secret is not None and client.method == POST:
        own["client_secret"] = client.client_secret
    return {**fields, **own}, {}


def configured(auth: AuthConfig, server: Server) -> Client | None:
    """The client that the configuration names, and how it proves itself at that server."""
    if auth.client_id is None:
        return None
    if auth.client_secret is None:
        return Client(client_id=auth.client_id)
    methods = server.token_endpoint_auth_methods_supported or [BASIC]  # RFC 8414: what is left out means basic
    method = BASIC if BASIC in methods or POST not in methods else POST
    return Client(client_id=auth.client_id, client_secret=auth.client_secret.get_secret_value(), method=method)


def granted(tokens: Tokens, server: Server, client: Client, old: Grant | None = None, *, resource: str = "") -> Grant:
    """What a token answer gives; what it leaves out stays as it was (RFC 6749, section 6)."""
    now = time.time()
    return Grant(
        access_token=tokens.access_token,
        server=server,
        client=client,
        refresh_token=tokens.refresh_token or (old.refresh_token if old else None),
        expires_at=None if tokens.expires_in is None else now + tokens.expires_in,
        obtained_at=now,
        scope=tokens.scope or (old.scope if old else ""),
        resource=old.resource if old else resource,
    )


async def refreshed(fetcher: Fetcher, grant: Grant) -> Grant:
    """Renew a grant with its refresh token. Raises as ``ask`` does."""
    fields = {"grant_type": "refresh_token", "refresh_token": grant.refresh_token or ""}
    if grant.resource:
        fields["resource"] = grant.resource
    return granted(await ask(fetcher, grant.server, grant.client, fields), grant.server, grant.client, grant)


async def revoke(fetcher: Fetcher, grant: Grant) -> bool:
    """Give a grant back (RFC 7009); false where that is not offered or did not succeed."""
    where = grant.server.revocation_endpoint
    if where is None:
        return False
    done = True
    for kind, token in (("refresh_token", grant.refresh_token), ("access_token", grant.access_token)):
        if token is None:
            continue
        form, headers = proof(grant.client, {"token": token, "token_type_hint": kind})
        try:
            answer = await fetcher.form(where, form, headers)
        except UpstreamError as error:
            log.warning("credentials.not_revoked", upstream=fetcher.upstream, reason=error.message)
            return False
        done = done and answer.status == HTTPStatus.OK
    return done


def _refusal(fetcher: Fetcher, answer: Answer) -> UpstreamError:
    """A refusal in words of ours. Only an OAuth error is one; anything else may be somebody on the way."""
    fault = answer.read(Fault) if HTTPStatus.BAD_REQUEST <= answer.status < HTTPStatus.INTERNAL_SERVER_ERROR else None
    if fault is None or fault.error not in _FINAL | PENDING:
        what = f"{fault.error[:60]}, " if fault else ""
        text = f"its authorization server gives no token now ({what}HTTP {answer.status})"
        return Unavailable(text, upstream=fetcher.upstream)
    words = "".join(one if one.isprintable() else " " for one in fault.error_description)[:200]
    text = f"its authorization server refuses: {fault.error}{f' ({words})' if words else ''}"
    error: Denied | Pending = (Pending if fault.error in PENDING else Denied)(text, upstream=fetcher.upstream)
    error.error = fault.error
    return error


__all__ = ["PUBLIC", "Denied", "Pending", "Tokens", "ask", "configured", "granted", "refreshed", "revoke"]
