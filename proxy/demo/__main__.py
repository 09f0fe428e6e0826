"""``python -m proxy.demo``: Manifold with ``configs/demo.yaml``, and the HTTP upstream that this file expects.

The library server runs over HTTP as a child; the other demo servers are stdio upstreams which Manifold starts itself.
Both children end with this process. Ports that are taken are replaced by the next free ones.
"""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final

import anyio
from anyio.abc import Process

HOST: Final = "127.0.0.1"
PORT: Final = 8300
LIBRARY_PORT: Final = 8391
LIBRARY_URL: Final = "MANIFOLD_DEMO_LIBRARY_URL"
"""The environment variable from which ``configs/demo.yaml`` reads where the library server listens."""
TRIES: Final = 100
STOP_TIMEOUT: Final = 15.0
"""Seconds a child gets to end after SIGTERM."""
START_TIMEOUT: Final = 30.0
"""Seconds the library server gets to answer for the first time."""
CONFIG: Final = Path(__file__).parents[2] / "configs" / "demo.yaml"


def main() -> int:
    """Run the demo until a signal comes or Manifold ends; returns its exit code."""
    if not CONFIG.is_file():
        _say(f"{CONFIG} is missing: the demo runs from a checkout. Elsewhere use `mcp-manifold serve`.")
        return 2
    return anyio.run(_demo)


async def _demo() -> int:
    code = 0
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(_cancel_on, signals, tasks.cancel_scope)
            try:
                async with _library() as url:
                    code = await _manifold(url)
            except OSError as error:
                _say(str(error))
                code = 1
            tasks.cancel_scope.cancel()
    return code


async def _cancel_on(signals: AsyncIterator[signal.Signals], scope: anyio.CancelScope) -> None:
    async for _ in signals:
        scope.cancel()
        return


@asynccontextmanager
async def _library() -> AsyncIterator[str]:
    """Run the library server over HTTP and yield its URL once it answers. Raises OSError if it does not."""
    with _listen(LIBRARY_PORT, "the library server") as listener:
        port = listener.getsockname()[1]
        fd = listener.fileno()
        library = _child("-m", "proxy.demo.library", "--http-fd", str(fd), fds=(fd,))
        async with library:
            listener.close()  # the child has it now; if the child dies, connections fail at once
            await _answers(port)
            yield f"http://{HOST}:{port}/mcp"


async def _manifold(library_url: str) -> int:
    """Run ``mcp-manifold serve`` to its end and return its exit code. Raises OSError if no port is free."""
    with _listen(PORT, "Manifold") as probe:
        port = probe.getsockname()[1]
    os.environ[LIBRARY_URL] = library_url
    async with _child("-m", "proxy", "serve", "--http", "--config", str(CONFIG), "--port", str(port)) as server:
        return await server.wait()


@asynccontextmanager
async def _child(*arguments: str, fds: tuple[int, ...] = ()) -> AsyncIterator[Process]:
    """Run a Python child in a process group of its own, so that Ctrl-C in a terminal reaches this process only."""
    process = await anyio.open_process(
        [sys.executable, *arguments],
        stdin=subprocess.DEVNULL,
        stdout=None,
        stderr=None,
        start_new_session=True,
        pass_fds=fds,
    )
    try:
        yield process
    finally:
        with anyio.CancelScope(shield=True):
            await _stop(process)


async def _stop(process: Process) -> None:
    if process.returncode is None:
        process.terminate()
        with anyio.move_on_after(STOP_TIMEOUT):
            await process.wait()
    if process.returncode is None:
        process.kill()
        await process.wait()


async def _answers(port: int) -> None:
    """Wait for the first answer: the socket listens already, so that one request waits as long as the start takes."""
    try:
        with anyio.fail_after(START_TIMEOUT):
            async with await anyio.connect_tcp(HOST, port) as stream:
                await stream.send(f"GET / HTTP/1.1\r\nHost: {HOST}:{port}\r\nConnection: close\r\n\r\n".encode())
                await stream.receive()
    except (TimeoutError, anyio.EndOfStream, anyio.BrokenResourceError) as error:
        raise OSError(f"the library server on port {port} did not start") from error


def _listen(wanted: int, who: str) -> socket.socket:
    """Listen on the first free loopback port from ``wanted`` on. Raises OSError if all of them are taken."""
    for port in range(wanted, wanted + TRIES):
        try:
            listener = socket.create_server((HOST, port))
        except OSError:
            continue
        if port != wanted:
            _say(f"Port {wanted} is taken; {who} uses {port}.")
        return listener
    raise OSError(f"no free port for {who} between {wanted} and {wanted + TRIES - 1}")


def _say(text: str) -> None:
    print(f"demo: {text}", file=sys.stderr, flush=True)  # noqa: T201 - a launcher talks to the person who started it


if __name__ == "__main__":
    sys.exit(main())
