"""Upstreams that come and go at run time, and what is told of them."""

import os
from pathlib import Path
from typing import Any

import anyio
import pytest

from proxy import Manifold, ManifoldError
from proxy.errors import ConfigError, UnknownServer
from proxy.model import StatusEvent, UpstreamState
from tests.support import scripted
from tests.support.link_http import serve
from tests.support.link_tls import self_signed
from tests.support.store_peer import Peer, serving


async def names(manifold: Manifold) -> list[str]:
    return [tool.name for tool in await manifold.for_store().list_tools()]


async def test_a_manifold_starts_from_nothing_and_takes_on_upstreams() -> None:
    async with Manifold() as manifold, serving(Peer("web").define("find")) as (web,):
        assert await names(manifold) == []
        status = await manifold.register("web", web.url)
        assert (status.state, status.tools, status.transport) == (UpstreamState.READY, 1, "http")
        assert manifold.is_registered("web")
        assert await names(manifold) == ["mcp_web_find"]
        await manifold.unregister("web")
        assert not manifold.is_registered("web")
        assert await names(manifold) == []


async def test_a_manifold_starts_from_a_file(tmp_path: Path) -> None:
    file = tmp_path / "manifold.yaml"
    async with serving(Peer("web").define("find")) as (web,):
        file.write_text(f"mcpServers: {{web: {{url: '{web.url}'}}}}\n")
        async with Manifold(file) as manifold:
            assert await names(manifold) == ["mcp_web_find"]


def test_a_configuration_that_cannot_be_used_says_everything_at_once() -> None:
    with pytest.raises(ConfigError) as caught:
        Manifold({"mcpServers": {"a": {"comand": "x"}, "b": {"url": 7}}})
    assert len(caught.value.problems) >= 2


async def test_outside_of_its_block_a_manifold_says_that_it_does_not_run() -> None:
    manifold = Manifold()
    with pytest.raises(ManifoldError, match="not running"):
        manifold.for_store()
    async with manifold:
        manifold.for_store()
    with pytest.raises(ManifoldError, match="not running"):
        manifold.status("web")


async def test_names_are_taken_once_and_faulty_specifications_refused() -> None:
    async with Manifold() as manifold, serving(Peer("web")) as (web,):
        await manifold.register("web", web.url)
        with pytest.raises(ConfigError, match="registered already"):
            await manifold.register("web", web.url)
        wrong: list[Any] = [{"comand": "x"}, {}, {"url": "nowhere"}]
        for spec in wrong:
            with pytest.raises(ConfigError):
                await manifold.register("other", spec)
        with pytest.raises(ConfigError, match="name"):
            await manifold.register(" ", web.url)
        with pytest.raises(UnknownServer) as caught:
            await manifold.unregister("wbe")
        assert caught.value.suggestions == ("web",)
        assert list(manifold.statuses()) == ["web"]


async def test_disconnecting_removes_exactly_its_tools_and_connecting_brings_them_back() -> None:
    peers = (Peer("a").define("one", "two"), Peer("b").define("three"))
    async with serving(*peers) as (a, b), Manifold({"mcpServers": {"a": a.entry(), "b": b.entry()}}) as manifold:
        every = await names(manifold)
        assert every == ["mcp_a_one", "mcp_a_two", "mcp_b_three"]
        await manifold.disconnect("a")
        assert await names(manifold) == ["mcp_b_three"]
        assert manifold.is_registered("a")
        assert manifold.status("a").state is UpstreamState.STOPPED
        assert (await manifold.connect("a"))["a"].connected
        assert await names(manifold) == every
        await manifold.disconnect()
        assert await names(manifold) == []
        assert all(status.connected for status in (await manifold.connect()).values())
        assert await names(manifold) == every


async def test_connecting_what_is_broken_says_why() -> None:
    async with Manifold({"mcpServers": {"a": {"command": "not-there-at-all", "grace": 0}}}) as manifold:
        with anyio.fail_after(20):
            status = (await manifold.connect("a"))["a"]
        assert not status.connected
        assert status.error is not None
        assert "not-there-at-all" in status.error.message


@pytest.mark.parametrize("spec", [{"command": "not-there-at-all"}, {"url": "http://127.0.0.1:1/mcp"}])
async def test_registering_what_is_broken_says_so_at_once(spec: dict[str, Any]) -> None:
    async with Manifold() as manifold:
        with anyio.fail_after(30):
            status = await manifold.register("a", {**spec, "grace": "10m"})
        assert not status.connected
        assert status.error is not None
        assert manifold.is_registered("a")


async def test_ensuring_does_nothing_where_nothing_has_to_be_done() -> None:
    async with Manifold() as manifold, serving(Peer("web").define("find")) as (web,):
        assert await manifold.ensure_registered("web", web.entry())
        assert not await manifold.ensure_registered("web", web.entry())
        assert web.listed == 1


@pytest.mark.parametrize("change", [{"headers": {"X-Key": "2"}}, {"era": "auto"}])
async def test_ensuring_connects_anew_what_is_reached_in_another_way(change: dict[str, Any]) -> None:
    async with Manifold() as manifold, serving(Peer("web").define("find")) as (web,):
        await manifold.ensure_registered("web", web.entry())
        assert await manifold.ensure_registered("web", {**web.entry(), **change})
        assert await names(manifold) == ["mcp_web_find"]
        assert web.listed == 2


async def test_ensuring_goes_over_to_another_address_and_keeps_the_link_for_another_limit() -> None:
    async with Manifold() as manifold, serving(Peer("a").define("one"), Peer("b").define("two")) as (a, b):
        await manifold.ensure_registered("web", a.entry())
        assert await manifold.ensure_registered("web", b.entry())
        assert await names(manifold) == ["mcp_web_two"]
        assert await manifold.ensure_registered("web", b.entry(timeout=7))
        assert b.listed == 1


async def test_ensuring_connects_anew_what_is_in_error() -> None:
    web = Peer("web").define("find")
    web.down = True
    async with serving(web), Manifold() as manifold:
        spec = web.entry(grace=0.2)
        await manifold.ensure_registered("web", spec)
        assert not manifold.status("web").connected
        web.down = False
        with anyio.fail_after(20):
            while not manifold.status("web").connected:
                await manifold.ensure_registered("web", spec)
        assert await names(manifold) == ["mcp_web_find"]


async def test_ensuring_what_is_there_lets_others_run() -> None:
    web = Peer("web").define("find")
    async with serving(web), Manifold() as manifold:
        await manifold.ensure_registered("web", web.entry())
        ran = anyio.Event()

        async def other() -> None:
            ran.set()

        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(other)
                while not ran.is_set():
                    assert not await manifold.ensure_registered("web", web.entry())


async def test_changes_of_state_are_told_and_a_failing_callback_harms_nobody() -> None:
    told: list[tuple[str, str, str]] = []
    late: list[str] = []
    known = anyio.Event()

    def fails(_event: StatusEvent) -> None:
        raise RuntimeError("a bug of the caller's")

    async def fails_late(_event: StatusEvent) -> None:
        raise RuntimeError("another one")

    async def hears_late(event: StatusEvent) -> None:
        late.append(event.new)
        if event.new is UpstreamState.READY:
            known.set()

    async with Manifold() as manifold, serving(Peer("web").define("find")) as (web,):
        for callback in (fails, fails_late, hears_late):
            manifold.on_status_change(callback)
        stop = manifold.on_status_change(lambda event: told.append((event.upstream, event.old, event.new)))
        await manifold.register("web", web.entry(lazy=True))
        await manifold.for_store().list_tools()
        with anyio.fail_after(10):
            await known.wait()
        assert told == [("web", "idle", "connecting"), ("web", "connecting", "ready")]
        assert late == ["connecting", "ready"]
        stop()
        await manifold.unregister("web")
        assert len(told) == 2


async def test_leaving_stops_every_process() -> None:
    async with Manifold({"mcpServers": {"a": scripted.upstream("a", "one")}}) as manifold:
        pid = (await manifold.for_store().call_tool("one")).data["pid"]
        os.kill(pid, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_last_known_tools_and_figures_survive_a_restart(tmp_path: Path) -> None:
    web = Peer("web").define("find")
    async with serving(web):
        config = {"mcpServers": {"web": web.entry(lazy=True)}}
        async with Manifold(config, storage=tmp_path) as manifold:
            await manifold.for_store().call_tool("find")
            await manifold.create_agent("a")
            await manifold.for_agent("a").storage.put("note", {"text": "kept"})
        async with Manifold(config, storage=tmp_path) as manifold:
            listed = web.listed
            assert await names(manifold) == ["mcp_web_find"]
            assert web.listed == listed
            assert manifold.for_store().tool_metrics()["web.find"].calls == 1
            await manifold.create_agent("a")
            assert await manifold.for_agent("a").storage.get("note") == {"text": "kept"}


async def test_many_changes_at_once_all_take_effect() -> None:
    peers = tuple(Peer(f"p{number}").define("find") for number in range(8))
    async with serving(*peers), Manifold() as manifold:
        async with anyio.create_task_group() as tasks:
            for peer in peers:
                tasks.start_soon(manifold.register, peer.name, peer.entry())
                tasks.start_soon(manifold.create_agent, f"agent-{peer.name}")
        assert set(manifold.statuses()) == {peer.name for peer in peers}
        assert len(await names(manifold)) == len(peers)
        for peer in peers:
            assert manifold.for_agent(f"agent-{peer.name}").agent == f"agent-{peer.name}"


# -- test_connection: each kind of broken upstream ---------------------------------------------------------------------


async def test_a_good_connection_is_told_with_its_tools_and_time() -> None:
    async with Manifold() as manifold, serving(Peer("web").define("find", "read")) as (web,):
        found = await manifold.test_connection(web.url)
        assert found
        assert (found.tool_count, list(found.tools), found.error_type) == (2, ["find", "read"], "")
        assert found.milliseconds > 0
        assert "2 tools" in found.message
        await manifold.register("web", web.url)
        assert await manifold.test_connection("web")
        assert not manifold.is_registered("test")
        with pytest.raises(UnknownServer):
            await manifold.test_connection("wbe")


CRASHES = scripted.crashing("my database is locked")
BROKEN_COMMANDS: dict[str, tuple[dict[str, Any], str, str]] = {
    "a command that is not there": (
        {"command": "not-there-at-all"},
        "connect-failed",
        "the command not-there-at-all was not found",
    ),
    "a file that is no program": ({"command": "/etc/passwd"}, "connect-failed", "cannot be executed"),
    "a directory that is not there": (
        {**scripted.upstream("a"), "cwd": "not-there-at-all"},
        "connect-failed",
        "not-there-at-all does not exist. Create it, or correct cwd",
    ),
    "a server that ends with last words": (CRASHES, "lost connect-failed", "exited with code 1: my database is locked"),
    "a program that ends at once": ({"command": "true"}, "lost connect-failed", "exited with code 0"),
    "a program that is no server": ({"command": "cat", "start_timeout": 20}, "rejected", "is no MCP server"),
    "a program that says something else": (
        {"command": "yes", "start_timeout": 0.5},
        "connect-failed",
        "Is it an MCP server?",
    ),
    "a server that never answers": (
        {"command": "sleep", "args": ["60"], "start_timeout": 0.3},
        "connect-failed",
        "did not answer within 0.3 s of its start",
    ),
}


@pytest.mark.parametrize("case", BROKEN_COMMANDS)
async def test_a_broken_command_is_told_with_its_cause(case: str) -> None:
    spec, code, words = BROKEN_COMMANDS[case]
    async with Manifold() as manifold:
        with anyio.fail_after(30):
            found = await manifold.test_connection(spec)
    assert not found
    assert found.error_type in code.split(), found  # it may end before the first message, or while it is awaited
    assert words in found.message
    assert found.tool_count == 0


def answering(status: int, body: bytes, kind: str = "text/html", **headers: str) -> Any:
    async def handle(_request: Any, response: Any) -> None:
        response.whole(status, body, kind, **headers)

    return handle


async def silent(_request: Any, response: Any) -> None:
    await response.gone.wait()


async def breaking(_request: Any, response: Any) -> None:
    await response.drop()


BROKEN_SITES: dict[str, tuple[Any, str, str]] = {
    "a web page": (answering(200, b"<html>hello</html>"), "protocol-fault", "text/html, neither JSON nor"),
    "a path that is not there": (answering(404, b"no"), "protocol-fault", "no MCP server at this path"),
    "a door that wants credentials": (answering(401, b"no", WWW_Authenticate="Bearer"), "auth-required", "HTTP 401"),
    "a door that stays shut": (answering(403, b"no"), "auth-required", "HTTP 403"),
    "a server with a fault": (answering(500, b"oops"), "upstream", "HTTP 500 Internal Server Error"),
    "JSON that is no JSON-RPC": (answering(200, b'{"hello": 1}', "application/json"), "protocol-fault", "no JSON-RPC"),
    "half a message": (answering(200, b'{"jsonrpc":', "application/json"), "protocol-fault", "no JSON-RPC"),
    "silence": (silent, "connect-failed", "did not answer within 1 s"),
    "a broken connection": (breaking, "lost", "closed the connection"),
}


@pytest.mark.parametrize("case", BROKEN_SITES)
async def test_a_broken_site_is_told_with_its_cause(case: str) -> None:
    handler, code, words = BROKEN_SITES[case]
    async with Manifold() as manifold, serve(handler) as site:
        with anyio.fail_after(30):
            found = await manifold.test_connection({"url": site.url, "start_timeout": 1.0})
    assert not found
    assert found.error_type == code, found
    assert words in found.message, found


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("http://127.0.0.1:1/mcp", "cannot connect to http://127.0.0.1:1/mcp: connection refused"),
        ("http://nowhere.invalid/mcp", "cannot connect to http://nowhere.invalid/mcp: unknown host"),
    ],
)
async def test_an_address_where_nobody_is_is_told_with_its_cause(url: str, words: str) -> None:
    async with Manifold() as manifold:
        with anyio.fail_after(30):
            found = await manifold.test_connection({"url": url, "start_timeout": 5})
    assert (found.success, found.error_type) == (False, "connect-failed")
    assert words in found.message


async def test_a_site_that_nobody_vouches_for_is_told_with_its_cause(tmp_path: Path) -> None:
    handler, *_ = BROKEN_SITES["a web page"]
    async with Manifold() as manifold, serve(handler, tls=self_signed(tmp_path, "127.0.0.1")) as site:
        with anyio.fail_after(30):
            found = await manifold.test_connection({"url": site.url, "start_timeout": 10})
    assert (found.success, found.error_type) == (False, "connect-failed")
    assert "certificate" in found.message


async def test_a_secret_of_a_tested_connection_is_never_told() -> None:
    handler, *_ = BROKEN_SITES["a door that wants credentials"]
    async with Manifold() as manifold, serve(handler) as site:
        found = await manifold.test_connection({"url": site.url, "headers": {"Authorization": "Bearer hunter2"}})
    assert "hunter2" not in f"{found}"
