"""Errors about an upstream: each says whether the request had reached it."""

from typing import Any

from proxy.errors.own import ManifoldError
from proxy.masking import known_masked, masked_value
from proxy.model import Era, Sent


class UpstreamError(ManifoldError):
    """Something between us and one upstream. ``sent`` says whether the request had reached it."""

    code = "upstream"
    advice = "Try again later; the operator finds more in the log of Manifold."
    sent: Sent = Sent.MAYBE

    def __init__(self, message: str, *, upstream: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.upstream = upstream


class Unavailable(UpstreamError):
    """The upstream cannot be reached now; nothing was sent."""

    code = "unavailable"
    advice = "Try again later, or go on without this server."
    sent = Sent.NO


class ConnectFailed(Unavailable):
    """No connection could be made, or negotiation failed."""

    code = "connect-failed"
    advice = "Manifold keeps trying to connect; try again later. `mcp-manifold check` tells the operator why."


class CircuitOpen(Unavailable):
    """The breaker is open: the upstream failed too often just now."""

    code = "circuit-open"
    advice = "Try again after the pause, or go on without this server."


class QueueFull(Unavailable):
    """The upstream's bounded queue has no place left."""

    code = "queue-full"
    advice = "Try again later with fewer calls at once; the operator may raise `concurrency`, `queue` or `queue_wait`."


class RateLimited(Unavailable):
    """Over the configured rate. ``retry_after`` is in seconds."""

    code = "rate-limited"
    advice = "Wait the time that the message says; the operator may raise `rate_limit`, or `limits` of the agent."

    def __init__(self, message: str, *, upstream: str = "", hint: str = "", retry_after: float = 0.0) -> None:
        super().__init__(message, upstream=upstream, hint=hint)
        self.retry_after = retry_after


class Draining(Unavailable):
    """The upstream is being stopped or replaced."""

    code = "draining"
    advice = "Try again in a moment."


class AuthRequired(Unavailable):
    """The upstream wants credentials which we do not have or which it no longer takes."""

    code = "auth-required"
    advice = "Trying again does not help: the operator must log in (`mcp-manifold login`) or set `auth` or `headers`."


class TokenUnavailable(Unavailable):
    """The authorization server gives no token now. The login is kept, and nothing was sent."""

    code = "token-unavailable"
    advice = "Try again later: Manifold asks again by itself, after a pause."


class TimedOut(UpstreamError):
    """No answer in time; the request may have run."""

    code = "timed-out"
    advice = "The operator may raise `timeout`, or `timeouts` for this tool."


class AttemptTimeout(TimedOut):
    """One attempt took longer than its timeout."""

    code = "attempt-timeout"
    advice = "The operator may raise `attempt_timeout`."


class DeadlineExceeded(TimedOut):
    """The whole call took longer than its deadline."""

    code = "deadline-exceeded"
    advice = "The operator may raise `timeout`, `timeouts` for this tool, or `deadline`."


class Lost(UpstreamError):
    """The link died during the call; the request may have run."""

    code = "lost"
    advice = "Manifold connects again by itself."


class SessionGone(UpstreamError):
    """The upstream says that our session no longer exists (HTTP 404): it did not execute the request."""

    code = "session-gone"
    advice = "Manifold opens a new session by itself; try again."
    sent = Sent.NO


class ProtocolFault(UpstreamError):
    """The upstream broke the protocol: a malformed frame, an answer of the wrong shape, a frame over the limit."""

    code = "protocol-fault"
    advice = "This is a fault of that server: trying again rarely helps. The log of Manifold has the details."
    sent = Sent.YES


class Rejected(UpstreamError):
    """The peer answered with a JSON-RPC error; its code, message and data are relayed unchanged."""

    code = "rejected"
    advice = "Its code, message and data are the upstream's own."
    sent = Sent.YES

    def __init__(self, number: int, message: str, data: Any = None, *, upstream: str = "") -> None:
        super().__init__(message, upstream=upstream)
        self.message = known_masked(message)  # the peer's own text: only what is known to be secret
        self.jsonrpc = number
        self.data = masked_value(data)
        self.era: Era | None = None
        """The era of the upstream that answered, where that is known."""
