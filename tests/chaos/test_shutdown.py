"""Manifold is told to end while calls are under way: they are answered first, unless it is told to hurry."""

import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Final

import aiohttp
import anyio
import anyio.to_thread
import httpx2
import psutil
import pytest
from anyio.abc import TaskGroup

from tests.chaos.calling import Caller, Json, calling
from tests.support import scripted
from tests.support.manifold import PATIENCE, Home, Manifold, serving

NAMES: Final = [f"u{number}" for number in range(6)]
TOOL: Final = "mcp_{}_work"
HELLO: Final = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}}
BOTH: Final = {"Accept": "application/json, text/event-stream"}
MODERN: Final = {**BOTH, "MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "subscriptions/listen"}
LISTEN: Final = {
    "method": "subscriptions/listen",
    "params": {
        "_meta": {
            "io.modelcontextprotocol/protocolVersion": "2026-07-28",
            "io.modelcontextprotocol/clientInfo": HELLO["clientInfo"],
            "io.modelcontextprotocol/clientCapabilities": {},
        },
        "notifications": {"toolsListChanged": True},
    },
}


class Load:
    """Calls under way, one on each upstream, and what became of them."""

    def __init__(self, caller: Caller) -> None:
        self.answers: list[Json] = []
        self.broken = 0
        self._caller = caller

    async def start(self, tasks: TaskGroup, manifold: Manifold, go: Path) -> None:
        """Begin the calls, and wait until all of them are being executed."""
        for name in NAMES:
            tasks.start_soon(partial(self._call, name, go))
        for name in NAMES:
            await manifold.event("upstream.stderr", upstream=name, line="waiting")

    async def _call(self, name: str, go: Path) -> None:
        try:
            call = self._caller.call(TOOL.format(name), do="wait", text="waiting", file=str(go))
            self.answers.append(await call)
        except (aiohttp.ClientError, OSError):
            self.broken += 1


@asynccontextmanager
async def loaded(folder: Path) -> AsyncIterator[tuple[Manifold, Load]]:
    """A Manifold with calls under way; afterwards no process of it is left."""
    home = Home(folder).write({name: scripted.upstream(name, "work", stop_timeout="500ms") for name in NAMES})
    async with serving(home) as manifold, calling(manifold.url) as caller:
        for name in NAMES:
            await manifold.event("upstream.state", upstream=name, new="ready")
        family = psutil.Process(manifold.pid).children(recursive=True)
        assert len(family) == len(NAMES)
        load = Load(caller)
        async with anyio.create_task_group() as tasks:
            await load.start(tasks, manifold, folder / "go")
            yield manifold, load
        with anyio.fail_after(PATIENCE):
            assert await manifold.process.wait() == 0
        _, alive = await anyio.to_thread.run_sync(psutil.wait_procs, family, 5)
        assert alive == []


async def test_calls_under_way_are_answered_before_the_end(tmp_path: Path) -> None:
    async with loaded(tmp_path) as (manifold, load):
        manifold.process.send_signal(signal.SIGTERM)
        await manifold.event("manifold.stopping")
        assert load.answers == []
        (tmp_path / "go").touch()
    assert len(load.answers) == len(NAMES)
    assert [one for one in load.answers if one.get("isError")] == []


async def test_who_comes_during_the_drain_is_told_so(tmp_path: Path) -> None:
    async with loaded(tmp_path) as (manifold, load), calling(manifold.url) as other:
        manifold.process.send_signal(signal.SIGTERM)
        await manifold.event("manifold.stopping")
        refused = await other.call(TOOL.format(NAMES[0]))
        (tmp_path / "go").touch()
        assert refused["isError"] is True
        assert refused["_meta"]["mcp-manifold/error"]["code"] == "draining"
        assert "was not executed" in refused["content"][0]["text"]
    assert [one for one in load.answers if one.get("isError")] == []


async def test_a_second_signal_waits_for_nobody(tmp_path: Path) -> None:
    async with loaded(tmp_path) as (manifold, load):
        manifold.process.send_signal(signal.SIGTERM)
        await manifold.event("manifold.stopping")
        # Alone, the first signal would give the calls ten seconds.
        manifold.process.send_signal(signal.SIGTERM)
        with anyio.fail_after(5):
            await manifold.process.wait()
    assert load.broken + len([one for one in load.answers if one.get("isError")]) == len(NAMES)


async def test_calls_that_go_on_for_ever_do_not_keep_it_from_ending(tmp_path: Path) -> None:
    async with loaded(tmp_path) as (manifold, load):
        manifold.process.send_signal(signal.SIGTERM)
        with anyio.fail_after(PATIENCE):
            await manifold.process.wait()
    assert load.broken + len([one for one in load.answers if one.get("isError")]) == len(NAMES)


@pytest.mark.parametrize("kind", ["resting", "woken", "legacy", "modern"])
async def test_streams_without_an_end_are_ended_cleanly_and_hold_nothing_up(tmp_path: Path, kind: str) -> None:
    home = Home(tmp_path).write({"a": scripted.upstream("a", "work")})
    async with serving(home) as manifold, httpx2.AsyncClient(timeout=PATIENCE) as http:
        async with endless(http, manifold, kind) as stream:
            assert stream.status_code == 200
            manifold.process.send_signal(signal.SIGTERM)
            with anyio.fail_after(PATIENCE):
                async for _ in stream.aiter_bytes():  # one that is cut off is an error
                    pass
        assert await manifold.process.wait() == 0
        assert [one for one in manifold.events if one["level"] not in ("debug", "info")] == []


@asynccontextmanager
async def endless(http: httpx2.AsyncClient, manifold: Manifold, kind: str) -> AsyncIterator[httpx2.Response]:
    """A stream on which a client hears news for as long as it likes."""
    if kind == "legacy":
        async with http.stream("GET", manifold.base + "/sse", headers=BOTH) as stream:
            yield stream
    elif kind == "modern":
        body = {"jsonrpc": "2.0", "id": 1, **LISTEN}
        async with http.stream("POST", manifold.url, json=body, headers=MODERN) as stream:
            yield stream
    else:
        headers = await session(http, manifold.url)
        if kind == "woken":
            said = {"jsonrpc": "2.0", "method": "notifications/roots/list_changed"}
            assert (await http.post(manifold.url, json=said, headers=headers)).status_code == 202
        async with http.stream("GET", manifold.url, headers=headers) as stream:
            yield stream


async def session(http: httpx2.AsyncClient, url: str) -> Json:
    """Open one; gives the headers of its requests."""
    hello = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": HELLO}
    opened = await http.post(url, json=hello, headers=BOTH)
    headers = {**BOTH, "Mcp-Session-Id": opened.headers["mcp-session-id"]}
    ready = {"jsonrpc": "2.0", "method": "notifications/initialized"}
    assert (await http.post(url, json=ready, headers=headers)).status_code == 202
    return headers
