"""An MCP server on standard input and output that tells of a resource when its tool ``touch`` says so."""

import json
import sys
from typing import Any

TOUCH = {"name": "touch", "inputSchema": {"type": "object", "properties": {"uri": {"type": "string"}}}}
CAPABILITIES = {"tools": {}, "resources": {"subscribe": True}}
LISTS: dict[str, dict[str, Any]] = {
    "tools/list": {"tools": [TOUCH]},
    "resources/list": {"resources": [{"uri": "file:///one", "name": "one"}]},
    "resources/templates/list": {"resourceTemplates": [{"uriTemplate": "file:///{+path}", "name": "any"}]},
    "prompts/list": {"prompts": []},
}


def say(message: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
    sys.stdout.flush()


def answer(method: str, params: dict[str, Any]) -> dict[str, Any] | None:
    if method == "initialize":
        info = {"name": "peer", "version": "1"}
        return {"protocolVersion": params["protocolVersion"], "capabilities": CAPABILITIES, "serverInfo": info}
    if method == "resources/read":
        return {"contents": [{"uri": params["uri"], "text": params["uri"].rpartition("/")[2]}]}
    if method == "tools/call":
        uri = params["arguments"]["uri"]
        say({"method": "notifications/resources/updated", "params": {"uri": uri}})
        return {"content": [{"type": "text", "text": uri}]}
    if method in ("resources/subscribe", "resources/unsubscribe", "ping"):
        return {}
    return LISTS.get(method)


def main() -> None:
    for line in sys.stdin:
        message = json.loads(line)
        if "id" not in message:
            continue
        result = answer(message["method"], message.get("params") or {})
        fault = {"code": -32601, "message": "no such method"}
        say({"id": message["id"], **({"error": fault} if result is None else {"result": result})})


if __name__ == "__main__":
    main()
