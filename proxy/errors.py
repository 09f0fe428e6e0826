"""The errors of Manifold, one tree.

ManifoldError                     code · message · hint · documentation anchor
├─ ConfigError                    a list of problems, each with file, line, path, hint
├─ RoutingError                   UnknownTarget (also "not allowed") · UnknownServer · AmbiguousName
├─ InvalidArguments               which argument, what was expected
├─ ToolFailed                     the tool answered with isError; raised only where a caller asks for it
├─ ExtensionFault                 a middleware or tool handler failed
└─ UpstreamError                  upstream · sent: no | maybe | yes
   ├─ Unavailable   (no)          ConnectFailed · CircuitOpen · QueueFull · RateLimited · Draining · AuthRequired ·
   │                            TokenUnavailable
   ├─ TimedOut      (maybe)       AttemptTimeout · DeadlineExceeded
   ├─ Lost          (maybe)       the link died during the call
   ├─ ProtocolFault (yes)         malformed frame, wrong era
   └─ Rejected      (yes)         the upstream's own code, message and data: relayed unchanged

The type says whether the request was sent; what may be retried follows from that (docs/decisions/0002).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from proxy.masking import encodable, known_masked, masked, masked_value
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
    advice: ClassVar[str] = "Please report it if it has no other code."
    """What to do about it in general: the documentation says it, and an answer to a model that has no better hint."""
    jsonrpc: int = INTERNAL_ERROR
    """The JSON-RPC error code with which it leaves a door."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        # Masked here and not where it is shown: messages quote URLs and the texts of upstreams, and go to many places.
        self.message = masked(encodable(message))
        self.hint = masked(encodable(hint)) if hint else hint
        super().__init__(self.message)

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
    advice = "The message has every problem with file, line and remedy. What ran before keeps running."

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


class RoutingError(ManifoldError):
    """A name leads nowhere. ``suggestions`` are the nearest names the caller may see."""

    code = "routing"
    advice = "List again and use a name from the list."
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
    advice = "Use one of the suggested names, or list again."


class UnknownServer(RoutingError):
    """No such upstream or agent."""

    code = "unknown-server"
    advice = "Use one of the suggested names; `mcp-manifold status` shows which upstreams there are."


class AmbiguousName(RoutingError):
    """A short name fits several tools."""

    code = "ambiguous-name"
    advice = "Use one of the full names in the message."


@dataclass(frozen=True, slots=True)
class ArgumentProblem:
    """What is wrong with one argument. The value itself is never repeated: it may be secret."""

    argument: str
    """Where it stands, as in ``filters[0].name``; empty for the arguments as a whole."""
    expected: str
    got: str
    """The kind of value that was given."""

    def __str__(self) -> str:
        return f"{self.argument or 'the arguments'}: expected {self.expected}, got {self.got}"


class InvalidArguments(ManifoldError):
    """Arguments do not fit a tool's schema. ``problems`` names each argument that does not."""

    code = "invalid-arguments"
    advice = "Correct the argument that the message names."
    jsonrpc = INVALID_PARAMS

    def __init__(self, message: str, *, hint: str = "", problems: Sequence[ArgumentProblem] = ()) -> None:
        super().__init__(message, hint=hint)
        self.problems = tuple(problems)


class ToolFailed(ManifoldError):
    """The tool itself reported an error: its call was answered with ``isError``. The message is the tool's own."""

    code = "tool-failed"
    advice = "The message is the tool's own: change the arguments as it says, or go on without this tool."


class ExtensionFault(ManifoldError):
    """A middleware or tool handler, which is no part of Manifold, raised an exception."""

    code = "extension-fault"
    advice = "This is a fault of that extension; the log of Manifold has its traceback."


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
