"""An MCP server of the handshake era over HTTP, in the test's own process: the test sees every request it gets."""

from collections.abc import Sequence
from typing import Any

from tests.support.link_http import Handler, Request, Response

SESSION = "session-1"


def speaking(tools: Sequence[str] = ("work",)) -> Handler:
    """Answers a client of the handshake era; its tools say which they are."""

    async def handle(request: Request, response: Response) -> None:
        if request.method != "POST":
            response.whole(405)
        elif "id" not in request.message:
            response.whole(202)
        elif request.rpc == "initialize":
            response.result(_hello(request.message["params"]["protocolVersion"]), Mcp_Session_Id=SESSION)
        elif request.rpc == "tools/list":
            response.result({"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in tools]})
        elif request.rpc == "tools/call":
            response.result({"content": [{"type": "text", "text": request.message["params"]["name"]}]})
        elif request.rpc == "ping":
            response.result({})
        else:
            error = {"code": -32601, "message": "no such method"}
            response.json({"jsonrpc": "2.0", "id": request.message["id"], "error": error})

    return handle


def _hello(version: str) -> dict[str, Any]:
    server = {"name": "recording", "version": "1"}
    return {"protocolVersion": version, "capabilities": {"tools": {"listChanged": True}}, "serverInfo": server}
