"""What a configuration says about how Manifold proves itself to an upstream, and for whom."""

import re
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from typing import Any, Final, Self

from pydantic import Field, SecretStr, model_validator

from proxy.config.base import Model, validated
from proxy.config.rules import HEADER_NAME, KEY, Fault, header_faults, url_fault
from proxy.config.suggest import did_you_mean
from proxy.config.units import Whole


class AuthKind(StrEnum):
    """How Manifold gets the token that it shows to an upstream."""

    OAUTH = "oauth"
    CLIENT_CREDENTIALS = "client_credentials"
    BEARER = "bearer"


class Per(StrEnum):
    """Whose login is used for a call: one for all, one for each agent, or one for each principal."""

    SHARED = "shared"
    AGENT = "agent"
    PRINCIPAL = "principal"


_MEANT: Final[Mapping[str, frozenset[str]]] = {
    "token": frozenset({AuthKind.BEARER}),
    "token_url": frozenset({AuthKind.CLIENT_CREDENTIALS}),
    "client_id": frozenset({AuthKind.OAUTH, AuthKind.CLIENT_CREDENTIALS}),
    "client_secret": frozenset({AuthKind.OAUTH, AuthKind.CLIENT_CREDENTIALS}),
    "scopes": frozenset({AuthKind.OAUTH, AuthKind.CLIENT_CREDENTIALS}),
    "resource": frozenset({AuthKind.OAUTH, AuthKind.CLIENT_CREDENTIALS}),
    "issuer": frozenset({AuthKind.OAUTH, AuthKind.CLIENT_CREDENTIALS}),
    "redirect_port": frozenset({AuthKind.OAUTH}),
    "client_metadata_url": frozenset({AuthKind.OAUTH}),
    "per": frozenset({AuthKind.OAUTH}),
}
"""Option -> the kinds that it means something for."""

_CURSOR: Final[Mapping[str, str]] = {"CLIENT_ID": "client_id", "CLIENT_SECRET": "client_secret"}

_NEEDED: Final[Mapping[str, tuple[str, ...]]] = {
    AuthKind.OAUTH: (),
    AuthKind.CLIENT_CREDENTIALS: ("client_id", "client_secret"),
    AuthKind.BEARER: ("token",),
}

NEVER_FORWARDED: Final = frozenset(
    {
        *("authorization", "proxy-authorization", "cookie", "last-event-id", "host", "origin"),
        *("content-type", "content-length", "content-encoding", "accept", "accept-encoding", "expect"),
        *("connection", "keep-alive", "proxy-authenticate", "proxy-connection", "te", "trailer"),
        *("transfer-encoding", "upgrade"),
    }
)
"""Header names, lower case, that belong to one connection or prove who somebody is: they end at Manifold."""


class AuthConfig(Model):
    """How Manifold proves itself to an upstream. ``oauth`` alone stands for ``{type: oauth}``."""

    type: AuthKind
    """How the token is got: by somebody's login, as a client of its own, or from here."""
    token: SecretStr | None = None
    """The token itself (bearer)."""
    client_id: str | None = Field(default=None, min_length=1)
    """The client as which Manifold is registered; for a login it registers itself where there is none."""
    client_secret: SecretStr | None = None
    """The secret of that client."""
    client_metadata_url: str | None = None
    """The address of a client metadata document, which is the client's id where the server takes such."""
    scopes: tuple[str, ...] = ()
    """The scopes to ask for, instead of those that the server suggests."""
    resource: str | None = None
    """The resource that the token is for (RFC 8707), instead of the one that the server names."""
    issuer: str | None = None
    """The authorization server, instead of the one that the server names; it may be of a private network."""
    token_url: str | None = None
    """Where the token is got (client_credentials), instead of looking for it."""
    redirect_port: Whole | None = Field(default=None, ge=1, le=65535)
    """The local port to which a login comes back; any free one by default."""
    per: Per = Per.SHARED
    """Whose login is used: one for everybody, or one for each agent or principal."""

    @model_validator(mode="wrap")
    @classmethod
    def _with_rules(cls, data: Any, handler: Callable[[Any], Self]) -> Self:
        if isinstance(data, str):
            data = {"type": data}
        if not isinstance(data, Mapping):
            return handler(data)
        data = _ours(data)
        return validated(cls.__name__, lambda: handler(data), auth_faults(data))


class Credential(Model):
    """What one agent or principal shows to an upstream instead of what everybody else does."""

    headers: Mapping[str, SecretStr] = Field(default_factory=dict)
    """HTTP headers; they come on top of the upstream's own."""
    auth: AuthConfig | None = None
    """How the token is got."""

    @model_validator(mode="wrap")
    @classmethod
    def _with_rules(cls, data: Any, handler: Callable[[Any], Self]) -> Self:
        if not isinstance(data, Mapping):
            return handler(data)
        return validated(cls.__name__, lambda: handler(data), credential_faults(data))


class Credentials(Model):
    """Credentials of single agents and principals. A principal's own come before those of its agent."""

    agents: Mapping[str, Credential] = Field(default_factory=dict)
    """By the name of the agent."""
    principals: Mapping[str, Credential] = Field(default_factory=dict)
    """By the id of the principal, as in token:3f9a."""


PARTS: Final[Mapping[str, type[Model]]] = {"auth": AuthConfig, "credentials": Credentials}
"""Option of an upstream -> what it is made of."""


def auth_faults(data: Mapping[str, Any]) -> Iterator[Fault]:
    """What is wrong with the members of an ``auth`` taken together."""
    kind = data.get("type")
    if kind not in tuple(AuthKind):
        return
    for name in _NEEDED[AuthKind(kind)]:
        if not _said(data.get(name)):
            yield Fault((name,), "is missing", f"auth of type {kind} needs it")
    for name, kinds in _MEANT.items():
        if data.get(name) not in (None, (), []) and kind not in kinds:
            yield Fault((name,), f"has no meaning for auth of type {kind}", "remove it")
    yield from _auth_url_faults(data)
    if _said(data.get("client_secret")) and not data.get("client_id"):
        yield Fault(("client_secret",), "stands without client_id", "add client_id")
    if data.get("client_id") and data.get("client_metadata_url"):
        yield Fault(("client_metadata_url",), "stands next to client_id", "use one of the two")


def _auth_url_faults(data: Mapping[str, Any]) -> Iterator[Fault]:
    for name in ("issuer", "token_url", "resource", "client_metadata_url"):
        if isinstance(url := data.get(name), str) and (what := url_fault(url)):
            yield Fault((name,), what, "write it like https://example.com/path")
    document = data.get("client_metadata_url")
    if isinstance(document, str) and not re.match(r"https://[^/]+/.", document):
        yield Fault(("client_metadata_url",), "is not an https URL with a path", "put the document on a web server")


def credential_faults(data: Mapping[str, Any]) -> Iterator[Fault]:
    """What is wrong with one credential's headers and auth taken together."""
    yield from header_faults(data.get("headers"))
    yield from doubled_faults(data.get("headers"), data.get("auth"))


def doubled_faults(headers: Any, auth: Any) -> Iterator[Fault]:
    """An Authorization header beside an ``auth`` which makes one."""
    for name in headers if isinstance(headers, Mapping) and auth is not None else ():
        if str(name).lower() == "authorization":
            yield Fault(("headers", name), "stands next to auth, which makes this header", "remove one of the two")


def outbound_faults(data: Mapping[str, Any]) -> Iterator[Fault]:
    """What is wrong with an upstream's ``auth``, ``credentials`` and ``forward_headers`` beside the rest of it."""
    if data.get("command") is not None and not (data.get("url") or data.get("urls")):
        for name in ("auth", "credentials", "forward_headers"):
            if data.get(name):
                yield Fault((name,), "has no meaning for a local server", "use env to hand a secret to a command")
    yield from doubled_faults(data.get("headers"), data.get("auth"))
    names = data.get("forward_headers")
    ours = {str(name).lower() for name in _all_headers(data)}
    for index, name in enumerate(names) if isinstance(names, (list, tuple)) else ():
        if isinstance(name, str) and (what := forward_fault(name)):
            yield Fault(("forward_headers", index), what, "name single headers that neither prove nor steer anything")
        elif isinstance(name, str) and name.lower() in ours:
            yield Fault(("forward_headers", index), "stands in headers, too", "clients must not replace it; remove one")


def _all_headers(data: Mapping[str, Any]) -> Iterator[Any]:
    """The names of all headers that Manifold itself sends to an upstream."""
    yield from _mapping(data.get("headers"))
    for named in _mapping(data.get("credentials")).values():
        for credential in _mapping(named).values():
            yield from _mapping(_mapping(credential).get("headers"))


def _mapping(value: Any) -> Mapping[Any, Any]:
    return value if isinstance(value, Mapping) else {}


def forward_fault(name: str) -> str:
    """What is wrong with forwarding a header; empty when nothing is (spec, authorization: no token passthrough)."""
    lowered = name.lower()
    if not HEADER_NAME.fullmatch(name) or "*" in name:
        return "is not the name of one header"
    if lowered in NEVER_FORWARDED or lowered.startswith(("mcp-", "sec-", "proxy-")):
        return f"is never forwarded: {name}"
    return ""


def credential_reference_faults(agents: list[str], credentials: Any) -> Iterator[Fault]:
    """Credentials of agents which do not exist."""
    named = credentials.get("agents") if isinstance(credentials, Mapping) else getattr(credentials, "agents", None)
    for name in named if isinstance(named, Mapping) else ():
        if name not in agents:
            hint = did_you_mean(str(name), agents) or f"configured agents: {', '.join(agents[:10]) or 'none'}"
            yield Fault(("credentials", "agents", name, KEY), "is no configured agent", hint, "reference")


def _ours(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """The same in our words, where it is in those of Cursor's files (``CLIENT_ID`` and ``CLIENT_SECRET``)."""
    if "CLIENT_ID" not in data:
        return data
    return {"type": AuthKind.OAUTH.value} | {_CURSOR.get(name, name): value for name, value in data.items()}


def _said(value: Any) -> bool:
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    return bool(text)
