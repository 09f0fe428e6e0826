"""Logging in to an upstream: authorization code with PKCE (RFC 7636), or a device grant (RFC 8628).

How the person gets to the page and how the answer comes back is up to the caller (``Ways``).
"""

import base64
import hashlib
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from http import HTTPStatus
from typing import Final
from urllib.parse import parse_qsl, urlencode, urlsplit

import anyio
import anyio.to_thread
import msgspec

from proxy.config.outbound import AuthConfig
from proxy.credentials.addresses import url_refused
from proxy.credentials.clients import DEVICE_GRANT, client_at, fitting
from proxy.credentials.discover import Found, discover
from proxy.credentials.fetch import Fetcher, trust_in
from proxy.credentials.grant import Client, Entry, Grant, Server
from proxy.credentials.kept import urls_of
from proxy.credentials.tokens import Pending, Tokens, ask, granted, proof, revoke
from proxy.credentials.vault import Slot, Vault
from proxy.errors import AuthRequired, Unavailable

LONGEST: Final = 600.0
"""Seconds in which somebody has to confirm a login."""
_SLOWER: Final = 5.0
"""Seconds by which a server that says ``slow_down`` wants us to be slower (RFC 8628, section 3.5)."""


class _Device(msgspec.Struct, frozen=True, kw_only=True):
    """What a device login begins with (RFC 8628, section 3.2)."""

    device_code: str
    user_code: str
    verification_uri: str
    verification_uri_complete: str | None = None
    expires_in: float = LONGEST
    interval: float = 5.0


@dataclass(frozen=True, slots=True)
class Ways:
    """How a login reaches the person and comes back."""

    redirect_uri: str
    """Where the browser is sent with the answer."""
    answered: Callable[[str], Awaitable[str]]
    """Shows somebody the page at a URL, and gives the URL to which the browser was sent back."""
    confirm: Callable[[str, str], Awaitable[None]] | None = None
    """Tells somebody to open a page and to type a code there; None if a browser is at hand."""


async def log_in(slot: Slot, auth: AuthConfig, vault: Vault, ways: Ways) -> Grant:
    """Have somebody log in, and keep what that gives.

    Raises:
        AuthRequired: it is refused, or not safe.
        Unavailable: somebody does not answer.
    """
    fetcher = Fetcher(slot.upstream, await trust_in(urls_of(auth, slot.url)))
    found = await discover(fetcher, auth, slot.url)
    entry = await anyio.to_thread.run_sync(vault.load, slot) or Entry(
        upstream=slot.upstream, whose=slot.whose, url=slot.url
    )
    device = ways.confirm is not None and found.server.device_authorization_endpoint is not None
    client = fitting(entry.clients, found.server) if auth.client_id is None else None
    if client is None or client.redirect_uri != ways.redirect_uri:
        client = await client_at(fetcher, auth, found.server, ways.redirect_uri, device=device)
    tokens = await (_by_device if device else _by_code)(fetcher, found, client, ways)
    grant = granted(tokens, found.server, client, resource=found.resource)
    grant = msgspec.structs.replace(grant, scope=grant.scope or found.scopes)
    clients = entry.clients if auth.client_id is not None else {**entry.clients, found.server.issuer: client}
    kept = msgspec.structs.replace(entry, grant=grant, clients=clients, refused="")
    await anyio.to_thread.run_sync(_alone, vault, slot, partial(vault.save, slot, kept))
    return grant


async def log_out(slot: Slot, auth: AuthConfig | None, vault: Vault) -> tuple[bool, bool]:
    """Give a login back and forget it. Returns whether there was one, and whether the server took it back.

    Raises:
        Unavailable: it cannot be read here.
    """
    entry = await anyio.to_thread.run_sync(vault.load, slot)
    revoked = False
    if entry is not None and entry.grant is not None:
        urls = urls_of(auth, slot.url) if auth is not None else [slot.url]
        try:
            revoked = await revoke(Fetcher(slot.upstream, await trust_in(urls)), entry.grant)
        finally:
            await anyio.to_thread.run_sync(_alone, vault, slot, partial(vault.delete, slot))
        return True, revoked
    await anyio.to_thread.run_sync(_alone, vault, slot, partial(vault.delete, slot))
    return False, revoked


def _alone(vault: Vault, slot: Slot, change: Callable[[], object]) -> None:
    """Change a login while nobody renews it: whoever does would put the old one back."""
    with vault.locked(slot):
        change()


async def _by_code(fetcher: Fetcher, found: Found, client: Client, ways: Ways) -> Tokens:
    server = found.server
    if server.authorization_endpoint is None:
        raise AuthRequired(f"{server.issuer} has no page to log in at", upstream=fetcher.upstream)
    if why := url_refused(server.authorization_endpoint, fetcher.trust):
        raise AuthRequired(f"the page of {server.issuer} to log in at {why}", upstream=fetcher.upstream)
    if "S256" not in (server.code_challenge_methods_supported or ()):
        # Spec 2025-11-25, authorization code protection: MUST refuse to proceed.
        raise AuthRequired(f"{server.issuer} does not say that it takes PKCE with S256", upstream=fetcher.upstream)
    verifier, state = secrets.token_urlsafe(64), secrets.token_urlsafe(32)
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).decode().rstrip("=")
    query = {
        "response_type": "code",
        "client_id": client.client_id,
        "redirect_uri": ways.redirect_uri,
        "state": state,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
        "resource": found.resource,
    }
    if found.scopes:
        query["scope"] = found.scopes
    if "offline_access" in found.scopes.split():
        query["prompt"] = "consent"  # OpenID Connect Core, section 11
    separator = "&" if urlsplit(server.authorization_endpoint).query else "?"
    with anyio.move_on_after(LONGEST) as limit:
        back = await ways.answered(f"{server.authorization_endpoint}{separator}{urlencode(query)}")
    if limit.cancelled_caught:
        raise AuthRequired("nobody logged in in time", upstream=fetcher.upstream)
    code = code_of(back, state, server, fetcher.upstream)
    fields = {"grant_type": "authorization_code", "code": code, "redirect_uri": ways.redirect_uri}
    fields |= {"code_verifier": verifier, "resource": found.resource}
    return await ask(fetcher, server, client, fields)


def code_of(back: str, state: str, server: Server, upstream: str) -> str:
    """The code in the URL to which a login came back; everything else there must be as it should.

    Raises:
        AuthRequired: it is not the answer to our question, or a refusal.
    """
    answer = dict(parse_qsl(urlsplit(back.strip()).query))
    if not secrets.compare_digest(answer.get("state", "").encode(), state.encode()):
        raise AuthRequired("what came back does not belong to this login (state)", upstream=upstream)
    issuer = answer.get("iss")
    if issuer != server.issuer and (issuer is not None or server.authorization_response_iss_parameter_supported):
        # RFC 9207, section 2.4: another server's code must not be shown to this one.
        raise AuthRequired("what came back is not from the server that was asked (iss)", upstream=upstream)
    if "error" in answer:
        words = "".join(one for one in answer.get("error_description", "") if one.isprintable())[:200]
        why = f"{answer['error'][:60]}{f' ({words})' if words else ''}"
        raise AuthRequired(f"the login was refused: {why}", upstream=upstream)
    if not answer.get("code"):
        raise AuthRequired("what came back has no code in it", upstream=upstream)
    return answer["code"]


async def _by_device(fetcher: Fetcher, found: Found, client: Client, ways: Ways) -> Tokens:
    begun = await _device(fetcher, found, client)
    if ways.confirm is not None:
        await ways.confirm(begun.verification_uri_complete or begun.verification_uri, begun.user_code)
    fields = {"grant_type": DEVICE_GRANT, "device_code": begun.device_code, "resource": found.resource}
    pause = max(begun.interval, 0.0)
    with anyio.move_on_after(min(begun.expires_in, LONGEST)):
        while True:
            await anyio.sleep(pause)  # the protocol is polling
            try:
                return await ask(fetcher, found.server, client, fields)
            except Pending as error:
                pause += _SLOWER if error.error == "slow_down" else 0.0
    raise AuthRequired("nobody confirmed the login in time", upstream=fetcher.upstream)


async def _device(fetcher: Fetcher, found: Found, client: Client) -> _Device:
    form, headers = proof(client, {"resource": found.resource, **({"scope": found.scopes} if found.scopes else {})})
    answer = await fetcher.form(found.server.device_authorization_endpoint or "", form, headers)
    begun = answer.read(_Device) if answer.status == HTTPStatus.OK else None
    if begun is None:
        text = f"its authorization server begins no device login (HTTP {answer.status})"
        raise Unavailable(text, upstream=fetcher.upstream)
    return begun
