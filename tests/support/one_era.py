"""An HTTP server on the SDK that speaks one era only, or ``both``.

Run with the era and the descriptor of a listening socket. ``GET /seen`` says in which eras it was spoken to.
"""

import os
import socket
import sys

import uvicorn
from mcp.server.mcpserver import MCPServer
from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

server = MCPServer("peer", log_level="ERROR")


@server.tool()
def pid() -> int:
    return os.getpid()


class OneEra:
    """Refuses what belongs to the other era, by the revision that the header names."""

    def __init__(self, app: ASGIApp, era: str) -> None:
        self.app = app
        self.era = era
        self.seen: set[str] = set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            if scope["path"] == "/seen":
                await JSONResponse(sorted(self.seen))(scope, receive, send)
                return
            version = dict(scope["headers"]).get(b"mcp-protocol-version", b"")
            era = "modern" if version == b"2026-07-28" else "handshake"
            self.seen.add(era)
            if self.era not in (era, "both"):
                error = {"jsonrpc": "2.0", "id": None, "error": {"code": -32600, "message": "not my era"}}
                await JSONResponse(error, status_code=400)(scope, receive, send)
                return
        await self.app(scope, receive, send)


def main() -> None:
    app = OneEra(server.streamable_http_app(), sys.argv[1])
    listener = socket.socket(fileno=int(sys.argv[2]))
    uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)).run(sockets=[listener])


if __name__ == "__main__":
    main()
