"""How an error of ours leaves through a door: the one mapping out.

A tool call that fails before the upstream answered becomes a tool result with ``isError``: the model reads it and can
act on it. Everything else, and every error of the upstream itself, is a JSON-RPC error.
"""

from collections.abc import Mapping
from typing import Any, Final

from mcp.shared.exceptions import MCPError

from proxy.bridge.convert import Crossing, error_for
from proxy.errors import ManifoldError, Rejected, RoutingError, UpstreamError
from proxy.model import Sent
from proxy.router import Request, Routed

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


def refusal(request: Request, routed: Routed, error: Rejected) -> MCPError:
    """The JSON-RPC error for an upstream's own error, as the downstream's era knows it and with exported URIs."""
    uri = request.params.get("uri")
    crossing = Crossing(error.era or request.caller.era, request.caller.era)
    told = error_for(crossing, request.method, error, uri if isinstance(uri, str) else None)
    data = told.data
    if isinstance(data, Mapping) and isinstance(own := data.get("uri"), str) and own != uri:
        data = {**data, "uri": routed.view.export(routed.route.upstream, own)}
    return MCPError(code=told.jsonrpc, message=told.message, data=data)


def failed_call(error: UpstreamError) -> dict[str, Any]:
    """The tool result for a call which the upstream did not answer."""
    what = describe(error)
    text = f"{what}{'' if what.endswith(('.', '?', '!')) else '.'} {_MAY_HAVE_RUN[error.sent]}"
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
