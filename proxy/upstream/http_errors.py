"""What HTTP says when it is not an answer, as errors of ours. Nobody's credentials get into a message."""

import errno
import re
import socket
import ssl
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import ClassVar, Final

from proxy.errors import (
    AuthRequired,
    ConnectFailed,
    Lost,
    ProtocolFault,
    RateLimited,
    Rejected,
    SessionGone,
    Unavailable,
    UpstreamError,
)
from proxy.model import Sent
from proxy.upstream.http_connection import Broken, NotHttp
from proxy.upstream.http_dial import Unconnected
from proxy.wire import envelope
from proxy.wire.envelope import Fault, Kind, Message
from proxy.wire.packing import Unpackable

_TOLD: Final = 300
"""Characters of an upstream's own words that go into a message."""

_HINTS: Final = {
    False: "Set or renew the Authorization header of this upstream.",
    True: "It takes logins: set `auth: oauth` for this upstream and run `mcp-manifold login` with its name.",
}
_CHALLENGE_PART: Final = re.compile(r'\b(error|error_description)\s*=\s*"([^"]*)"')
_NO_SESSION: Final = re.compile(r"session|not initialized", re.IGNORECASE)
_CONTROLS: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]+")


class HttpRejected(Rejected):
    """A JSON-RPC error that came with an HTTP error; ``status`` tells which."""

    status: int = 0


class HttpAuthRequired(AuthRequired):
    """HTTP 401 or 403. ``challenge`` is the ``WWW-Authenticate`` header, which may say where to get a token."""

    status: int = 0
    challenge: str = ""


class HttpFault(ProtocolFault):
    """An HTTP status that is no part of MCP: probably no MCP server is there. It did not take the request."""

    sent = Sent.NO
    status: int = 0


class HttpBusy(Unavailable):
    """HTTP 503: the upstream, or something before it, takes no requests now. ``retry_after`` is in seconds."""

    status: ClassVar[int] = HTTPStatus.SERVICE_UNAVAILABLE
    retry_after: float = 0.0


class HttpFailed(UpstreamError):
    """HTTP 5xx (or 408): the upstream failed, or something before it lost it on the way; it may have run."""

    status: int = 0


class Refusal:
    """One HTTP response that is no answer, and what it means."""

    def __init__(self, upstream: str, where: str, status: int, headers: Mapping[str, str], body: bytes) -> None:
        """``where`` is the URL as people may see it; ``body`` may be cut off."""
        self._upstream = upstream
        self._where = where
        self._status = status
        self._headers = headers
        self._body = body

    def error(self, *, in_session: bool) -> UpstreamError:
        """The error it stands for. ``in_session``: whether the request bore a session id."""
        if self._status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
            return self._auth()
        if self._status == HTTPStatus.NOT_FOUND and in_session:
            return SessionGone("the server no longer knows our session (HTTP 404)", upstream=self._upstream)
        if (message := self._rpc_error()) is not None:
            return self._rejected(message.fault, message.answers is not None, in_session=in_session)
        return self._busy() or self._failed() or self._fault()

    def _busy(self) -> UpstreamError | None:
        if self._status == HTTPStatus.TOO_MANY_REQUESTS:
            text = f"the server takes no more requests for now ({self._status_text})"
            return RateLimited(text, upstream=self._upstream, retry_after=self._retry_after())
        if self._status == HTTPStatus.SERVICE_UNAVAILABLE:
            busy = HttpBusy(f"{self._where} is unavailable ({self._status_text})", upstream=self._upstream)
            busy.retry_after = self._retry_after()
            return busy
        return None

    def _failed(self) -> UpstreamError | None:
        if self._status < HTTPStatus.INTERNAL_SERVER_ERROR and self._status != HTTPStatus.REQUEST_TIMEOUT:
            return None
        failed = HttpFailed(f"{self._where} failed: {self._status_text}{self._words()}", upstream=self._upstream)
        failed.status = self._status
        return failed

    def _rejected(self, fault: Fault, has_id: bool, *, in_session: bool) -> UpstreamError:
        # Servers built after the TypeScript SDK's example say 400 where the specification says 404.
        if in_session and not has_id and self._status == HTTPStatus.BAD_REQUEST and _NO_SESSION.search(fault.message):
            text = f"the server no longer knows our session (HTTP 400: {fault.message[:_TOLD]})"
            return SessionGone(text, upstream=self._upstream)
        rejected = HttpRejected(fault.code, fault.message, fault.data, upstream=self._upstream)
        rejected.status = self._status
        return rejected

    def _auth(self) -> HttpAuthRequired:
        challenge = self._headers.get("WWW-Authenticate", "")
        parts = [_plain(text) for _, text in _CHALLENGE_PART.findall(challenge)]
        message = self._rpc_error()
        words = "; ".join(parts) or (message.fault.message if message else "")
        refused = HttpAuthRequired(
            f"{self._where} refuses our credentials ({self._status_text}{': ' if words else ''}{words[:_TOLD]})",
            upstream=self._upstream,
            hint=_HINTS["resource_metadata" in challenge],
        )
        refused.status = self._status
        refused.challenge = challenge
        return refused

    def _fault(self) -> HttpFault:
        fault = HttpFault(
            f"{self._where} answered {self._status_text}{self._words()}", upstream=self._upstream, hint=self._remedy()
        )
        fault.status = self._status
        return fault

    def _remedy(self) -> str:
        if HTTPStatus.MULTIPLE_CHOICES <= self._status < HTTPStatus.BAD_REQUEST:
            target = shown_url(self._headers.get("Location", ""))
            to = f" to {target}" if target else ""
            return f"It redirects{to}; redirects are not followed, lest credentials travel on. Configure the final URL."
        if self._status in (HTTPStatus.NOT_FOUND, HTTPStatus.METHOD_NOT_ALLOWED, HTTPStatus.GONE):
            return "There is probably no MCP server at this path; check the URL."
        return "Check the URL and the type of this upstream."

    @property
    def _status_text(self) -> str:
        try:
            return f"HTTP {self._status} {HTTPStatus(self._status).phrase}"
        except ValueError:
            return f"HTTP {self._status}"

    def _words(self) -> str:
        kind = self._headers.get("Content-Type", "")
        words = (
            _plain(self._body.decode(errors="replace")) if kind.startswith(("text/plain", "application/json")) else ""
        )
        return f": {words}" if words else ""

    def _rpc_error(self) -> Message | None:
        found = envelope.read(self._body) if self._body else []
        if len(found) == 1 and isinstance(found[0], Message) and found[0].kind is Kind.ERROR:
            return found[0]
        return None

    def _retry_after(self) -> float:
        value = self._headers.get("Retry-After", "").strip()
        if value.isascii() and value.isdigit():
            return float(value[:9])
        try:
            return max(0.0, (parsedate_to_datetime(value) - datetime.now(UTC)).total_seconds())
        except (ValueError, TypeError):
            return 0.0


def shown_url(url: str) -> str:
    """A URL as people may see it: without user, password, query and fragment, where tokens like to hide."""
    return re.sub(r"^([a-z][a-z0-9+.-]*://)[^/?#]*@", r"\1", re.sub(r"[?#].*", "", url), flags=re.IGNORECASE)


def failed(error: Exception, upstream: str, where: str) -> UpstreamError:
    """What it means that a request got no response: nothing was sent (ConnectFailed), or who knows (Lost)."""
    if isinstance(error, Unconnected):
        why, hint = _why_unconnected(error.cause)
        return ConnectFailed(f"cannot connect to {where}: {why}", upstream=upstream, hint=hint)
    if isinstance(error, NotHttp):
        return ProtocolFault(f"{where} does not speak HTTP as expected: {_plain(error.reason)}", upstream=upstream)
    if isinstance(error, Unpackable):
        return ProtocolFault(_plain(str(error)), upstream=upstream)
    return lost(error, upstream)


def lost(error: Exception, upstream: str) -> Lost:
    """A connection that broke after something was sent."""
    why = error.reason if isinstance(error, Broken) else type(error).__name__
    return Lost(f"the connection was lost during the call: {_plain(why)}", upstream=upstream)


_UNCONNECTED: Final = (
    # The first that fits counts: all of them are OSErrors but the last, which a name that cannot be encoded raises.
    (TimeoutError, "no answer in time", "Is the host up, and does a firewall let us through?"),
    (socket.gaierror, "unknown host", "Check the host name in the URL."),
    (ssl.SSLError, "the TLS handshake failed", "Does the server speak TLS on this port?"),
    (ValueError, "the URL cannot be used", "Check the URL."),
)


def _why_unconnected(error: Exception) -> tuple[str, str]:
    if isinstance(error, ssl.SSLCertVerificationError):
        why = _plain(str(getattr(error, "verify_message", "")) or "verification failed")
        return f"its TLS certificate is not trusted ({why})", "Is the host name right, and its authority known here?"
    for kind, why, hint in _UNCONNECTED:
        if isinstance(error, kind):
            return why, hint
    if getattr(error, "errno", None) == errno.ECONNREFUSED:
        return "connection refused", "Is the server running, and does it listen on this port?"
    return (_plain(getattr(error, "strerror", "") or "") or type(error).__name__), ""


def _plain(text: str) -> str:
    return _CONTROLS.sub(" ", text).strip()[:_TOLD]
