"""The same without ``await``."""

import inspect
import io
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from proxy import Context, Handlers, Manifold
from proxy.errors import UnknownTarget
from proxy.model import StatusEvent
from proxy.store.sync import SyncContext, SyncManifold
from tests.support import scripted


def config(**more: Any) -> dict[str, Any]:
    return {"mcpServers": {"a": scripted.upstream("a", "one", "two")}, "agents": {"x": {"tools": ["one"]}}, **more}


def test_a_script_needs_no_await() -> None:
    with Manifold.sync(config()) as manifold:
        store = manifold.for_store()
        assert [tool.name for tool in store.list_tools()] == ["mcp_a_one", "mcp_a_two"]
        assert store.call_tool("one", {"q": 1}).data["arguments"] == {"q": 1}
        assert [result.tool for result in store.batch_call(["one", "two"])] == ["one", "two"]
        agent = manifold.for_agent("x")
        assert (agent.agent, [tool.name for tool in agent.list_tools()]) == ("x", ["one"])
        agent.storage.put("key", {"n": 1})
        assert agent.storage.get("key") == {"n": 1}
        assert manifold.create_agent("y", {"tools": ["two"]}).list_tools()[0].name == "two"
        assert store.tool_metrics()["a.one"].calls == 2
        assert manifold.status("a").connected
        with pytest.raises(UnknownTarget):
            store.call_tool("thre")


def test_everything_that_awaits_has_a_plain_twin() -> None:
    for here, there in ((SyncContext, Context), (SyncManifold, Manifold)):
        public = {name for name in dir(there) if not name.startswith("_")} - {"runtime", "sync"}
        assert public <= {name for name in dir(here) if not name.startswith("_")}
        for name in public:
            twin = getattr(here, name)
            assert not inspect.iscoroutinefunction(twin) or hasattr(twin, "__wrapped__")


def test_handlers_and_callbacks_run_in_the_loop_behind() -> None:
    threads: set[int] = set()
    told: list[str] = []

    def heard(event: StatusEvent) -> None:
        threads.add(threading.get_ident())
        told.append(event.new)

    async def elicitation(_params: Mapping[str, Any]) -> Mapping[str, Any]:
        return {"action": "decline"}

    with Manifold.sync(config(), handlers=Handlers(elicitation=elicitation)) as manifold:
        manifold.on_status_change(heard)
        manifold.register("b", scripted.upstream("b", "three", lazy=True))
        assert manifold.for_store().call_tool("three").data["server"] == "b"
    assert "ready" in told
    assert threading.get_ident() not in threads


def test_several_threads_may_use_one_manifold() -> None:
    with Manifold.sync(config()) as manifold:
        store = manifold.for_store()
        results: list[int] = []

        def work(number: int) -> None:
            results.append(store.call_tool("one", n=number).data["arguments"]["n"])

        threads = [threading.Thread(target=work, args=(number,)) for number in range(20)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        assert sorted(results) == list(range(20))


@pytest.mark.parametrize("terminal", [True, False])
def test_a_long_start_shows_who_is_waited_for_on_a_terminal_only(tmp_path: Path, *, terminal: bool) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=terminal, width=100)
    slow = scripted.upstream("slow", "x", waits_for=tmp_path / "never", grace=1.0)
    with Manifold.sync(config() | {"mcpServers": {"slow": slow}}, console=console):
        pass
    assert ("Starting servers" in out.getvalue()) is terminal
    assert ("slow" in out.getvalue()) is terminal


def test_an_error_at_the_start_leaves_no_loop_behind(tmp_path: Path) -> None:
    before = threading.active_count()
    (tmp_path / "file").write_text("")
    with pytest.raises(Exception, match="storage"), Manifold.sync(config(), storage=tmp_path / "file" / "x"):
        pass
    assert threading.active_count() == before
