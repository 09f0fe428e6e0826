"""Upstreams that die and come back, and what is left when Manifold ends: nothing."""

import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import anyio
import anyio.to_thread
import httpx2
import psutil
import pytest
from anyio.abc import Process
from mcp import Client

from proxy.runtime import background
from tests.support.lanes import introduce
from tests.support.legacy import legacy
from tests.support.manifold import PATIENCE, ROOT, Home, Wire, serving, started, stdio
from tests.support.scripted import upstream

BY_SIGNAL = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])


def family(pid: int) -> list[psutil.Process]:
    return psutil.Process(pid).children(recursive=True)


async def survivors(processes: list[psutil.Process]) -> list[psutil.Process]:
    """Those of some processes that are still there, zombies included."""
    _, alive = await anyio.to_thread.run_sync(psutil.wait_procs, processes, 5)
    return list(alive)


def two_with_a_stubborn_grandchild(home: Home) -> Home:
    quick = {"stop_timeout": "500ms"}
    return home.write({"a": upstream("a", "work", **quick), "b": upstream("b", "work", **quick)})


async def kill(pid: int) -> None:
    """Kill a process, and wait until it is dead; its parent may not know yet."""
    handle = os.pidfd_open(pid)
    try:
        os.kill(pid, signal.SIGKILL)
        with anyio.fail_after(PATIENCE):
            await anyio.wait_readable(handle)
    finally:
        os.close(handle)


async def pid_of(wire: Wire, tool: str) -> int:
    return int((await wire.call(tool))["structuredContent"]["pid"])


async def test_a_killed_stdio_server_costs_no_call(tmp_path: Path) -> None:
    async with stdio(Home(tmp_path).write({"a": upstream("a", "work")})) as wire:
        await wire.open()
        pids = [await pid_of(wire, "mcp_a_work")]
        for _ in range(3):
            await kill(pids[-1])
            pids.append(await pid_of(wire, "mcp_a_work"))
        assert len(set(pids)) == 4
        assert [child.pid for child in family(wire.manifold.pid)] == [pids[-1]]  # zombies would be here, too


async def test_a_server_that_dies_in_a_call_is_not_asked_twice(tmp_path: Path) -> None:
    async with stdio(Home(tmp_path).write({"a": upstream("a", "work")})) as wire:
        await wire.open()
        answer = await wire.call("mcp_a_work", do="die")
        assert answer["isError"] is True
        assert "may have been executed" in answer["content"][0]["text"]
        assert "isError" not in await wire.call("mcp_a_work")


@asynccontextmanager
async def library_on(listener: socket.socket, era: str) -> AsyncIterator[Process]:
    """A server process on a socket that outlives it, so that nobody is refused between two of them."""
    fd = listener.fileno()
    program = "tests.support.one_era"
    process = await anyio.open_process(
        [sys.executable, "-m", program, era, str(fd)], cwd=ROOT, pass_fds=(fd,), stdout=None, stderr=None
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        await process.aclose()


@pytest.mark.parametrize("era", ["handshake", "modern"])
async def test_a_restarted_http_server_costs_no_call(tmp_path: Path, era: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}/mcp"
        home = Home(tmp_path).write({"a": {"url": url, "grace": "20s"}})
        async with library_on(listener, era) as first, serving(home) as manifold, Client(manifold.url) as client:
            assert (await client.call_tool("mcp_a_pid")).structured_content == {"result": first.pid}
            ready = await manifold.event("upstream.state", upstream="a", new="ready")
            assert ready["reason"].startswith(era)
            first.kill()
            await first.wait()
            async with library_on(listener, era) as second:
                assert (await client.call_tool("mcp_a_pid")).structured_content == {"result": second.pid}


async def test_a_client_of_another_era_has_a_session_of_its_own_where_the_server_speaks_both(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        home = Home(tmp_path).write({"a": {"url": f"{url}/mcp"}})
        async with library_on(listener, "both"), serving(home) as manifold, httpx2.AsyncClient() as http:
            ready = await manifold.event("upstream.state", upstream="a", new="ready")
            assert ready["reason"].startswith("modern")
            assert (await http.get(f"{url}/seen")).json() == ["modern"]
            async with legacy(manifold) as client:
                await introduce(client)
                await client.call("mcp_a_pid")
            assert (await http.get(f"{url}/seen")).json() == ["handshake", "modern"]


@BY_SIGNAL
async def test_a_signal_over_http_leaves_no_process(tmp_path: Path, number: signal.Signals) -> None:
    async with serving(two_with_a_stubborn_grandchild(Home(tmp_path))) as manifold:
        async with Client(manifold.url) as client:
            await client.call_tool("mcp_b_work", {"do": "spawn"})
        processes = family(manifold.pid)
        assert len(processes) == 3
        assert await manifold.end(number) == 0
        assert await survivors(processes) == []


@BY_SIGNAL
async def test_a_signal_over_stdio_leaves_no_process(tmp_path: Path, number: signal.Signals) -> None:
    async with stdio(two_with_a_stubborn_grandchild(Home(tmp_path))) as wire:
        await wire.open()
        await wire.call("mcp_b_work", do="spawn")
        processes = family(wire.manifold.pid)
        assert len(processes) == 3
        assert await wire.manifold.end(number) == 0
        assert await survivors(processes) == []


async def test_a_client_that_closes_standard_input_leaves_no_process(tmp_path: Path) -> None:
    async with stdio(two_with_a_stubborn_grandchild(Home(tmp_path))) as wire:
        await wire.open()
        await wire.call("mcp_b_work", do="spawn")
        processes = family(wire.manifold.pid)
        assert len(processes) == 3
        assert await wire.close() == 0
        assert await survivors(processes) == []


CLIENT = """
import subprocess, sys
manifold = subprocess.Popen(sys.argv[2:], stdin=subprocess.PIPE)
manifold.stdin.write(sys.argv[1].encode())
manifold.stdin.flush()
manifold.wait()
"""


async def test_a_client_that_is_killed_leaves_no_process(tmp_path: Path) -> None:
    home = two_with_a_stubborn_grandchild(Home(tmp_path))
    command = [sys.executable, "-S", "-c", CLIENT, Wire.OPENING, *home.command("serve", "--stdio")]
    async with started(command, tmp_path, home.env()) as client:
        for name in ("a", "b"):
            await client.event("upstream.state", upstream=name, new="ready")
        processes = family(client.pid)
        assert len(processes) == 3
        client.process.kill()
        assert await survivors(processes) == []


async def test_a_second_signal_hurries(tmp_path: Path) -> None:
    home = Home(tmp_path).write({"a": upstream("a", "work")})
    async with serving(home) as manifold:
        async with background() as tasks, Client(manifold.url) as client:
            tasks.start_soon(_call_that_never_ends, client)
            await manifold.event("upstream.stderr", line="waiting")
            processes = family(manifold.pid)
            manifold.process.send_signal(signal.SIGTERM)
            await manifold.event("manifold.stopping")
            # Alone, the first signal would give the call ten seconds.
            manifold.process.send_signal(signal.SIGTERM)
            with anyio.fail_after(PATIENCE):
                assert await manifold.process.wait() == 0
        assert await survivors(processes) == []


async def _call_that_never_ends(client: Client) -> None:
    await client.call_tool("mcp_a_work", {"do": "hang", "text": "waiting"})
