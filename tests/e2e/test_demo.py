"""``make run``, as a newcomer meets it."""

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path

import anyio
import anyio.to_thread
import psutil
from anyio.abc import Process
from fastmcp import Client

from proxy.demo.__main__ import HOST, LIBRARY_PORT, PORT
from tests.e2e.peers.rig import ROOT

ENDPOINT = re.compile(r"http://127\.0\.0\.1:(\d+)/mcp")
TOOLS = {"mcp_notes_create_note", "mcp_clock_now_in", "mcp_library_search_books"}


@asynccontextmanager
async def demo(state: Path) -> AsyncIterator[tuple[Process, str]]:
    """The running demo and its endpoint, once it has printed that."""
    env = os.environ | {"XDG_STATE_HOME": str(state)}
    command = [sys.executable, "-m", "proxy.demo"]
    process = await anyio.open_process(command, cwd=ROOT, env=env, stderr=subprocess.STDOUT)
    try:
        yield process, await endpoint(process)
    finally:
        with anyio.CancelScope(shield=True), anyio.fail_after(30):
            await end(process)
            await process.aclose()


async def endpoint(process: Process) -> str:
    assert process.stdout is not None
    said = ""
    with anyio.fail_after(50):
        async for chunk in process.stdout:
            said += chunk.decode()
            if found := ENDPOINT.search(said):
                return found[0]
    raise AssertionError(f"the demo ended without an endpoint:\n{said}")


async def end(process: Process) -> int:
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
    return await process.wait()


async def test_the_demo_serves_three_servers_and_leaves_nothing_behind(tmp_path: Path) -> None:
    async with demo(tmp_path) as (process, url):
        async with Client(url) as client:
            assert {tool.name for tool in await client.list_tools()} >= TOOLS
            found = await client.call_tool("mcp_library_search_books", {"author": "Euclid"})
            assert (found.structured_content or {})["books"][0]["title"] == "Elements"
        children = psutil.Process(process.pid).children(recursive=True)
        with anyio.fail_after(30):
            assert await end(process) == 0
        _, alive = await anyio.to_thread.run_sync(psutil.wait_procs, children, 5)
    assert len(children) >= 4
    assert alive == []


async def test_the_demo_chooses_other_ports_when_its_own_are_taken(tmp_path: Path) -> None:
    with ExitStack() as taken:
        for port in (PORT, LIBRARY_PORT):
            with suppress(OSError):  # somebody else has it: just as good
                taken.enter_context(socket.create_server((HOST, port)))
        async with demo(tmp_path) as (_, url), Client(url) as client:
            assert f":{PORT}/" not in url
            found = await client.call_tool("mcp_library_get_book", {"book_id": "emma"})
            assert (found.structured_content or {})["author"] == "Jane Austen"
