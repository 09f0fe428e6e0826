"""``fastmcp.create_proxy`` of a configuration: ``create_proxy.py http|sse PORT CONFIG``, or ``stdio 0 CONFIG``."""

import json
import os
import sys
from pathlib import Path

os.environ.update(FASTMCP_LOG_ENABLED="false", FASTMCP_CHECK_FOR_UPDATES="off", FASTMCP_SHOW_SERVER_BANNER="false")

import uvicorn
from fastmcp.server import create_proxy

TRANSPORT, PORT, CONFIG = sys.argv[1], int(sys.argv[2]), json.loads(Path(sys.argv[3]).read_text())
server = create_proxy(CONFIG, name="proxy")
if TRANSPORT == "stdio":
    server.run(transport="stdio", show_banner=False)
else:
    app = server.http_app("/sse", transport="sse") if TRANSPORT == "sse" else server.http_app("/mcp")
    uvicorn.run(app, host="127.0.0.1", port=PORT, log_level="error", access_log=False, loop="uvloop", http="httptools")
