"""How an error of ours leaves through a door: the one mapping out.

A tool call that fails before the upstream answered becomes a tool result with ``isError``: the model reads it and can
act on it. Everything else, and every error of the upstream itself, is a JSON-RPC error.
"""

from collections.abc import Mapping

from mcp.shared.exceptions import MCPError

from proxy.bridge.convert import Crossing, error_for
from proxy.bridge.failed import describe, details
from proxy.errors import INVALID_PARAMS, ManifoldError, Rejected
from proxy.router import Request, Routed


def wire_error(error: ManifoldError | RecursionError) -> MCPError:
    """The JSON-RPC error for a failure; for JSON that is nested too deeply as well, wherever that shows."""
    if isinstance(error, RecursionError):
        return MCPError(code=INVALID_PARAMS, message="the message is nested too deeply")
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
