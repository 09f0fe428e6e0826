"""Starts servers over HTTP for a test and ends them, with everything they started."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress

import anyio
from anyio.abc import Process

from tests.e2e.peers.rig import ROOT

START_TIMEOUT = 60.0
STOP_TIMEOUT = 5.0


@asynccontextmanager
async def demo_over_http(name: str) -> AsyncIterator[str]:
    """Serve a demo server (``notes``, ``clock``, ``library``) over streamable HTTP; yields its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port, fd = listener.getsockname()[1], listener.fileno()
        command = [sys.executable, "-m", f"proxy.demo.{name}", "--http-fd", str(fd)]
        process = await anyio.open_process(command, cwd=ROOT, pass_fds=(fd,), start_new_session=True)
    # The socket listened before the child ran: a client that connects now waits until the child is there.
    async with _ending(process):
        yield f"http://127.0.0.1:{port}/mcp"


@asynccontextmanager
async def everything_over_http(command: Sequence[str], *, sse: bool = False) -> AsyncIterator[str]:
    """Serve the npm ``everything`` server (``Peers.npm_server``) over HTTP; yields its URL once it listens."""
    port = free_port()
    kind, path = ("sse", "sse") if sse else ("streamableHttp", "mcp")
    async with started([*command, kind], ready=rf"on port {port}", env={"PORT": str(port)}):
        yield f"http://127.0.0.1:{port}/{path}"


@asynccontextmanager
async def started(
    command: Sequence[str], *, ready: str, env: Mapping[str, str] | None = None
) -> AsyncIterator[Process]:
    """Run a server whose stderr says ``ready`` (a regular expression) when it listens.

    Raises AssertionError with what it said if it ends before, TimeoutError if it never says so.
    """
    process = await anyio.open_process(
        command, env=os.environ | (env or {}), stdout=subprocess.DEVNULL, start_new_session=True
    )
    async with _ending(process), anyio.create_task_group() as tasks:
        with anyio.fail_after(START_TIMEOUT):
            await _say(process, ready)
        tasks.start_soon(_drain, process)
        yield process
        tasks.cancel_scope.cancel()


def free_port() -> int:
    """A loopback port that is free now, for servers which cannot take over a socket."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port: int = listener.getsockname()[1]
        return port


async def _say(process: Process, ready: str) -> None:
    assert process.stderr is not None
    said = ""
    async for chunk in process.stderr:
        said += chunk.decode(errors="replace")
        if re.search(ready, said):
            return
    raise AssertionError(f"the server ended before it listened:\n{said}")


async def _drain(process: Process) -> None:
    assert process.stderr is not None
    async for _ in process.stderr:
        pass


@asynccontextmanager
async def _ending(process: Process) -> AsyncIterator[None]:
    try:
        yield
    finally:
        with anyio.CancelScope(shield=True):
            _signal(process, signal.SIGTERM)
            with anyio.move_on_after(STOP_TIMEOUT):
                await process.wait()
            _signal(process, signal.SIGKILL)
            await process.aclose()


def _signal(process: Process, number: signal.Signals) -> None:
    """To the whole group: a server may have children which outlive it."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
