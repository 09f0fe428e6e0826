"""How an error of ours leaves through a door: the one mapping out.

A tool call that fails before the upstream answered becomes a tool result with ``isError``: the model reads it and can
act on it. Everything else, and every error of the upstream itself, is a JSON-RPC error.
"""

from typing import Any, Final

from mcp.shared.exceptions import MCPError

from proxy.errors import ManifoldError, Rejected, RoutingError, UpstreamError
from proxy.model import Sent

_MAY_HAVE_RUN: Final = {
    Sent.NO: "The call was not executed; it is safe to try again.",
    Sent.MAYBE: "The call may have been executed: check before trying again.",
    Sent.YES: "The call reached the server, which answered in a way that cannot be used.",
}


def wire_error(error: ManifoldError) -> MCPError:
    """The JSON-RPC error for a failure."""
    if isinstance(error, Rejected):
        return MCPError(code=error.jsonrpc, message=error.message, data=error.data)
    return MCPError(code=error.jsonrpc, message=describe(error), data=details(error))


def failed_call(error: UpstreamError) -> dict[str, Any]:
    """The tool result for a call which the upstream did not answer."""
    text = f"{describe(error)} {_MAY_HAVE_RUN[error.sent]}"
    return {
        "content": [{"type": "text", "text": text}],
        "isError": True,
        "_meta": {"mcp-manifold/error": details(error)},
    }


def describe(error: ManifoldError) -> str:
    """What failed, where, and what to do, in one line."""
    where = f"Upstream {error.upstream!r}: " if isinstance(error, UpstreamError) and error.upstream else ""
    return f"{where}{error.text()}"


def details(error: ManifoldError) -> dict[str, Any]:
    """The same for programs: stable codes and nothing secret."""
    out: dict[str, Any] = {"code": error.code, "documentation": error.anchor}
    if isinstance(error, UpstreamError):
        out |= {"upstream": error.upstream, "sent": error.sent.value}
    if isinstance(error, RoutingError) and error.suggestions:
        out["suggestions"] = list(error.suggestions)
    if error.hint:
        out["hint"] = error.hint
    return out
