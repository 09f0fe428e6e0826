"""The errors of Manifold, one tree.

ManifoldError                     code · message · hint · documentation anchor
├─ ConfigError                    a list of problems, each with file, line, path, hint
├─ RoutingError                   UnknownTarget (also "not allowed") · UnknownServer · AmbiguousName
├─ InvalidArguments               which argument, what was expected
└─ UpstreamError                  upstream · sent: no | maybe | yes
   ├─ Unavailable   (no)          ConnectFailed · CircuitOpen · QueueFull · RateLimited · Draining · AuthRequired
   ├─ TimedOut      (maybe)       AttemptTimeout · DeadlineExceeded
   ├─ Lost          (maybe)       the link died during the call
   ├─ ProtocolFault (yes)         malformed frame, wrong era
   └─ Rejected      (yes)         the upstream's own code, message and data: relayed unchanged

The type says whether the request was sent; what may be retried follows from that (docs/decisions/0002).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from proxy.model import Era, Sent

PARSE_ERROR = -32700
INVALID_REQUEST = -32600
METHOD_NOT_FOUND = -32601
INVALID_PARAMS = -32602
INTERNAL_ERROR = -32603
RESOURCE_NOT_FOUND = -32002
"""Handshake era only; the modern era says INVALID_PARAMS with ``data.uri``."""
URL_ELICITATION_REQUIRED = -32042
"""2025-11-25 only; the modern era asks with ``input_required``."""
HEADER_MISMATCH = -32020
MISSING_CAPABILITY = -32021
UNSUPPORTED_VERSION = -32022


class ManifoldError(Exception):
    """The root of all errors that Manifold raises on purpose."""

    code: ClassVar[str] = "manifold"
    """A stable identifier: logs, metrics and ``docs/errors.md`` use it."""
    jsonrpc: int = INTERNAL_ERROR
    """The JSON-RPC error code with which it leaves a door."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    @property
    def anchor(self) -> str:
        """Where the documentation explains this error."""
        return f"docs/errors.md#{self.code}"

    def text(self) -> str:
        """Message and hint in one string, for people and models."""
        return f"{self.message.rstrip('.')}. {self.hint}" if self.hint else self.message


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with a configuration, where it stands, and what to do."""

    path: str
    message: str
    hint: str = ""
    file: str = ""
    line: int | None = None

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}: " if self.line else f"{self.file}: " if self.file else ""
        what = f"{self.path}: {self.message}" if self.path else self.message
        return f"{where}{what}" + (f" ({self.hint})" if self.hint else "")


class ConfigError(ManifoldError):
    """A configuration cannot be used. ``problems`` has all of them, not the first."""

    code = "config"

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class RoutingError(ManifoldError):
    """A name leads nowhere. ``suggestions`` are the nearest names the caller may see."""

    code = "routing"
    jsonrpc = INVALID_PARAMS

    def __init__(self, message: str, *, name: str = "", suggestions: Sequence[str] = (), hint: str = "") -> None:
        if suggestions and not hint:
            hint = "Did you mean: " + ", ".join(suggestions) + "?"
        super().__init__(message, hint=hint)
        self.name = name
        self.suggestions = tuple(suggestions)


class UnknownTarget(RoutingError):
    """No such tool, prompt or resource for this caller; also what it may not see."""

    code = "unknown-target"


class UnknownServer(RoutingError):
    """No such upstream or agent."""

    code = "unknown-server"


class AmbiguousName(RoutingError):
    """A short name fits several tools."""

    code = "ambiguous-name"


class InvalidArguments(ManifoldError):
    """Arguments do not fit a tool's schema."""

    code = "invalid-arguments"
    jsonrpc = INVALID_PARAMS


class UpstreamError(ManifoldError):
    """Something between us and one upstream. ``sent`` says whether the request had reached it."""

    code = "upstream"
    sent: Sent = Sent.MAYBE

    def __init__(self, message: str, *, upstream: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.upstream = upstream


class Unavailable(UpstreamError):
    """The upstream cannot be reached now; nothing was sent."""

    code = "unavailable"
    sent = Sent.NO


class ConnectFailed(Unavailable):
    """No connection could be made, or negotiation failed."""

    code = "connect-failed"


class CircuitOpen(Unavailable):
    """The breaker is open: the upstream failed too often just now."""

    code = "circuit-open"


class QueueFull(Unavailable):
    """The upstream's bounded queue has no place left."""

    code = "queue-full"


class RateLimited(Unavailable):
    """Over the configured rate. ``retry_after`` is in seconds."""

    code = "rate-limited"

    def __init__(self, message: str, *, upstream: str = "", hint: str = "", retry_after: float = 0.0) -> None:
        super().__init__(message, upstream=upstream, hint=hint)
        self.retry_after = retry_after


class Draining(Unavailable):
    """The upstream is being stopped or replaced."""

    code = "draining"


class AuthRequired(Unavailable):
    """The upstream wants credentials which we do not have or which it no longer takes."""

    code = "auth-required"


class TimedOut(UpstreamError):
    """No answer in time; the request may have run."""

    code = "timed-out"


class AttemptTimeout(TimedOut):
    """One attempt took longer than its timeout."""

    code = "attempt-timeout"


class DeadlineExceeded(TimedOut):
    """The whole call took longer than its deadline."""

    code = "deadline-exceeded"


class Lost(UpstreamError):
    """The link died during the call; the request may have run."""

    code = "lost"


class SessionGone(UpstreamError):
    """The upstream says that our session no longer exists (HTTP 404): it did not execute the request."""

    code = "session-gone"
    sent = Sent.NO


class ProtocolFault(UpstreamError):
    """The upstream broke the protocol: a malformed frame, an answer of the wrong shape, a frame over the limit."""

    code = "protocol-fault"
    sent = Sent.YES


class Rejected(UpstreamError):
    """The peer answered with a JSON-RPC error; its code, message and data are relayed unchanged."""

    code = "rejected"
    sent = Sent.YES

    def __init__(self, number: int, message: str, data: Any = None, *, upstream: str = "") -> None:
        super().__init__(message, upstream=upstream)
        self.jsonrpc = number
        self.data = data
        self.era: Era | None = None
        """The era of the upstream that answered, where that is known."""
