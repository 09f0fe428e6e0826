"""A small MCP server on standard input and output, quick to start and quick to end. Run as a program: LABEL [TOOL]...

Every tool answers with the label. ``hold`` first says that it runs and then waits, by two named pipes:
``{"running": path, "go": path}``.
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

LABEL = sys.argv[1]
TOOLS = sys.argv[2:] or ["who", "hold"]


def initialize(_params: dict[str, Any]) -> Any:
    return {
        "protocolVersion": "2025-11-25",
        "capabilities": {"tools": {"listChanged": True}},
        "serverInfo": {"name": LABEL, "version": "1"},
    }


def tools(_params: dict[str, Any]) -> Any:
    return {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in TOOLS]}


def call(params: dict[str, Any]) -> Any:
    if params["name"] == "hold":
        Path(params["arguments"]["running"]).write_text("")
        Path(params["arguments"]["go"]).read_text()
    return {"content": [{"type": "text", "text": LABEL}]}


METHODS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "initialize": initialize,
    "tools/list": tools,
    "tools/call": call,
    "ping": lambda _params: {},
}


def answer(message: dict[str, Any]) -> dict[str, Any]:
    method = METHODS.get(message["method"])
    if method is None:
        return {"error": {"code": -32601, "message": "Method not found"}}
    return {"result": method(message.get("params") or {})}


def main() -> None:
    for line in sys.stdin:
        message = json.loads(line)
        if "id" in message:
            print(json.dumps({"jsonrpc": "2.0", "id": message["id"], **answer(message)}), flush=True)


if __name__ == "__main__":
    main()
