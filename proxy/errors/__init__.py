"""The errors of Manifold, one tree.

ManifoldError                     code · message · hint · documentation anchor
├─ ConfigError                    a list of problems, each with file, line, path, hint
├─ RoutingError                   UnknownTarget (also "not allowed") · UnknownServer · AmbiguousName
├─ InvalidArguments               which argument, what was expected
├─ ToolFailed                     the tool answered with isError; raised only where a caller asks for it
├─ NotReviewed                    a decision about definitions that nobody has seen as they are
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

from proxy.errors.codes import (
    HEADER_MISMATCH,
    INTERNAL_ERROR,
    INVALID_PARAMS,
    INVALID_REQUEST,
    METHOD_NOT_FOUND,
    MISSING_CAPABILITY,
    PARSE_ERROR,
    RESOURCE_NOT_FOUND,
    UNSUPPORTED_VERSION,
    URL_ELICITATION_REQUIRED,
)
from proxy.errors.own import (
    AmbiguousName,
    ArgumentProblem,
    ConfigError,
    ExtensionFault,
    InvalidArguments,
    ManifoldError,
    NotReviewed,
    Problem,
    RoutingError,
    ToolFailed,
    UnknownServer,
    UnknownTarget,
)
from proxy.errors.upstream import (
    AttemptTimeout,
    AuthRequired,
    CircuitOpen,
    ConnectFailed,
    DeadlineExceeded,
    Draining,
    Lost,
    ProtocolFault,
    QueueFull,
    RateLimited,
    Rejected,
    SessionGone,
    TimedOut,
    TokenUnavailable,
    Unavailable,
    UpstreamError,
)

__all__ = [
    "HEADER_MISMATCH",
    "INTERNAL_ERROR",
    "INVALID_PARAMS",
    "INVALID_REQUEST",
    "METHOD_NOT_FOUND",
    "MISSING_CAPABILITY",
    "PARSE_ERROR",
    "RESOURCE_NOT_FOUND",
    "UNSUPPORTED_VERSION",
    "URL_ELICITATION_REQUIRED",
    "AmbiguousName",
    "ArgumentProblem",
    "AttemptTimeout",
    "AuthRequired",
    "CircuitOpen",
    "ConfigError",
    "ConnectFailed",
    "DeadlineExceeded",
    "Draining",
    "ExtensionFault",
    "InvalidArguments",
    "Lost",
    "ManifoldError",
    "NotReviewed",
    "Problem",
    "ProtocolFault",
    "QueueFull",
    "RateLimited",
    "Rejected",
    "RoutingError",
    "SessionGone",
    "TimedOut",
    "TokenUnavailable",
    "ToolFailed",
    "Unavailable",
    "UnknownServer",
    "UnknownTarget",
    "UpstreamError",
]
