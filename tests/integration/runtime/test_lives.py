"""The lives of upstreams: started when needed, stopped when idle, added, removed, found dead, listed anew."""

import os
import signal
from pathlib import Path

import anyio
import psutil
import pytest

from proxy.errors import RoutingError, UnknownServer
from proxy.model import UpstreamState
from tests.support.link_http import serve
from tests.support.recording import speaking
from tests.support.running import PATIENCE, configured, running
from tests.support.scripted import appear, crashing, upstream

IDLE, READY, BACKING_OFF = UpstreamState.IDLE, UpstreamState.READY, UpstreamState.BACKING_OFF


# -- started when needed, stopped when idle --------------------------------------------------------------------------


async def test_a_lazy_upstream_starts_with_its_first_call(tmp_path: Path) -> None:
    upstreams = {"lazy": upstream("lazy", "work", lazy=True), "eager": upstream("eager", "work")}
    async with running(upstreams, tmp_path) as first:
        await first.offers("mcp_eager_work")
        assert (await first.call("mcp_lazy_work"))["server"] == "lazy"
    async with running(upstreams, tmp_path) as second:
        await second.status("eager", READY)
        assert second.names() == {"mcp_eager_work", "mcp_lazy_work"}  # from disk
        assert second.runtime.registry["lazy"].state is IDLE
        assert (await second.call("mcp_lazy_work"))["server"] == "lazy"
        assert second.runtime.registry["lazy"].state is READY


async def test_a_lazy_upstream_that_nobody_knows_starts_with_the_first_list() -> None:
    async with running({"lazy": upstream("lazy", "work", lazy=True)}) as one:
        assert one.names() == set()
        with anyio.fail_after(PATIENCE):
            await one.runtime.ready(None)
        assert one.names() == {"mcp_lazy_work"}


async def test_an_idle_upstream_is_stopped_and_starts_again_with_the_next_call() -> None:
    async with running({"a": upstream("a", "work", idle_timeout="100ms")}) as one:
        pid = (await one.call("mcp_a_work"))["pid"]
        stopped = await one.status("a", IDLE)
        assert stopped.reason == "unused for 0.1 s"
        assert one.names() == {"mcp_a_work"}
        assert (await one.call("mcp_a_work"))["pid"] != pid
        assert not psutil.pid_exists(pid)


async def test_a_call_keeps_an_upstream_from_being_idle(tmp_path: Path) -> None:
    go = tmp_path / "go"
    upstreams = {"a": upstream("a", "work", idle_timeout="20ms"), "b": upstream("b", "work", idle_timeout="200ms")}
    async with running(upstreams) as one, anyio.create_task_group() as tasks:

        async def wait() -> None:
            assert (await one.call("mcp_a_work", do="wait", file=str(go)))["server"] == "a"

        tasks.start_soon(wait)
        await one.status("b", IDLE)  # by now a would have been stopped ten times
        assert one.runtime.registry["a"].state is READY
        appear(go)
    assert [event.new for event in one.told if event.upstream == "a"][:2] == [UpstreamState.CONNECTING, READY]


# -- added and removed -----------------------------------------------------------------------------------------------


async def test_an_upstream_can_be_added_and_taken_out_while_others_run() -> None:
    async with running({"a": upstream("a", "work")}) as one:
        pid = (await one.call("mcp_a_work"))["pid"]
        one.runtime.registry.add("b", configured({"b": upstream("b", "work")}).upstreams["b"])
        await one.offers("mcp_a_work", "mcp_b_work")
        assert (await one.call("mcp_b_work"))["server"] == "b"
        with pytest.raises(ValueError, match="exists already"):
            one.runtime.registry.add("b", configured({"b": upstream("b", "work")}).upstreams["b"])
        one.runtime.registry.retire("b")
        one.runtime.forget("b")
        assert one.names() == {"mcp_a_work"}
        with pytest.raises(RoutingError):
            await one.call("mcp_b_work")
        with pytest.raises(UnknownServer):
            one.runtime.registry["b"]
        assert (await one.call("mcp_a_work"))["pid"] == pid


async def test_another_configuration_adds_and_removes_and_leaves_the_rest_alone() -> None:
    kept = upstream("kept", "work")
    async with running({"kept": kept, "old": upstream("old", "work")}) as one:
        await one.offers("mcp_kept_work", "mcp_old_work")
        pid, gone = (await one.call("mcp_kept_work"))["pid"], (await one.call("mcp_old_work"))["pid"]
        await one.runtime.apply(configured({"kept": kept, "new": upstream("new", "work")}))
        await one.offers("mcp_kept_work", "mcp_new_work")
        await one.status("new", READY)
        assert one.names() == {"mcp_kept_work", "mcp_new_work"}
        assert (await one.call("mcp_kept_work"))["pid"] == pid
    assert not psutil.pid_exists(gone)


async def test_the_end_of_a_runtime_ends_every_child() -> None:
    async with running({name: upstream(name, "work") for name in "abc"}) as one:
        pids = [(await one.call(f"mcp_{name}_work"))["pid"] for name in "abc"]
        assert all(psutil.pid_exists(pid) for pid in pids)
    assert [pid for pid in pids if psutil.pid_exists(pid)] == []


# -- found dead ------------------------------------------------------------------------------------------------------


async def test_a_dead_http_server_is_found_without_a_call() -> None:
    async with anyio.create_task_group() as tasks:
        up, down = anyio.Event(), anyio.Event()
        address: list[str] = []

        async def server() -> None:
            async with serve(speaking()) as site:
                address.append(site.url)
                up.set()
                await down.wait()

        tasks.start_soon(server)
        await up.wait()
        async with running({"a": {"url": address[0], "health": "50ms"}}) as one:
            await one.status("a", READY)
            down.set()
            assert "health" in (await one.status("a", BACKING_OFF)).reason
            assert one.names() == {"mcp_a_work"}  # the last known list stays


async def test_a_server_that_is_alive_is_left_alone_by_the_health_check() -> None:
    async with serve(speaking()) as site, running({"a": {"url": site.url, "health": "20ms"}}) as one:
        await one.status("a", READY)
        await site.asked("ping", 3)
        assert [event.new for event in one.told] == [UpstreamState.CONNECTING, READY]
        assert len(site.of("initialize")) == 1


async def test_a_killed_child_is_started_again_without_a_call() -> None:
    async with running({"a": upstream("a", "work")}) as one:
        pid = (await one.call("mcp_a_work"))["pid"]
        os.kill(pid, signal.SIGKILL)
        assert "killed by SIGKILL" in (await one.status("a", BACKING_OFF)).reason
        await one.status("a", READY, times=2)
        assert (await one.call("mcp_a_work"))["pid"] != pid


async def test_a_crash_loop_costs_the_others_nothing() -> None:
    async with running({"bad": crashing("boom"), "good": upstream("good", "work")}) as one:
        failed = await one.status("bad", BACKING_OFF)
        assert "boom" in failed.reason
        assert (await one.call("mcp_good_work"))["server"] == "good"
        assert one.runtime.registry["bad"].error is not None
        assert one.runtime.counts()["ready"] == 1


# -- listed anew -----------------------------------------------------------------------------------------------------


async def test_a_changed_list_is_fetched_when_the_upstream_says_so() -> None:
    async with running({"a": upstream("a", "work")}) as one:
        await one.call("mcp_a_work", do="offer", tool="new")
        await one.offers("mcp_a_work", "mcp_a_new")
        assert (await one.call("mcp_a_new"))["tool"] == "new"


async def test_lists_are_fetched_anew_when_they_are_old() -> None:
    async with running({"a": upstream("a", "work", refresh="100ms")}) as one:
        await one.call("mcp_a_work", do="offer_silently", tool="new")
        await one.offers("mcp_a_work", "mcp_a_new")


async def test_lists_are_fetched_anew_by_hand() -> None:
    async with running({"a": upstream("a", "work")}) as one:
        await one.call("mcp_a_work", do="offer_silently", tool="new")
        assert one.names() == {"mcp_a_work"}
        with anyio.fail_after(PATIENCE):
            await one.runtime.registry["a"].refresh()
        assert one.names() == {"mcp_a_work", "mcp_a_new"}


async def test_lists_are_fetched_anew_after_a_reconnect() -> None:
    async with running({"a": upstream("a", "work")}) as one:
        await one.call("mcp_a_work", do="offer", tool="new")
        await one.offers("mcp_a_new")
        one.runtime.registry["a"].expire("a test wants it")
        await one.status("a", READY, times=2)
        assert one.names() == {"mcp_a_work"}  # the new process knows nothing of the other tool


# -- other figures while it runs -------------------------------------------------------------------------------------


async def test_a_shorter_refresh_holds_for_the_session_there_is() -> None:
    async with running({"a": upstream("a", "work", refresh="1h")}) as one:
        pid = (await one.call("mcp_a_work", do="offer_silently", tool="new"))["pid"]
        await one.runtime.apply(configured({"a": upstream("a", "work", refresh="100ms")}))
        await one.offers("mcp_a_work", "mcp_a_new")
        assert (await one.call("mcp_a_work"))["pid"] == pid


async def test_a_health_check_that_is_switched_on_looks_at_the_session_there_is() -> None:
    async with serve(speaking()) as site, running({"a": {"url": site.url, "health": 0}}) as one:
        await one.status("a", READY)
        await one.runtime.apply(configured({"a": {"url": site.url, "health": "20ms"}}))
        await site.asked("ping", 2)
        assert len(site.of("initialize")) == 1


async def test_an_upstream_that_may_be_idle_for_less_is_stopped_and_for_ever_is_left_alone() -> None:
    async with running({"a": upstream("a", "work"), "b": upstream("b", "work", idle_timeout="1h")}) as one:
        for name in "ab":
            await one.status(name, READY)
        tuned = {"a": upstream("a", "work", idle_timeout="50ms"), "b": upstream("b", "work")}
        await one.runtime.apply(configured(tuned))
        assert (await one.status("a", IDLE)).reason == "unused for 0.05 s"
        assert one.runtime.registry["b"].state is READY


async def test_a_change_that_fails_at_once_is_not_waited_for() -> None:
    async with running({"a": upstream("a", "work")}) as one:
        await one.status("a", READY)
        with anyio.fail_after(PATIENCE):
            await one.runtime.apply(configured({"a": {"command": "/nowhere/at/all", "grace": 600}}))
