"""What a login gave: the token, how to renew it, and where. Pure values, as they are kept."""

from typing import Final, TypeAlias

import msgspec

POST: Final = "client_secret_post"
BASIC: Final = "client_secret_basic"
PUBLIC: Final = "none"

Methods: TypeAlias = list[str] | None

SHARE: Final = 0.2
"""The last part of a token's life, in which it is renewed before it has to be."""
MARGIN: Final = 60.0
"""The longest such part, in seconds."""
SKEW: Final = 2.0
"""Seconds before its end in which a token is not used any more: it is on its way for a while."""


class Server(msgspec.Struct, frozen=True, kw_only=True):
    """An authorization server, as it describes itself (RFC 8414, RFC 9207, RFC 8628)."""

    issuer: str
    token_endpoint: str
    authorization_endpoint: str | None = None
    registration_endpoint: str | None = None
    revocation_endpoint: str | None = None
    device_authorization_endpoint: str | None = None
    scopes_supported: Methods = None
    grant_types_supported: Methods = None
    token_endpoint_auth_methods_supported: Methods = None
    code_challenge_methods_supported: Methods = None
    client_id_metadata_document_supported: bool | None = None
    authorization_response_iss_parameter_supported: bool | None = None


class Client(msgspec.Struct, frozen=True, kw_only=True):
    """As whom we are registered at an authorization server."""

    client_id: str
    client_secret: str | None = None
    method: str = PUBLIC
    """How the client proves itself at the token endpoint (RFC 7591)."""
    redirect_uri: str = ""
    """Where a login comes back to; empty where that is free."""
    expires_at: float = 0.0
    """When the secret ends, in seconds since the epoch; 0 never."""


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    """A token and everything that is needed to renew and to revoke it."""

    access_token: str
    server: Server
    client: Client
    refresh_token: str | None = None
    expires_at: float | None = None
    """In seconds since the epoch; None if the server did not say."""
    obtained_at: float = 0.0
    scope: str = ""
    resource: str = ""

    @property
    def header(self) -> str:
        """The value of the Authorization header."""
        return f"Bearer {self.access_token}"

    def is_usable(self, now: float) -> bool:
        """Whether it has not ended yet, as far as is known."""
        return self.expires_at is None or now < self.expires_at - SKEW

    def is_due(self, now: float) -> bool:
        """Whether it is time to renew it."""
        if self.expires_at is None:
            return False
        return now >= self.expires_at - min(MARGIN, SHARE * (self.expires_at - self.obtained_at))


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """What is kept for one login: whose it is, what it gave, and as whom we are registered where."""

    upstream: str
    whose: str = ""
    url: str = ""
    grant: Grant | None = None
    clients: dict[str, Client] = msgspec.field(default_factory=dict)
    """By issuer: a client is never shown to another authorization server (SEP-2352)."""
    refused: str = ""
    """Why the authorization server took the grant back; a new login ends it."""
