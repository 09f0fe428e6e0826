"""The HTTP client of one upstream: pooled connections, its headers, and nothing that leaks them.

No redirects (they would carry credentials elsewhere), no cookies, no proxies from the environment, no total timeout
(calls have their own, and streams have none).
"""

from collections.abc import Mapping
from io import BytesIO
from types import TracebackType
from typing import Final, Self

import aiohttp
import anyio
from multidict import CIMultiDict
from yarl import URL

from proxy import __version__
from proxy.config.model import UpstreamConfig
from proxy.errors import Lost, ProtocolFault, UpstreamError
from proxy.upstream.http_errors import Refusal, lost, shown_url, unreachable
from proxy.upstream.pending import too_large
from proxy.wire.headers import LAST_EVENT, SESSION, VERSION

CONNECT_TIMEOUT: Final = 5.0
"""Seconds for a TCP connection and its TLS handshake."""
CONNECTIONS: Final = 100
"""Connections to one upstream, unless it may have more calls under way; the bulkhead is the limit that counts."""
_SPARE_CONNECTIONS: Final = 16
"""Connections beside those of calls: the event stream, answers, cancellations."""
_KEEP_ALIVE: Final = 4.0
"""Seconds an idle connection is kept: less than the 5 s after which uvicorn and Node close theirs, so that no request
is written into a connection which the other side is just closing."""
_DRAIN: Final = 1.0
"""Seconds for a stream to end after its answer, so that its connection can be used again."""
_DELETE: Final = 1.0
"""Seconds for the end of a session."""
_SMALL_BODY: Final = 1 << 20
_REFUSAL_BODY: Final = 1 << 16

JSON: Final = "application/json"
EVENTS: Final = "text/event-stream"

_BROKEN: Final = (aiohttp.ClientError, OSError, TimeoutError)


class HttpClient:
    """Sends bytes to one upstream, and knows the headers which its session asks for."""

    def __init__(self, name: str, url: str, config: UpstreamConfig) -> None:
        address = URL(url)
        self.upstream = name
        self.url = address.with_user(None)
        self.where = shown_url(str(self.url))
        self.max_message = config.max_message
        self.session_id: str | None = None
        """The handshake era's session, once the upstream gave one."""
        self.version: str | None = None
        """The protocol revision that every request names, once it is agreed on."""
        self._config = config
        self._headers = _fixed_headers(address, config)

    async def __aenter__(self) -> Self:
        limit = max(CONNECTIONS, self._config.concurrency + _SPARE_CONNECTIONS)
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=limit, keepalive_timeout=_KEEP_ALIVE),
            headers=self._headers,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT),
            trust_env=False,
        )
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await self._session.close()

    async def post(
        self, body: bytes, headers: Mapping[str, str] | None = None, *, url: URL | None = None
    ) -> aiohttp.ClientResponse:
        """Send a message; any status comes back. Close the response, or ``finish`` it.

        Raises:
            UpstreamError: there was no response.
        """
        # aiohttp asks for a stream where bytes are large: it writes them piece by piece.
        data = body if len(body) <= _SMALL_BODY else BytesIO(body)
        try:
            return await self._session.post(
                url or self.url, data=data, headers=self._of_request(headers), allow_redirects=False
            )
        except _BROKEN as error:
            raise unreachable(error, self.upstream, self.where) from error

    async def get(self, last_event_id: str = "") -> aiohttp.ClientResponse:
        """Open an event stream; any status comes back.

        Raises:
            UpstreamError: there was no response.
        """
        headers = self._of_request({"Accept": EVENTS})
        if last_event_id:
            headers[LAST_EVENT] = last_event_id
        try:
            return await self._session.get(self.url, headers=headers, allow_redirects=False)
        except _BROKEN as error:
            raise unreachable(error, self.upstream, self.where) from error

    async def end_session(self) -> None:
        """Tell the upstream that our session is over, if it has one. Bounded; it need not succeed."""
        if self.session_id is None:
            return
        with anyio.move_on_after(_DELETE, shield=True):
            try:
                response = await self._session.delete(self.url, headers=self._of_request(None), allow_redirects=False)
                response.close()
            except _BROKEN:
                pass  # an upstream that is gone needs no telling
        self.session_id = None

    async def refusal(self, response: aiohttp.ClientResponse, *, in_session: bool = False) -> UpstreamError:
        """What a response that is no answer means. Reads it and closes it.

        ``in_session``: the request belonged to a session, even if no header said so.
        """
        body = b""
        try:
            body = await self.body(response, _REFUSAL_BODY)
        except (Lost, ProtocolFault):
            pass  # the status says enough
        finally:
            response.close()
        refusal = Refusal(self.upstream, self.where, response.status, response.headers, body)
        return refusal.error(in_session=in_session or self.session_id is not None)

    async def body(self, response: aiohttp.ClientResponse, limit: int) -> bytes:
        """Read a whole body, which must not have more than ``limit`` bytes.

        Raises:
            ProtocolFault: it has more.
            Lost: it broke off.
        """
        try:
            body = await response.content.readany()
            if response.content.at_eof() and len(body) <= limit:
                return body
            parts, size = [body], len(body)
            while not response.content.at_eof() and size <= limit:
                parts.append(await response.content.readany())
                size += len(parts[-1])
        except _BROKEN as error:
            raise lost(error, self.upstream) from error
        if size > limit:
            raise too_large(self.upstream, max(size, response.content_length or 0), limit)
        return b"".join(parts)

    async def drain(self, response: aiohttp.ClientResponse) -> None:
        """Read a stream to its end after its answer, so that its connection can be used again. Bounded."""
        try:
            with anyio.move_on_after(_DRAIN):
                while not response.content.at_eof():
                    await response.content.readany()
        except _BROKEN:
            pass  # nothing of interest was to come
        finally:
            response.release()

    def _of_request(self, headers: Mapping[str, str] | None) -> CIMultiDict[str]:
        """The headers that change: of the session, then of this request."""
        own: CIMultiDict[str] = CIMultiDict()
        if self.session_id is not None:
            own[SESSION] = self.session_id
        if self.version is not None:
            own[VERSION] = self.version
        if headers:
            own.update(headers)
        return own


def content_type(response: aiohttp.ClientResponse) -> str:
    """The media type of a response, lower case, without parameters."""
    return response.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def _fixed_headers(address: URL, config: UpstreamConfig) -> CIMultiDict[str]:
    headers: CIMultiDict[str] = CIMultiDict({"User-Agent": f"mcp-manifold/{__version__}"})
    if address.user is not None:
        headers["Authorization"] = aiohttp.encode_basic_auth(address.user, address.password or "")
    headers.update((name, secret.get_secret_value()) for name, secret in config.headers.items())
    headers.update({"Accept": f"{JSON}, {EVENTS}", "Content-Type": JSON})
    return headers
