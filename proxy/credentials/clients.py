"""As whom Manifold asks somebody to log in: a configured client, a metadata document, or a registration (RFC 7591)."""

import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final

import msgspec

from proxy.config.outbound import AuthConfig
from proxy.credentials.fetch import Fetcher
from proxy.credentials.grant import BASIC, POST, PUBLIC, Client, Methods, Server
from proxy.credentials.tokens import configured
from proxy.errors import AuthRequired, Unavailable

NAME: Final = "Manifold"
DEVICE_GRANT: Final = "urn:ietf:params:oauth:grant-type:device_code"
_GRANTS: Final = ("authorization_code", "refresh_token")


class _Registered(msgspec.Struct, frozen=True, kw_only=True):
    """A registration answer (RFC 7591, section 3.2.1): the server may have chosen otherwise than it was asked."""

    client_id: str
    client_secret: str | None = None
    client_secret_expires_at: float = 0.0
    token_endpoint_auth_method: str | None = None
    redirect_uris: Methods = None


def fitting(kept: Mapping[str, Client], server: Server) -> Client | None:
    """The registration at a server that was kept, if it still holds. Never that at another one."""
    client = kept.get(server.issuer)
    return client if client is not None and not 0 < client.expires_at <= time.time() else None


async def client_at(
    fetcher: Fetcher, auth: AuthConfig, server: Server, redirect_uri: str, *, device: bool = False
) -> Client:
    """The client to log in as; registered if need be.

    Raises:
        AuthRequired: there is none, and none can be had.
        Unavailable: the server cannot say now.
    """
    if (known := configured(auth, server)) is not None:
        return msgspec.structs.replace(known, redirect_uri=redirect_uri)
    if auth.client_metadata_url is not None and server.client_id_metadata_document_supported:
        return Client(client_id=auth.client_metadata_url, redirect_uri=redirect_uri)
    if server.registration_endpoint is None:
        raise AuthRequired(
            f"{server.issuer} registers no clients by itself",
            upstream=fetcher.upstream,
            hint=f"Register one there with the redirect URI {redirect_uri}, and set auth.client_id.",
        )
    return await _register(fetcher, server.registration_endpoint, redirect_uri, device=device)


async def _register(fetcher: Fetcher, where: str, redirect_uri: str, *, device: bool) -> Client:
    wanted = {
        "client_name": NAME,
        "redirect_uris": [redirect_uri],
        "grant_types": [*_GRANTS, *([DEVICE_GRANT] if device else [])],
        "response_types": ["code"],
        "token_endpoint_auth_method": PUBLIC,
        "application_type": "native",
    }
    answer = await fetcher.json(where, wanted)
    if answer.status not in (HTTPStatus.OK, HTTPStatus.CREATED):
        kind = Unavailable if answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR else AuthRequired
        raise kind(f"its authorization server does not register us (HTTP {answer.status})", upstream=fetcher.upstream)
    got = answer.read(_Registered)
    method = (got.token_endpoint_auth_method or (PUBLIC if not got.client_secret else BASIC)) if got else ""
    if got is None or method not in (PUBLIC, POST, BASIC) or (method != PUBLIC and not got.client_secret):
        raise AuthRequired("its authorization server registers us as a client of no use", upstream=fetcher.upstream)
    return Client(
        client_id=got.client_id,
        client_secret=got.client_secret,
        method=method,
        redirect_uri=redirect_uri,
        expires_at=got.client_secret_expires_at if got.client_secret else 0.0,
    )
