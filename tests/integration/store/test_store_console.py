"""The plain API where people use it: in a notebook, whose own event loop runs, and in a terminal, with Ctrl-C."""

import asyncio
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from anyio.from_thread import BlockingPortal

from proxy import Manifold
from tests.support import scripted
from tests.support.manifold import ROOT


async def test_a_notebook_uses_it_from_within_its_own_running_loop() -> None:
    before = set(threading.enumerate())
    mine = asyncio.get_running_loop()
    with Manifold.sync({"mcpServers": {"a": scripted.upstream("a", "one")}}) as manifold:
        assert manifold.for_store().call_tool("one", n=1).data["arguments"] == {"n": 1}
        assert asyncio.get_running_loop() is mine
    new = set(threading.enumerate()) - before
    assert [one.name for one in new if "worker" not in one.name] == []  # idle workers end by themselves


SCRIPT = """
from pathlib import Path
from typing import Any
from proxy import Manifold

async def told(call, call_next):
    if "do" in call.params["arguments"]:
        print(pid, flush=True)
    return await call_next(call)

with Manifold.sync({config}, middleware=[told]) as manifold:
    store = manifold.for_store()
    pid = store.call_tool("one").data["pid"]
    {then}
"""
HANG = 'store.call_tool("one", do="hang", text="hanging")'
BATCH = 'store.batch_call([("one", {"do": "hang", "text": "hanging"})] * 9)'
AGAIN = """
    released = Path({file!r})
    try:
        store.call_tool("one", do="wait", file=str(released))
    except KeyboardInterrupt:
        while not store.tool_metrics()["a.one"].failures:
            pass  # it must not be answered before it is given up
        released.touch()
        answer = store.call_tool("one", n=7)
        print(answer.data["arguments"], store.tool_metrics()["a.one"].failures, flush=True)
"""


def interrupted(then: str) -> tuple[int, str, str, int]:
    """Run a script, interrupt it once it makes its call and has told its server's process id; returns how it ended."""
    source = SCRIPT.format(config={"mcpServers": {"a": scripted.upstream("a", "one")}}, then=then)
    command = [sys.executable, "-c", source]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment, start_new_session=True
    ) as process:
        assert process.stdout is not None
        try:
            pid = int(process.stdout.readline())
            process.send_signal(signal.SIGINT)
            out, err = process.communicate(timeout=40)
        finally:
            process.kill()  # one that goes on for ever would be waited for, and take a core from all tests after it
        return process.returncode, out, err, pid


@pytest.mark.parametrize("then", [HANG, BATCH])
def test_control_c_ends_what_runs_and_leaves_nothing_behind(then: str) -> None:
    code, _, err, pid = interrupted(then)
    assert code == -signal.SIGINT
    assert err.rstrip().endswith("KeyboardInterrupt")
    assert "never retrieved" not in err
    assert "destroyed" not in err
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_after_control_c_the_program_may_go_on(tmp_path: Path) -> None:
    code, out, err, _ = interrupted(AGAIN.format(file=str(tmp_path / "go")))
    assert (code, out.strip()) == (0, "{'n': 7} {'cancelled': 1}"), err


def test_control_c_in_the_very_moment_in_which_a_call_begins_gives_it_up(monkeypatch: pytest.MonkeyPatch) -> None:
    with Manifold.sync({"mcpServers": {"a": scripted.upstream("a", "one")}}) as manifold:
        store = manifold.for_store()
        store.call_tool("one")
        start = BlockingPortal.start_task_soon

        def interrupted_start(*args: Any) -> None:
            monkeypatch.undo()
            start(*args)
            raise KeyboardInterrupt

        monkeypatch.setattr(BlockingPortal, "start_task_soon", interrupted_start)
        with pytest.raises(KeyboardInterrupt):
            store.call_tool("one", do="hang", text="hanging")
        while store.tool_metrics()["a.one"].failures != {"cancelled": 1}:
            pass  # ends with the time limit of all tests, if it ran on
