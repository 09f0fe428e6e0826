"""Hot reload with real files and real processes (design section 10; features C9, T10)."""

import asyncio
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import anyio
import psutil
import pytest
from anyio.lowlevel import checkpoint
from structlog.testing import capture_logs

from proxy.agents.views import changed_lists
from proxy.config.model import UpstreamConfig
from proxy.errors import UnknownServer, UnknownTarget
from proxy.model import StatusEvent, UpstreamState
from tests.support.reloading import PATIENCE, Follower, Held, Json, following, put, server, write


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "manifold.json"
    put(path, a=server("a1"), b=server("b1"))
    return path


async def until(true: Callable[[], bool]) -> None:
    with anyio.fail_after(PATIENCE):
        while not true():
            await checkpoint()


# -- what sets it off --------------------------------------------------------------------------------------------------


async def test_a_file_that_is_rewritten_takes_effect(file: Path) -> None:
    async with following(file, watch=True) as manifold:
        put(file, a=server("a2"), b=server("b1"))
        await manifold.applied()
        assert await manifold.call("mcp_a_who") == "a2"


async def test_a_file_that_is_renamed_into_place_takes_effect_each_time(file: Path) -> None:
    other = file.with_suffix(".tmp.json")
    async with following(file, watch=True) as manifold:
        for count in (1, 2, 3):
            put(other, a=server(f"a{count + 1}"))
            await anyio.Path(other).replace(file)
            await manifold.applied(count)
            assert await manifold.call("mcp_a_who") == f"a{count + 1}"


async def test_a_mounted_volume_whose_link_is_swapped_takes_effect(tmp_path: Path) -> None:
    for version in ("1", "2"):
        (tmp_path / f"..{version}").mkdir()
        put(tmp_path / f"..{version}" / "manifold.json", a=server(f"a{version}"))
    (tmp_path / "..data").symlink_to("..1")
    (tmp_path / "manifold.json").symlink_to("..data/manifold.json")
    async with following(tmp_path / "manifold.json", watch=True) as manifold:
        assert await manifold.call("mcp_a_who") == "a1"
        (tmp_path / "..tmp").symlink_to("..2")
        (tmp_path / "..tmp").rename(tmp_path / "..data")
        shutil.rmtree(tmp_path / "..1")
        await manifold.applied()
        assert await manifold.call("mcp_a_who") == "a2"


async def test_a_secret_in_a_file_of_its_own_takes_effect_when_it_changes(file: Path, tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("old")
    put(file, a=server("a1", env={"TOKEN": "${file:token}"}))
    async with following(file, watch=True) as manifold:
        await anyio.Path(secret).write_text("new")
        await manifold.applied()
        assert list(manifold.plans[0].changed) == ["a"]
        assert manifold.runtime.config.upstreams["a"].env["TOKEN"].get_secret_value() == "new"


async def test_a_file_that_comes_under_watch_by_a_reload_is_watched(file: Path, tmp_path: Path) -> None:
    secret = tmp_path / "token"
    async with following(file, watch=True) as manifold:
        await anyio.Path(secret).write_text("old")
        put(file, a=server("a1", env={"TOKEN": "${file:token}"}))
        await manifold.applied(1)
        await anyio.Path(secret).write_text("new")
        await manifold.applied(2)


async def test_a_change_between_reading_and_watching_is_not_missed(file: Path) -> None:
    async with following(file, watch=True) as manifold:
        # The reloader has not run yet: this stands for a change while Manifold was starting.
        put(file, a=server("a2"))
        await manifold.applied()


async def test_without_a_watch_only_a_request_counts(file: Path) -> None:
    async with following(file) as manifold:
        put(file, a=server("a2"))
        with anyio.fail_after(PATIENCE):
            await manifold.reloader.reload()
        await manifold.applied(1)


# -- a configuration that cannot be used -------------------------------------------------------------------------------


async def test_a_broken_file_changes_nothing_and_every_problem_is_told(file: Path) -> None:
    async with following(file) as manifold:
        pid, config = manifold.pid("a"), manifold.runtime.config
        with capture_logs() as logs:
            outcome = await manifold.reload(a={"comand": "x"}, b={"url": 3})
        assert outcome.plan is None
        told = [log for log in logs if log["event"] == "config.rejected"]
        assert [(log["path"], log["line"], log["file"]) for log in told] == [
            (each.path, each.line, str(file)) for each in outcome.problems
        ]
        assert {"mcpServers.a.comand", "mcpServers.b.url"} <= {each.path for each in outcome.problems}
        assert all(log["hint"] for log in told if log["path"] == "mcpServers.a.comand")
        assert manifold.runtime.config is config
        assert (manifold.pid("a"), await manifold.call("mcp_a_who")) == (pid, "a1")
        assert manifold.plans == []


@pytest.mark.parametrize("content", ["", "{", "[]"])
async def test_an_empty_or_half_written_file_changes_nothing(file: Path, content: str) -> None:
    async with following(file) as manifold:
        write(file, content)
        outcome = await manifold.reloader.reload()
        assert outcome.problems
        assert manifold.tools() == ["mcp_a_who", "mcp_a_hold", "mcp_b_who", "mcp_b_hold"]
        assert (await manifold.reload(a=server("a2"))).plan
        assert await manifold.call("mcp_a_who") == "a2"


async def test_a_broken_file_is_told_once_and_what_was_missing_is_found_when_it_comes(
    file: Path, tmp_path: Path
) -> None:
    async with following(file, watch=True, interval=0.05) as manifold:
        with capture_logs() as logs:
            put(file, a=server("a2", env={"TOKEN": "${file:token}"}))
            await until(lambda: any(log["event"] == "config.rejected" for log in logs))
            await manifold.reloader.reload("file")
            (tmp_path / "token").write_text("secret")
            await manifold.applied()
        assert [log["event"] for log in logs].count("config.rejected") == 1
        assert await manifold.call("mcp_a_who") == "a2"


async def test_settings_that_need_a_restart_are_named_until_it_comes(file: Path) -> None:
    async with following(file) as manifold:
        with capture_logs() as logs:
            await manifold.reload({"server": {"port": 1, "host": "::1"}})
            await manifold.reload({"server": {"port": 1, "host": "::1", "instructions": "new"}})
        told = [log["settings"] for log in logs if log["event"] == "config.restart_needed"]
        assert told == [["server.host", "server.port"]] * 2
        assert {log["log_level"] for log in logs if log["event"] == "config.restart_needed"} == {"warning"}
        assert manifold.runtime.config.server.instructions == "new"


async def test_a_fault_while_applying_leaves_the_reloader_at_work(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with following(file) as manifold:
        with monkeypatch.context() as patch, capture_logs() as logs:
            patch.setattr(manifold.runtime, "apply", None)
            assert (await manifold.reload(a=server("a2"))).plan is None
        assert "config.reload_failed" in [log["event"] for log in logs]
        assert (await manifold.reload(a=server("a2"))).plan


# -- what it does ------------------------------------------------------------------------------------------------------


async def test_what_is_added_serves_and_what_did_not_change_is_left_alone(file: Path) -> None:
    async with following(file) as manifold:
        pids = manifold.pid("a"), manifold.pid("b")
        outcome = await manifold.reload(a=server("a1"), b=server("b1"), c=server("c1"))
        assert outcome.plan is not None
        assert list(outcome.plan.added) == ["c"]
        assert await manifold.call("mcp_c_who") == "c1"
        assert (manifold.pid("a"), manifold.pid("b")) == pids


async def test_what_is_removed_takes_exactly_its_tools_and_its_process_with_it(file: Path) -> None:
    async with following(file) as manifold:
        gone = psutil.Process(manifold.pid("b"))
        await manifold.reload(a=server("a1"))
        assert manifold.tools() == ["mcp_a_who", "mcp_a_hold"]
        with pytest.raises(UnknownTarget):
            await manifold.call("mcp_b_who")
        await until(lambda: not gone.is_running())


async def test_a_changed_upstream_answers_from_its_new_process_and_the_old_one_ends(file: Path) -> None:
    async with following(file) as manifold:
        gone = psutil.Process(manifold.pid("a"))
        await manifold.reload(a=server("a2", "who", "more"), b=server("b1"))
        assert manifold.tools() == ["mcp_a_who", "mcp_a_more", "mcp_b_who", "mcp_b_hold"]
        assert await manifold.call("mcp_a_more") == "a2"
        await until(lambda: not gone.is_running())


@pytest.mark.parametrize("after", [{"a": server("a2")}, {}], ids=["changed", "removed"])
async def test_a_call_under_way_finishes_where_it_is(file: Path, tmp_path: Path, after: dict[str, Json]) -> None:
    held, answers = Held(tmp_path), list[str]()
    async with following(file) as manifold:
        old = psutil.Process(manifold.pid("a"))

        async def call() -> None:
            answers.append(await manifold.call("mcp_a_hold", **held.arguments))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            await held.running()
            await manifold.reload(**after)
            assert manifold.tools() == (["mcp_a_who", "mcp_a_hold"] if after else [])
            if after:
                assert await manifold.call("mcp_a_who") == "a2"
            assert old.is_running()
            await held.go()
        assert answers == ["a1"]
        await until(lambda: not old.is_running())


async def test_a_call_that_waits_for_a_place_finishes_where_it_is(file: Path, tmp_path: Path) -> None:
    put(file, a=server("a1", concurrency=1))
    held, answers = [Held(tmp_path, name) for name in ("first", "second")], list[str]()
    async with following(file) as manifold:

        async def call(held: Held) -> None:
            answers.append(await manifold.call("mcp_a_hold", **held.arguments))

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call, held[0])
            await held[0].running()
            tasks.start_soon(call, held[1])
            await manifold.reload(a=server("a2", concurrency=1))
            await held[0].go()
            await held[1].running()
            await held[1].go()
        assert answers == ["a1", "a1"]
        assert await manifold.call("mcp_a_who") == "a2"


@pytest.mark.parametrize("limit", [{"timeout": 0.5}, {"deadline": 0.5}], ids=str)
async def test_a_call_that_outlasts_its_own_limit_does_not_keep_the_old_process(
    tmp_path: Path, file: Path, limit: dict[str, float]
) -> None:
    held = Held(tmp_path)
    put(file, a=server("a1", stop_timeout=0.2, **limit))
    async with following(file) as manifold:
        old = psutil.Process(manifold.pid("a"))

        async def call() -> None:
            with suppress(Exception):
                await manifold.call("mcp_a_hold", **held.arguments)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call)
            await held.running()
            await manifold.reload(a=server("a2"))
            await until(lambda: not old.is_running())
        assert await manifold.call("mcp_a_who") == "a2"


async def test_a_change_that_does_not_start_gives_way_after_its_grace_and_keeps_its_tools(file: Path) -> None:
    async with following(file) as manifold:
        with anyio.fail_after(PATIENCE):
            await manifold.reload(a={"command": "/nowhere/at/all", "grace": 0.2}, b=server("b1"))
        assert manifold.tools() == ["mcp_a_who", "mcp_a_hold", "mcp_b_who", "mcp_b_hold"]
        with pytest.raises(Exception, match="/nowhere/at/all"):
            await manifold.call("mcp_a_who")
        await manifold.reload(a=server("a3"), b=server("b1"))
        assert await manifold.call("mcp_a_who") == "a3"


async def test_a_renamed_upstream_is_found_under_its_old_and_its_new_names(file: Path) -> None:
    async with following(file) as manifold:
        outcome = await manifold.reload(new=server("a1"), b=server("b1"))
        assert outcome.plan is not None
        assert outcome.plan.renamed == {"a": "new"}
        assert manifold.tools() == ["mcp_new_who", "mcp_new_hold", "mcp_b_who", "mcp_b_hold"]
        assert await manifold.call("mcp_new_who") == "a1"
        assert await manifold.call("mcp_a_who") == "a1"
        assert "a" not in manifold.runtime.registry


async def test_another_pattern_leaves_the_old_names_working(file: Path) -> None:
    async with following(file) as manifold:
        pid = manifold.pid("a")
        await manifold.reload({"naming": {"pattern": "{server}-{tool}"}}, a=server("a1"), b=server("b1"))
        assert manifold.tools() == ["a-who", "a-hold", "b-who", "b-hold"]
        assert await manifold.call("mcp_a_who") == "a1"
        assert manifold.pid("a") == pid


async def test_filters_and_knobs_take_effect_on_the_link_there_is(file: Path) -> None:
    async with following(file) as manifold:
        pid = manifold.pid("a")
        outcome = await manifold.reload(a=server("a1", tools={"deny": ["hold"]}, timeout="7s"), b=server("b1"))
        assert outcome.plan is not None
        assert list(outcome.plan.retuned) == ["a"]
        assert manifold.tools() == ["mcp_a_who", "mcp_b_who", "mcp_b_hold"]
        assert manifold.runtime.registry["a"].config.timeout == 7
        assert manifold.pid("a") == pid


async def test_a_tool_that_is_denied_for_an_added_upstream_is_never_seen(file: Path) -> None:
    seen: set[str] = set()
    async with following(file) as manifold:
        manifold.runtime.holder.subscribe(lambda _change: seen.update(manifold.tools()))
        await manifold.reload(a=server("a1"), b=server("b1"), c=server("c1", tools={"deny": ["hold"]}))
        await until(lambda: "mcp_c_who" in manifold.tools())
    assert "mcp_c_hold" not in seen


async def test_agents_come_go_and_change(file: Path) -> None:
    async with following(file) as manifold:
        with pytest.raises(UnknownServer):
            manifold.view("coder")
        servers = {"a": server("a1"), "b": server("b1")}
        await manifold.reload({"agents": {"coder": {"servers": ["a"]}}}, **servers)
        before = manifold.view("coder")
        assert manifold.tools("coder") == ["who", "hold"]
        await manifold.reload({"agents": {"coder": {"servers": ["b"], "names": "prefixed"}}}, **servers)
        assert manifold.tools("coder") == ["mcp_b_who", "mcp_b_hold"]
        assert changed_lists(before, manifold.view("coder")) == ("notifications/tools/list_changed",)
        await manifold.reload(**servers)
        with pytest.raises(UnknownServer):
            manifold.view("coder")


async def test_everything_changes_at_one_moment(file: Path) -> None:
    async with following(file) as manifold:
        changes: list[list[str]] = []
        manifold.runtime.holder.subscribe(lambda _change: changes.append(manifold.tools()))
        await manifold.reload(
            {"naming": {"pattern": "{server}.{tool}"}}, a=server("a2", "new"), c=server("c1", "first")
        )
        assert changes == [["a_new", "c_first"]]


async def test_the_status_of_a_name_is_told_as_if_there_were_one_upstream(file: Path) -> None:
    async with following(file) as manifold:
        told: list[StatusEvent] = []
        manifold.runtime.on_status.append(told.append)
        old = psutil.Process(manifold.pid("a"))
        await manifold.reload(a=server("a2"), c=server("c1"))
        await until(lambda: not old.is_running() and "b" in {event.upstream for event in told})
        await manifold.reload(a=server("a2"), c=server("c1"), b=server("b2"))
        assert {event.upstream for event in told} == {"b", "c"}
        assert [event.new for event in told if event.upstream == "c"] == [UpstreamState.READY]
        assert told[-1].upstream == "b"
        assert told[-1].new is UpstreamState.READY


async def test_last_known_listings_are_kept_for_what_a_reload_brought(file: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    async with following(file, state=state) as manifold:
        await manifold.reload(a=server("a2", "kept"), c=server("c1"))
        await until(lambda: len(list(state.glob("listings/*.json"))) == 4)  # two of before, two new
    put(file, a=server("a2", "kept", lazy=True), c=server("c1", lazy=True))
    async with following(file, state=state) as manifold:
        assert manifold.tools() == ["mcp_a_kept", "mcp_c_who", "mcp_c_hold"]


async def test_a_lazy_upstream_that_changes_waits_until_it_is_needed(file: Path) -> None:
    put(file, a=server("a1", lazy=True))
    async with following(file) as manifold:
        await manifold.runtime.ready(None)
        await manifold.reload(a=server("a2", lazy=True))
        assert manifold.runtime.registry["a"].state is UpstreamState.IDLE
        assert await manifold.call("mcp_a_who") == "a2"


async def test_a_reload_during_a_reload_comes_after_it_and_sees_the_last_file(file: Path) -> None:
    async with following(file) as manifold:
        async with anyio.create_task_group() as tasks:
            for number in range(2, 12):
                put(file, a=server(f"a{number}"))
                tasks.start_soon(manifold.reloader.reload)
                await checkpoint()
        assert await manifold.call("mcp_a_who") == "a11"
        assert len(manifold.plans) <= 3


async def test_a_reload_that_is_cancelled_half_way_leaves_what_ran(file: Path) -> None:
    async with following(file) as manifold:
        config, children = manifold.runtime.config, psutil.Process().children()
        silent = UpstreamConfig(command="sleep", args=("600",), stop_timeout=0.1)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(manifold.runtime.apply, config.model_copy(update={"upstreams": {"a": silent}}))
            await until(lambda: len(psutil.Process().children()) > len(children))
            tasks.cancel_scope.cancel()
        assert manifold.runtime.config is config
        assert await manifold.call("mcp_a_who") == "a1"
        await until(lambda: psutil.Process().children() == children)


# -- under load --------------------------------------------------------------------------------------------------------

RELOADS = 100


@pytest.mark.timeout(180)
async def test_a_hundred_reloads_under_load_lose_no_call_and_leak_nothing(file: Path) -> None:
    put(file, stay=server("stay"), swap=server("swap0"), r0=server("r"))
    async with following(file) as manifold:
        process = psutil.Process()
        await manifold.call("mcp_r0_who")

        def held() -> tuple[int, int, int]:
            return len(asyncio.all_tasks()), process.num_fds(), len(process.children(recursive=True))

        before = held()
        done = dict.fromkeys(("stay", "swap", "r"), 0)
        async with anyio.create_task_group() as load:
            for label, tool in (("stay", "mcp_stay_who"), ("swap", "mcp_swap_who"), ("r", "mcp_r0_who")):
                for _ in range(2):
                    load.start_soon(_keep_calling, manifold, tool, label, done)
            for number in range(1, RELOADS + 1):
                servers = {"stay": server("stay"), "swap": server(f"swap{number}"), f"r{number % 2}": server("r")}
                if number % 3 == 0:
                    servers["extra"] = server("extra")
                outcome = await manifold.reload({"agents": {f"agent{number}": {}}}, **servers)
                assert outcome.plan, outcome
                calls = dict(done)
                await until(lambda calls=calls: all(done[label] > calls[label] for label in done))  # type: ignore[misc]
            load.cancel_scope.cancel()
        assert len(manifold.plans) == RELOADS
        assert manifold.tools() == [f"mcp_{name}_{tool}" for name in ("stay", "swap", "r0") for tool in ("who", "hold")]
        await until(lambda: all(now <= then for now, then in zip(held(), before, strict=True)))


async def _keep_calling(manifold: Follower, tool: str, label: str, done: dict[str, int]) -> None:
    while True:
        answer = await manifold.call(tool)
        assert answer.startswith(label)
        done[label] += 1
