"""An MCP server on standard input and output that writes down everything that reaches it. Run as a program: FILE.

Its environment and its arguments count as well. ``leak`` says on standard error what its environment has for a name.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

FILE = Path(sys.argv[1])


def answer(message: dict[str, Any]) -> Any:
    method, params = message["method"], message.get("params") or {}
    if method == "initialize":
        about = {"name": "recorder", "version": "1"}
        return {"protocolVersion": "2025-11-25", "capabilities": {"tools": {}}, "serverInfo": about}
    if method == "tools/list":
        return {"tools": [{"name": "stdio_tool", "inputSchema": {"type": "object"}}]}
    if method == "tools/call" and "leak" in params.get("arguments", {}):
        print(f"my secret is {os.environ[params['arguments']['leak']]}", file=sys.stderr, flush=True)
    return {"content": [{"type": "text", "text": "noted"}]}


def main() -> None:
    with FILE.open("a") as file:
        file.write(json.dumps([sys.argv, dict(os.environ)]) + "\n")
        for line in sys.stdin:
            file.write(line)
            file.flush()
            message = json.loads(line)
            if "id" in message:
                print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": answer(message)}), flush=True)


if __name__ == "__main__":
    main()
