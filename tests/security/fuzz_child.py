"""An MCP server on standard input and output that says before each answer whatever it is told to, byte for byte."""

import json
import sys
from typing import Any


def answer(method: str, params: dict[str, Any]) -> Any:
    if method == "initialize":
        about = {"name": "fuzz", "version": "1"}
        return {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": about}
    if method == "tools/list":
        return {"tools": [{"name": "say", "inputSchema": {"type": "object"}}]}
    if method == "tools/call":
        for piece in params.get("arguments", {}).get("pieces", ()):
            sys.stdout.buffer.write(bytes.fromhex(piece) + b"\n")
    return {"content": [{"type": "text", "text": "said"}]} if method == "tools/call" else {}


def main() -> None:
    for line in sys.stdin:
        message = json.loads(line)
        if "id" in message and "method" in message:
            result = answer(message["method"], message.get("params") or {})
            sys.stdout.buffer.write(
                json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": result}).encode() + b"\n"
            )
            sys.stdout.buffer.flush()


if __name__ == "__main__":
    main()
