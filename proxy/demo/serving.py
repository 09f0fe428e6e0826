"""How every demo server is started: over stdio, or over HTTP on loopback."""

import argparse
import socket
from collections.abc import Callable, Sequence
from functools import partial

import anyio
from fastmcp import FastMCP

HOST = "127.0.0.1"


def run(build: Callable[[], FastMCP], arguments: Sequence[str] | None = None) -> None:
    """Serve what ``build`` makes until stdin closes (stdio) or a signal comes (HTTP).

    ``--http PORT`` serves streamable HTTP at ``/mcp`` on loopback. ``--http-fd FD`` does the same on a socket which
    the parent process already listens on. Without either, stdio: stdout then carries nothing but the protocol.
    """
    parser = argparse.ArgumentParser(description="A demo MCP server of Manifold; stdio unless --http is given.")
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--http", type=int, metavar="PORT", help="serve streamable HTTP on this loopback port")
    where.add_argument("--http-fd", type=int, metavar="FD", help="serve streamable HTTP on this listening socket")
    options = parser.parse_args(arguments)
    server = build()
    if options.http is None and options.http_fd is None:
        anyio.run(partial(server.run_stdio_async, show_banner=False))
        return
    anyio.run(_serve_http, server, _socket(options.http, options.http_fd))


def _socket(port: int | None, fd: int | None) -> socket.socket:
    return socket.socket(fileno=fd) if fd is not None else socket.create_server((HOST, port or 0))


async def _serve_http(server: FastMCP, listener: socket.socket) -> None:
    await server.run_http_async(
        show_banner=False,
        host=HOST,
        port=listener.getsockname()[1],
        sockets=[listener],
        host_origin_protection="auto",
        uvicorn_config={"log_level": "warning", "access_log": False},
    )
