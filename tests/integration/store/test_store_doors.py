"""One implementation, two doors: the same scenario through the Python API and through a server."""

import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio

from proxy import Manifold
from proxy.app import Serving, serve_http
from proxy.bridge.failed import describe, details
from proxy.config.load import load_data
from proxy.config.model import EraChoice, Transport, UpstreamConfig
from proxy.errors import Rejected, UpstreamError
from proxy.model import Call
from proxy.runtime import Runtime, background
from proxy.upstream.connect import connected
from proxy.upstream.negotiate import Offer
from tests.support import scripted
from tests.support.manifold import ROOT, Home, stdio
from tests.support.store_peer import Json, Peer, Refusal, serving, text

SCENARIO: tuple[tuple[str, Json], ...] = (
    ("mcp_web_find", {"q": "x"}),
    ("web.find", {"q": "again"}),
    ("mcp_web_fail", {}),
    ("mcp_web_refuse", {}),
    ("mcp_web_fnd", {}),
    ("mcp_files_find", {}),
    ("find", {}),
    ("mcp_web_hold", {}),
    ("mcp_gone_away", {}),
)

Told = dict[str, Any]


async def fail(_arguments: Json) -> Json:
    return text("the disk is full", isError=True)


async def refuse(_arguments: Json) -> Json:
    raise Refusal(-32123, "not on Sundays", {"next": "Monday"})


async def hold(_arguments: Json) -> Json:
    await anyio.sleep_forever()
    return {}


def peers() -> tuple[Peer, Peer, Peer]:
    web = Peer("web").define("find")
    for name, tool in (("fail", fail), ("refuse", refuse), ("hold", hold)):
        web.tools[name], web.schemas[name] = tool, {"type": "object"}
    return web, Peer("files").define("find"), Peer("gone").define("away")


def config(*upstreams: Peer) -> dict[str, Any]:
    return {
        "server": {"port": 0},
        "mcpServers": {peer.name: peer.entry(timeout=0.5, retry={"attempts": 1}) for peer in upstreams},
        "agents": {"reader": {"servers": ["files"]}},
    }


async def through_the_api(manifold: Manifold, agent: str | None) -> list[Told]:
    context = manifold.for_store() if agent is None else manifold.for_agent(agent)
    told: list[Told] = [{"tools": [dict(tool.raw) for tool in await context.list_tools()]}]
    for name, arguments in SCENARIO:
        result = await context.call_tool(name, arguments, errors="result")
        error = result.error
        if isinstance(error, Rejected):
            told.append({"code": error.jsonrpc, "message": error.message, "data": error.data})
        elif error is not None and not isinstance(error, UpstreamError):
            told.append({"code": error.jsonrpc, "message": describe(error), "data": details(error)})
        else:
            told.append({"result": result.raw})
    return told


async def through_the_server(url: str) -> list[Told]:
    config = UpstreamConfig(type=Transport.HTTP, url=url)
    offer = Offer(EraChoice.HANDSHAKE)
    async with connected("server", config, lambda _method, _params: None, offer) as session:
        await session.open()
        listing = await session.list_all()
        told: list[Told] = [{"tools": [dict(tool) for tool in listing.tools]}]
        for name, arguments in SCENARIO:
            try:
                reply = await session.request(Call("server", "tools/call", {"name": name, "arguments": arguments}))
            except Rejected as error:
                told.append({"code": error.jsonrpc, "message": error.message, "data": error.data})
            else:
                told.append({"result": reply.result})
    return told


@asynccontextmanager
async def served(data: dict[str, Any]) -> AsyncIterator[Serving]:
    open_doors: list[Serving] = []
    is_open = anyio.Event()

    async def opened(serving_now: Serving) -> None:
        open_doors.append(serving_now)
        is_open.set()

    async def serve() -> None:
        await serve_http(load_data(data).config, opened=opened)

    async with background() as tasks:
        tasks.start_soon(serve)
        with anyio.fail_after(20):
            await is_open.wait()
        yield open_doors[0]


def counted(runtime: Runtime) -> dict[str, tuple[int, int, dict[str, int]]]:
    found = runtime.registry.metrics.tools()
    return {f"{one.upstream}.{one.tool}": (one.calls, one.successes, dict(one.failures)) for one in found}


async def test_results_errors_and_figures_are_the_same_at_both_doors() -> None:
    async with serving(*peers()) as every:
        gone = every[2]
        with anyio.fail_after(50):
            async with Manifold(config(*every)) as manifold:
                await manifold.for_store().list_tools()
                gone.down = True
                here = [await through_the_api(manifold, None), await through_the_api(manifold, "reader")]
                figures_here = counted(manifold.runtime)
            gone.down = False
            async with served(config(*every)) as server:
                await server.runtime.ready(None)
                gone.down = True
                agent = server.url.replace("/mcp", "/agents/reader/mcp")
                there = [await through_the_server(server.url), await through_the_server(agent)]
                figures_there = counted(server.runtime)
    for mine, theirs in zip([*here[0], *here[1]], [*there[0], *there[1]], strict=True):
        assert mine == theirs
    assert figures_here == figures_there
    codes = {code for _, _, failures in figures_here.values() for code in failures}
    assert len(codes) >= 3


PLUGIN = """
async def audit(call, call_next):
    reply = await call_next(call)
    return type(reply).of({**reply.result, "_meta": {"audited": call.target}})
"""


def plugin(folder: Path, points: str) -> Path:
    """An installed package that brings a middleware."""
    (folder / "plugin_of_a_test.py").write_text(PLUGIN)
    info = folder / "plugin_of_a_test-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: plugin-of-a-test\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[mcp_manifold.middleware]\n{points}\n")
    return folder


async def test_the_middleware_of_installed_packages_is_at_the_servers_doors_too(tmp_path: Path) -> None:
    home = Home(tmp_path).write({"a": scripted.upstream("a", "one")})
    path = os.pathsep.join((str(ROOT), str(plugin(tmp_path, "audit = plugin_of_a_test:audit"))))
    called = await home.run("call", "one", PYTHONPATH=path)
    assert json.loads(called.stdout)["_meta"] == {"audited": "one"}
    async with stdio(home, PYTHONPATH=path) as wire:
        await wire.open()
        assert (await wire.call("mcp_a_one"))["_meta"] == {"audited": "one"}


async def test_a_server_does_not_start_without_a_middleware_that_is_installed(tmp_path: Path) -> None:
    home = Home(tmp_path).write({"a": scripted.upstream("a", "one")})
    path = os.pathsep.join((str(ROOT), str(plugin(tmp_path, "audit = plugin_of_a_test:missing"))))
    done = await home.run("serve", PYTHONPATH=path)
    assert done.returncode != 0
    assert "mcp_manifold.middleware: audit" in done.stderr
    assert "uninstall plugin-of-a-test" in done.stderr
