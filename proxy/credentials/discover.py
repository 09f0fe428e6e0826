"""Where an upstream's tokens come from: from its URL to its authorization server (RFC 9728, then RFC 8414 or OpenID).

Follows the specification's order (2025-11-25 and 2026-07-28, authorization: discovery); a server of 2025-03-26, which
has no metadata of its own, is its own authorization server.
"""

import re
from dataclasses import dataclass
from http import HTTPStatus
from typing import Final
from urllib.parse import SplitResult, urlsplit

import msgspec
import structlog

from proxy.config.outbound import AuthConfig
from proxy.credentials.fetch import Fetcher
from proxy.credentials.grant import Methods, Server
from proxy.errors import AuthRequired, ConnectFailed

log = structlog.get_logger(__name__)

_RESOURCE: Final = "/.well-known/oauth-protected-resource"
_OAUTH: Final = "/.well-known/oauth-authorization-server"
_OPENID: Final = "/.well-known/openid-configuration"
_PROBE: Final = {"jsonrpc": "2.0", "id": 0, "method": "ping"}
_PART: Final = re.compile(r'\b(resource_metadata|scope)\s*=\s*(?:"([^"]*)"|([^\s,"]+))')


class Resource(msgspec.Struct, frozen=True, kw_only=True):
    """What a protected resource says of itself (RFC 9728)."""

    resource: str
    authorization_servers: Methods = None
    scopes_supported: Methods = None


@dataclass(frozen=True, slots=True)
class Found:
    """What a login needs to know."""

    server: Server
    resource: str
    scopes: str
    """Scopes to ask for, separated by blanks; empty for those that the server gives by itself."""


async def discover(fetcher: Fetcher, auth: AuthConfig, url: str) -> Found:
    """Find the authorization server of an upstream.

    Raises:
        ConnectFailed: somebody on the way does not answer, or not now.
        AuthRequired: there is none that can be used.
    """
    challenged = parts_of((await fetcher.glance(url, _PROBE)).headers.get("WWW-Authenticate", ""))
    resource = await _resource(fetcher, url, challenged.get("resource_metadata", ""))
    issuer = auth.issuer or _first(resource.authorization_servers if resource else None)
    server = await _server(fetcher, issuer, url)
    return Found(
        server,
        auth.resource or (resource.resource if resource else canonical(url)),
        _scopes(auth, challenged.get("scope", ""), resource, server),
    )


def parts_of(challenge: str) -> dict[str, str]:
    """What a ``WWW-Authenticate`` header says of use here."""
    return {name: quoted or plain for name, quoted, plain in _PART.findall(challenge)}


def canonical(url: str) -> str:
    """The resource identifier of a server's URL (RFC 8707): without fragment, scheme and host in lower case."""
    parts = urlsplit(url)
    host = parts.netloc.rpartition("@")[2].lower()
    return parts._replace(scheme=parts.scheme.lower(), netloc=host, fragment="").geturl()


def covers(resource: str, url: str) -> bool:
    """Whether a resource identifier stands for a URL: the same origin, and the same path or one above it."""
    own, asked = urlsplit(canonical(resource)), urlsplit(canonical(url))
    above = own.path.rstrip("/") + "/"
    return (own.scheme, own.netloc) == (asked.scheme, asked.netloc) and f"{asked.path.rstrip('/')}/".startswith(above)


def same_issuer(one: str, other: str) -> bool:
    """Whether two texts name one issuer: equal, but for the slash of a bare origin (RFC 8414, section 3.3)."""
    shorter, longer = sorted((one, other), key=len)
    return shorter == longer or (longer == f"{shorter}/" and urlsplit(shorter).path == "")


def _origin(parts: SplitResult) -> str:
    """Scheme, host and port, without anybody's name."""
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"


async def _resource(fetcher: Fetcher, url: str, named: str) -> Resource | None:
    parts = urlsplit(url)
    base, path = _origin(parts), parts.path.rstrip("/")
    for place in dict.fromkeys((named, f"{base}{_RESOURCE}{path}", f"{base}{_RESOURCE}")):
        answer = await fetcher.get(place) if place else None
        if answer is None or not _has(fetcher, answer.status):
            continue
        found = answer.read(Resource)
        if found is None:
            continue
        if not covers(found.resource, url):
            raise AuthRequired(
                f"its metadata is about another server ({found.resource[:200]})",
                upstream=fetcher.upstream,
                hint="Use the URL under which that server knows itself.",
            )
        return found
    return None


async def _server(fetcher: Fetcher, issuer: str | None, url: str) -> Server:
    """The metadata of the authorization server, which must be of that very issuer."""
    parts = urlsplit(issuer or url)
    base, path = _origin(parts), parts.path.rstrip("/") if issuer else ""
    places = (f"{base}{_OAUTH}{path}", f"{base}{_OPENID}{path}", f"{base}{path}{_OPENID}")
    expected = issuer or base
    for place in dict.fromkeys(places):
        answer = await fetcher.get(place)
        found = answer.read(Server) if _has(fetcher, answer.status) else None
        if found is None:
            continue
        if not same_issuer(found.issuer, expected):
            raise AuthRequired(
                f"its authorization server calls itself {found.issuer[:200]}, not {expected}",
                upstream=fetcher.upstream,
                hint="Somebody may be posing as it; ask those who run it.",
            )
        return found
    if issuer is None:  # revision 2025-03-26 has these by default
        log.info("credentials.no_metadata", upstream=fetcher.upstream)
        return _by_default(base)
    raise AuthRequired(f"its authorization server {issuer} has no metadata", upstream=fetcher.upstream)


def _by_default(base: str) -> Server:
    return Server(
        issuer=base,
        authorization_endpoint=f"{base}/authorize",
        token_endpoint=f"{base}/token",
        registration_endpoint=f"{base}/register",
        code_challenge_methods_supported=["S256"],
    )


def _has(fetcher: Fetcher, status: int) -> bool:
    """Whether a document is there. A server that fails says nothing about that."""
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS:
        text = f"its authorization metadata cannot be had now (HTTP {status})"
        raise ConnectFailed(text, upstream=fetcher.upstream)
    return status == HTTPStatus.OK


def _scopes(auth: AuthConfig, challenged: str, resource: Resource | None, server: Server) -> str:
    """The scopes to ask for (spec 2025-11-25, scope selection), and the one for renewing where there is one."""
    if auth.scopes:
        return " ".join(auth.scopes)
    wanted = challenged or " ".join((resource.scopes_supported if resource else None) or ())
    if wanted and "offline_access" in (server.scopes_supported or ()) and "offline_access" not in wanted.split():
        wanted += " offline_access"
    return wanted


def _first(names: Methods) -> str | None:
    return names[0] if names else None
