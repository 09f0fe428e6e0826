"""The HTTP client of one upstream: pooled connections, its headers, and nothing that leaks them.

No redirects (they would carry credentials elsewhere), no cookies, no proxies from the environment, no total timeout
(calls have their own, and streams have none).
"""

import base64
import re
from collections.abc import Mapping
from types import TracebackType
from typing import Final, Self

import anyio
from yarl import URL

from proxy import __version__
from proxy.config.model import UpstreamConfig
from proxy.credentials.wallet import NOTHING, Held
from proxy.errors import InvalidArguments, Lost, ProtocolFault, UpstreamError
from proxy.upstream.fair import here
from proxy.upstream.http_connection import Broken, NotHttp
from proxy.upstream.http_dial import Dialer, Unconnected
from proxy.upstream.http_errors import HttpAuthRequired, Refusal, failed, lost, shown_url
from proxy.upstream.http_pool import Pool
from proxy.upstream.http_response import Response, TooMuch
from proxy.upstream.pending import too_large
from proxy.upstream.proof import proven, remedy
from proxy.wire.headers import LAST_EVENT, SESSION, VERSION
from proxy.wire.large import Frame
from proxy.wire.packing import ACCEPTED, Unpackable

CONNECTIONS: Final = 100
"""Connections to one upstream, unless it may have more calls under way; the bulkhead is the limit that counts."""
_SPARE_CONNECTIONS: Final = 16
"""Connections beside those of calls: the event stream, answers, cancellations."""
_DRAIN: Final = 1.0
"""Seconds for a stream to end after its answer, so that its connection can be used again."""
_DELETE: Final = 1.0
"""Seconds for the end of a session."""
_CLOSE: Final = 1.0
"""Seconds for all connections to be closed."""
_HEADS: Final = 256
"""Request heads that are kept ready; only calls with headers of their own make more than a few."""
_REFUSAL_BODY: Final = 1 << 16

JSON: Final = "application/json"
EVENTS: Final = "text/event-stream"

BROKEN: Final = (Broken, NotHttp)
_FAILED: Final = (Unconnected, Broken, NotHttp, Unpackable)
_UNFIT: Final = re.compile(r"[\r\n\0]")


class HttpClient:
    """Sends bytes to one upstream, and knows the headers which its session asks for."""

    def __init__(self, name: str, url: str, config: UpstreamConfig, held: Held = NOTHING) -> None:
        address = URL(url)
        self.upstream = name
        self.url = address.with_user(None)
        self.where = shown_url(str(self.url))
        self.max_message = config.max_message
        self.session_id: str | None = None
        """The handshake era's session, once the upstream gave one."""
        self.version: str | None = None
        """The protocol revision that every request names, once it is agreed on."""
        fair = here()
        self.share = fair.unasked(name)
        """What all streams of the link may cost of the event loop besides answers."""
        self.large = fair.large(name)
        """What large messages may cost of it."""
        self._config = config
        self._headers = _fixed_headers(address, config, held.headers)
        self._source = held.source
        self._heads: dict[tuple[object, ...], bytes] = {}

    async def __aenter__(self) -> Self:
        limit = max(CONNECTIONS, self._config.concurrency + _SPARE_CONNECTIONS)
        self._pool = Pool(Dialer(self.url).dial, limit)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.move_on_after(_CLOSE, shield=True):
            await self._pool.close()

    async def post(self, body: bytes, headers: Mapping[str, str] | None = None, *, url: URL | None = None) -> Response:
        """Send a message; any status comes back. Close the response, or ``release`` it.

        Raises:
            UpstreamError: there was no response.
            InvalidArguments: a header cannot be sent.
        """
        length = b"Content-Length: %d\r\n\r\n" % len(body)
        try:
            if self._source is None:
                head = self._head("POST", headers, url) + length
                connection = self._pool.kept() or await self._pool.take()  # as in ``_exchange``, in one frame less
                try:
                    await connection.exchange(head, body)
                    return Response(connection, self._pool)
                except BaseException:
                    connection.abort()
                    raise
            return await proven(
                self._source, lambda own: self._exchange(self._head("POST", own, url) + length, body), headers
            )
        except _FAILED as error:
            raise failed(error, self.upstream, self.where) from error

    async def get(self, last_event_id: str = "") -> Response:
        """Open an event stream; any status comes back.

        Raises:
            UpstreamError: there was no response.
        """
        headers = {"Accept": EVENTS}
        if last_event_id:
            headers[LAST_EVENT] = last_event_id
        try:
            if self._source is None:
                return await self._repeatable(self._head("GET", headers) + b"\r\n")
            return await proven(self._source, lambda own: self._repeatable(self._head("GET", own) + b"\r\n"), headers)
        except _FAILED as error:
            raise failed(error, self.upstream, self.where) from error

    async def end_session(self) -> None:
        """Tell the upstream that our session is over, if it has one. Bounded; it need not succeed."""
        if self.session_id is None:
            return
        with anyio.move_on_after(_DELETE, shield=True):
            try:
                token = self._source.current if self._source is not None else None
                headers = None if token is None else {"Authorization": token}
                response = await self._repeatable(self._head("DELETE", headers) + b"\r\n")
                response.close()
            except _FAILED:
                pass  # an upstream that is gone needs no telling
        self.session_id = None

    async def _exchange(self, head: bytes, body: bytes, *, fresh: bool = False) -> Response:
        pool = self._pool
        connection = None if fresh else pool.kept()
        if connection is None:
            connection = await pool.take(fresh=fresh)
        try:
            await connection.exchange(head, body)
            return Response(connection, pool)
        except BaseException:
            connection.abort()
            raise

    async def _repeatable(self, head: bytes) -> Response:
        """Send a request that does no harm when it comes twice: a kept connection may just have been closed."""
        try:
            return await self._exchange(head, b"")
        except Broken as error:
            if not error.untouched:
                raise
        return await self._exchange(head, b"", fresh=True)

    async def refusal(self, response: Response, *, in_session: bool = False) -> UpstreamError:
        """What a response that is no answer means. Reads it; its connection serves again, if the body had an end.

        ``in_session``: the request belonged to a session, even if no header said so.
        """
        body = b""
        try:
            body = await self.body(response, _REFUSAL_BODY)
            response.release()
        except (Lost, ProtocolFault):
            pass  # the status says enough
        finally:
            response.close()
        refusal = Refusal(self.upstream, self.where, response.status, response.headers, body)
        error = refusal.error(in_session=in_session or self.session_id is not None)
        if self._source is not None and isinstance(error, HttpAuthRequired):
            error.hint = remedy(self._source, error.status, error.challenge)
        return error

    async def body(self, response: Response, limit: int) -> bytes:
        """Read a whole body, which must not have more than ``limit`` bytes.

        Raises:
            ProtocolFault: it has more.
            Lost: it broke off.
        """
        try:
            return await response.whole(limit)
        except TooMuch as error:
            raise too_large(self.upstream, error.size, limit) from None
        except BROKEN as error:
            raise lost(error, self.upstream) from error

    async def frame(self, response: Response) -> bytes | Frame:
        """Read a whole body which is one message.

        Raises:
            ProtocolFault: it has more than ``max_message``.
            Lost: it broke off.
        """
        try:
            return await response.frame(self.max_message, self.large)
        except TooMuch as error:
            raise too_large(self.upstream, error.size, self.max_message) from None
        except BROKEN as error:
            raise lost(error, self.upstream) from error

    async def drain(self, response: Response) -> None:
        """Read a stream to its end after its answer, so that its connection can be used again. Bounded."""
        try:
            with anyio.move_on_after(_DRAIN):
                while not response.ended:
                    await response.some()
        except BROKEN:
            pass  # nothing of interest was to come
        finally:
            response.release()

    def _head(self, method: str, headers: Mapping[str, str] | None, url: URL | None = None) -> bytes:
        """The request line and all headers but the length of the body, ready to be sent."""
        key = (method, url, self.session_id, self.version, tuple(headers.items()) if headers else None)
        head = self._heads.get(key)
        if head is None:
            if len(self._heads) >= _HEADS:
                self._heads.clear()
            head = self._heads[key] = self._written(method, (url or self.url).raw_path_qs, headers)
        return head

    def _written(self, method: str, target: str, headers: Mapping[str, str] | None) -> bytes:
        """What is fixed, then what belongs to the session, then to this request: the last of a name counts."""
        fields = {name.lower(): (name, value) for name, value in self._headers.items()}
        for name, value in self._of_request(headers).items():
            fields[name.lower()] = (name, value)
        for name, value in fields.values():
            if _UNFIT.search(name) or _UNFIT.search(value):
                raise InvalidArguments(f"the header {name!r} would have a line break, which no header can carry")
        lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.values())]
        return "\r\n".join([*lines, ""]).encode(errors="surrogateescape")

    def _of_request(self, headers: Mapping[str, str] | None) -> dict[str, str]:
        """The headers that change: of the session, then of this request."""
        own: dict[str, str] = {}
        if self.session_id is not None:
            own[SESSION] = self.session_id
        if self.version is not None:
            own[VERSION] = self.version
        if headers:
            taken = {name.lower() for name in headers}
            own = {name: value for name, value in own.items() if name.lower() not in taken}
            own.update(headers)
        return own


def _fixed_headers(address: URL, config: UpstreamConfig, held: Mapping[str, str]) -> dict[str, str]:
    headers = {"User-Agent": f"mcp-manifold/{__version__}", "Accept-Encoding": ACCEPTED}
    if address.user is not None:
        login = f"{address.user}:{address.password or ''}".encode("latin-1", errors="replace")
        headers["Authorization"] = f"Basic {base64.b64encode(login).decode()}"
    configured = {name: secret.get_secret_value() for name, secret in config.headers.items()}
    ours = {"Host": address.host_port_subcomponent or "", "Accept": f"{JSON}, {EVENTS}", "Content-Type": JSON}
    return _over(_over(_over(headers, configured), held), ours)


def _over(headers: dict[str, str], stronger: Mapping[str, str]) -> dict[str, str]:
    taken = {name.lower() for name in stronger}
    return {name: value for name, value in headers.items() if name.lower() not in taken} | dict(stronger)
