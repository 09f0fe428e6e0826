"""An MCP server on standard input and output that does nothing as fast as Python can: canned answers.

``python echo_stdio.py [TOOLS] [RESULT_BYTES] [mortal]``. Handshake era; it refuses ``server/discover`` as older servers
do. A mortal one ends whenever it is called.
"""

import json
import os
import sys

TOOLS = int(sys.argv[1]) if len(sys.argv) > 1 else 1
SIZE = int(sys.argv[2]) if len(sys.argv) > 2 else 16
MORTAL = "mortal" in sys.argv[3:]
SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}, "count": {"type": "integer"}}}
NAMES = ["echo", *(f"tool_{number}" for number in range(1, TOOLS))]
RESULTS = {
    "initialize": {
        "protocolVersion": "VERSION",
        "capabilities": {"tools": {}},
        "serverInfo": {"name": "echo", "version": "1"},
    },
    "tools/list": {
        "tools": [{"name": name, "description": f"The tool {name}. " * 4, "inputSchema": SCHEMA} for name in NAMES]
    },
    "tools/call": {"content": [{"type": "text", "text": "x" * SIZE}], "isError": False},
    "ping": {},
}
VERSIONS = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
CANNED = {method: json.dumps(result) for method, result in RESULTS.items()}
rest = b""
while chunk := os.read(0, 1 << 18):
    *lines, rest = (rest + chunk).split(b"\n")
    out = []
    for line in lines:
        message = json.loads(line)
        if MORTAL and message.get("method") == "tools/call":
            raise SystemExit(1)
        if "id" in message and "method" in message:
            known = CANNED.get(message["method"])
            if message["method"] == "initialize":
                asked = message["params"]["protocolVersion"]
                known = CANNED["initialize"].replace("VERSION", asked if asked in VERSIONS else VERSIONS[-1])
            body = f'"result":{known}' if known else '"error":{"code":-32601,"message":"no such method"}'
            out.append(f'{{"jsonrpc":"2.0","id":{json.dumps(message["id"])},{body}}}\n')
    data = "".join(out).encode()
    while data:
        data = data[os.write(1, data) :]
