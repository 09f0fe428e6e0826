"""A FastMCP server for links to talk to. Run as a program: ``stdio``, or ``http``/``sse`` (prints its port first)."""

import os
import socket
import sys

os.environ.update(FASTMCP_LOG_ENABLED="false", FASTMCP_CHECK_FOR_UPDATES="off", FASTMCP_SHOW_SERVER_BANNER="false")

import anyio
import uvicorn
from fastmcp import Context, FastMCP

server = FastMCP("peer")
cancelled = 0


@server.tool
def add(a: int, b: int) -> int:
    return a + b


@server.tool
async def count(to: int, ctx: Context) -> str:
    for number in range(to):
        await ctx.report_progress(number + 1, to)
    return "counted"


@server.tool
async def chat(ctx: Context) -> str:
    await ctx.info("hello")
    return "said"


@server.tool
async def ask(ctx: Context) -> str:
    answer = await ctx.elicit("your name?", response_type=str)
    return f"{answer.action}: {getattr(answer, 'data', None)}"


@server.tool
async def wait(ctx: Context) -> str:
    global cancelled  # noqa: PLW0603 - one process, one test
    await ctx.report_progress(1)
    try:
        await anyio.sleep_forever()
    except anyio.get_cancelled_exc_class():
        cancelled += 1
        raise
    return ""


@server.tool
def cancellations() -> int:
    return cancelled


def serve(transport: str) -> None:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen()
    print(listener.getsockname()[1], flush=True)
    app = server.http_app(path="/mcp", transport="sse" if transport == "sse" else "http")
    config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=1)
    uvicorn.Server(config).run(sockets=[listener])


if __name__ == "__main__":
    if sys.argv[1] == "stdio":
        server.run(transport="stdio", show_banner=False)
    else:
        serve(sys.argv[1])
