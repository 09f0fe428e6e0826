"""A relay with no features at all: uvicorn in front, aiohttp behind, bytes through. The yardstick for Manifold.

``python bare_relay.py PORT TARGET_URL``.
"""

import sys
from typing import Any

import aiohttp
import uvicorn

PORT, TARGET = int(sys.argv[1]), sys.argv[2]
FORWARDED = (b"mcp-session-id", b"mcp-protocol-version", b"mcp-method", b"mcp-name", b"accept", b"content-type")
session: aiohttp.ClientSession | None = None


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Pass one request on, and its answer back."""
    global session  # noqa: PLW0603 - made on the loop that uses it
    if scope["type"] != "http":
        return
    if session is None:
        session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
    body = b""
    while True:
        message = await receive()
        body += message["body"]
        if not message.get("more_body"):
            break
    headers = {k.decode(): v.decode() for k, v in scope["headers"] if k in FORWARDED}
    async with session.request(scope["method"], TARGET, data=body, headers=headers) as response:
        streams = response.content_type == "text/event-stream"
        answer = b"" if streams else await response.read()
        back = [
            (k.lower().encode(), v.encode())
            for k, v in response.headers.items()
            if k.lower() in ("content-type", "mcp-session-id", "content-length")
        ]
        await send({"type": "http.response.start", "status": response.status, "headers": back})
        if streams:
            async for chunk in response.content.iter_any():
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": answer})


uvicorn.run(
    app,
    host="127.0.0.1",
    port=PORT,
    log_level="error",
    access_log=False,
    loop="uvloop",
    http="httptools",
    lifespan="off",
    ws="none",
    server_header=False,
    date_header=False,
)
