"""Asking authorization servers over HTTP: to checked addresses only, no redirects, nothing large, nothing endless."""

import socket
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from ipaddress import ip_address
from typing import Any, Final, TypeVar
from urllib.parse import urlencode

import anyio
import httpx2
import msgspec

from proxy import __version__
from proxy.credentials.addresses import Trust, origin_of, url_refused
from proxy.errors import AuthRequired, ConnectFailed

LIMIT: Final = 256 * 1024
"""The largest answer, in bytes."""
CONNECT: Final = 5.0
PATIENCE: Final = 10.0
"""Seconds for one exchange altogether."""
JSON: Final = "application/json"
FORM: Final = "application/x-www-form-urlencoded"

_OURS: Final = {"User-Agent": f"mcp-manifold/{__version__}", "Accept-Encoding": "identity"}

T = TypeVar("T")

_BROKEN: Final = (httpx2.HTTPError, httpx2.InvalidURL, OSError, TimeoutError)
_UNCONNECTED: Final = (httpx2.ConnectError, httpx2.ConnectTimeout)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""

    def read(self, kind: type[T]) -> T | None:
        """The body as a value; None if it is nothing of the kind."""
        try:
            return msgspec.json.decode(self.body, type=kind, strict=False)
        except msgspec.DecodeError:
            return None


class Fetcher:
    """Sends single requests. Each on a connection of its own, to the very addresses that were checked.

    Args:
        upstream: in whose name; errors say it.
        trust: what the operator's own URLs make acceptable.
    """

    def __init__(self, upstream: str, trust: Trust) -> None:
        self.upstream = upstream
        self.trust = trust

    async def get(self, url: str) -> Answer:
        """Read a document. Any status comes back.

        Raises:
            AuthRequired: the URL is refused.
            ConnectFailed: there was no answer.
        """
        return await self._exchange("GET", url, None, {"Accept": JSON})

    async def form(self, url: str, fields: Mapping[str, str], headers: Mapping[str, str] | None = None) -> Answer:
        """Send a form. Any status comes back. Raises as ``get`` does."""
        body = urlencode(fields).encode()
        return await self._exchange("POST", url, body, {"Accept": JSON, "Content-Type": FORM, **(headers or {})})

    async def json(self, url: str, value: Any) -> Answer:
        """Send a JSON document. Any status comes back. Raises as ``get`` does."""
        body = msgspec.json.encode(value)
        return await self._exchange("POST", url, body, {"Accept": JSON, "Content-Type": JSON})

    async def glance(self, url: str, value: Any) -> Answer:
        """Send a JSON document to an MCP server and look at status and headers only. Raises as ``get`` does."""
        headers = {"Accept": f"{JSON}, text/event-stream", "Content-Type": JSON}
        return await self._exchange("POST", url, msgspec.json.encode(value), headers, read=False)

    async def _exchange(
        self, method: str, url: str, body: bytes | None, headers: Mapping[str, str], *, read: bool = True
    ) -> Answer:
        where = origin_of(url)
        try:
            with anyio.fail_after(PATIENCE):
                addresses = await checked(self.upstream, url, self.trust)
                async with httpx2.AsyncClient(
                    verify=_verification(), trust_env=False, timeout=httpx2.Timeout(None, connect=CONNECT)
                ) as client:
                    request = httpx2.Request(method, url, content=body, headers={**_OURS, **headers})
                    return await self._first(client, request, addresses, read=read)
        except _BROKEN as error:
            why = getattr(error, "strerror", None) or type(error).__name__
            raise ConnectFailed(f"cannot reach {where}: {why}", upstream=self.upstream) from error

    async def _first(
        self, client: httpx2.AsyncClient, request: httpx2.Request, addresses: Sequence[str], *, read: bool
    ) -> Answer:
        """Send a request to the first of the checked addresses that can be connected to."""
        for address in addresses[:-1]:
            try:
                return await self._send(client, _pinned(request, address), read=read)
            except _UNCONNECTED:
                continue
        return await self._send(client, _pinned(request, addresses[-1]), read=read)

    async def _send(self, client: httpx2.AsyncClient, request: httpx2.Request, *, read: bool) -> Answer:
        response = await client.send(request, stream=True, follow_redirects=False)
        try:
            body = await self._body(response) if read else b""
            return Answer(response.status_code, response.headers, body)
        finally:
            await response.aclose()

    async def _body(self, response: httpx2.Response) -> bytes:
        body = b""
        async for chunk in response.aiter_raw():  # as it comes: nothing is unpacked into more than that
            body += chunk
            if len(body) > LIMIT:
                text = f"{response.request.headers['Host']} answers with more than {LIMIT} bytes"
                raise ConnectFailed(text, upstream=self.upstream)
        return body


def _pinned(request: httpx2.Request, address: str) -> httpx2.Request:
    """The same request to an address that was checked, whatever the name server says by now; TLS is for the name."""
    named = request.url
    headers = request.headers.copy()
    headers["Host"] = named.netloc.decode("ascii")
    extensions = {"sni_hostname": named.host} if named.scheme == "https" else {}
    return httpx2.Request(
        request.method, named.copy_with(host=address), content=request.content, headers=headers, extensions=extensions
    )


@cache
def _verification() -> ssl.SSLContext:
    """How servers are verified. Made once: it costs 20 ms."""
    return ssl.create_default_context()


async def checked(upstream: str, url: str, trust: Trust) -> Sequence[str]:
    """The addresses of a URL's host, every one of them acceptable.

    Raises:
        AuthRequired: the URL or one of the addresses is not.
        OSError: there is none.
    """
    why = url_refused(url, trust)
    found: Sequence[str] = () if why else await _resolve(url)
    if not why and not all(trust.allows(one) for one in found):
        why = "leads into a network that is not public"
    if why:
        raise AuthRequired(
            f"it names {origin_of(url) or 'something'} for its authorization, which {why}; it was not asked",
            upstream=upstream,
            hint="If that is right, name the authorization server in auth.issuer yourself.",
        )
    return found


async def trust_in(urls: Sequence[str]) -> Trust:
    """What the operator's own URLs make acceptable. A host that is unknown adds nothing."""
    addresses = set()
    for url in urls:
        try:
            addresses |= {ip_address(one.partition("%")[0]) for one in await _resolve(url)}
        except OSError:
            continue  # whoever asks it will be told
    return Trust(frozenset(map(origin_of, urls)) - {""}, frozenset(addresses))


async def _resolve(url: str) -> Sequence[str]:
    _, _, rest = origin_of(url).partition("://")
    host, _, port = rest.rpartition(":")
    infos = await anyio.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(where[0]) for *_, where in infos))
