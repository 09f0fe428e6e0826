"""Links to real child processes."""

import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from proxy.config.model import UpstreamConfig
from proxy.errors import ConnectFailed, InvalidArguments, Lost, ProtocolFault, Rejected
from proxy.model import Json, Params
from proxy.upstream.stdio import StdioLink, open_stdio
from tests.support.link_peers import Back, Heard

CHILD = str(Path(__file__).parents[2] / "support" / "link_child.py")


def config(*args: str, **more: Any) -> UpstreamConfig:
    values = {"command": sys.executable, "args": ["-u", CHILD, *args], "stop_timeout": 5, **more}
    return UpstreamConfig.model_validate(values)


@asynccontextmanager
async def child(heard: Heard, *args: str, **more: Any) -> AsyncIterator[StdioLink]:
    with anyio.fail_after(30):
        async with open_stdio("up", config(*args, **more), heard) as link:
            yield link


async def gone(pid: int) -> None:
    """Wait until a process is no more (a zombie that waits for its reaper counts as gone)."""
    with anyio.fail_after(10):
        while True:
            try:
                state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]  # noqa: ASYNC240 - no disk behind it
            except (FileNotFoundError, ProcessLookupError):
                return
            if state == "Z":
                return
            await anyio.lowlevel.checkpoint()


async def test_a_request_is_answered(heard: Heard) -> None:
    async with child(heard) as link:
        reply = await link.request("echo", {"text": "Zürich", "n": [1, None]})
        assert reply.result == {"text": "Zürich", "n": [1, None]}
        assert link.closed is None
        assert not link.attributes


async def test_many_requests_at_once_each_get_their_own_answer(heard: Heard) -> None:
    answers: dict[int, Json] = {}
    async with child(heard) as link, anyio.create_task_group() as tasks:

        async def one(number: int) -> None:
            answers[number] = (await link.request("echo", {"n": number})).result

        for number in range(200):
            tasks.start_soon(one, number)
    assert answers == {number: {"n": number} for number in range(200)}


async def test_an_error_comes_through_unchanged(heard: Heard) -> None:
    async with child(heard) as link:
        with pytest.raises(Rejected) as caught:
            await link.request("refuse", None)
    assert (caught.value.jsonrpc, caught.value.message, caught.value.data) == (-32042, "no", {"why": [1]})
    assert caught.value.upstream == "up"


async def test_what_the_body_raises_comes_out_bare(heard: Heard) -> None:
    with pytest.raises(KeyError, match="mine"):
        async with child(heard):
            raise KeyError("mine")


async def test_what_json_cannot_carry_is_not_sent(heard: Heard) -> None:
    async with child(heard) as link:
        with pytest.raises(InvalidArguments):
            await link.request("echo", {"bad": object()})
        assert (await link.request("seen_so_far", None)).result == []


async def test_a_child_gets_the_minimal_environment(
    heard: Heard, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("OUR_SECRET", "secret")
    monkeypatch.setenv("LET_THROUGH", "yes")
    more = {
        "env": {"OWN": "1", "HOME": "/elsewhere"},
        "inherit_env": ["LET_THROUGH", "UNSET_ONE"],
        "cwd": str(tmp_path),
    }
    async with child(heard, **more) as link:
        found = (await link.request("about", None)).result
    assert "OUR_SECRET" not in found["env"]
    assert (found["env"]["LET_THROUGH"], found["env"]["OWN"], found["env"]["HOME"]) == ("yes", "1", "/elsewhere")
    assert found["env"]["PATH"] == os.environ["PATH"]
    assert found["cwd"] == str(tmp_path)


async def test_a_child_has_a_process_group_of_its_own(heard: Heard) -> None:
    async with child(heard) as link:
        found = (await link.request("about", None)).result
        assert found["pid"] == found["group"] == link.pid != os.getpgid(0)


async def test_progress_comes_back_under_the_downstreams_token_and_before_the_answer(heard: Heard) -> None:
    back = Back("their token")
    async with child(heard) as link:
        reply = await link.request("progress", {"steps": 3, "_meta": {"keep": 1, "progressToken": "x"}}, back=back)
    assert isinstance(reply.result["token"], int)
    expected = [{"progressToken": "their token", "progress": step} for step in range(3)]
    assert back.said == [("notifications/progress", params) for params in expected]


async def test_params_are_not_changed_by_asking_for_progress(heard: Heard) -> None:
    params: dict[str, Any] = {"steps": 0, "_meta": {"keep": 1}}
    async with child(heard) as link:
        await link.request("progress", params, back=Back(5))
        message = (await link.request("seen_so_far", None)).result[0]
    assert params == {"steps": 0, "_meta": {"keep": 1}}
    assert message["params"]["_meta"]["keep"] == 1


async def test_a_progress_token_that_is_not_ours_never_goes_out(heard: Heard) -> None:
    params = {"_meta": {"keep": 1, "progressToken": 7}}
    async with child(heard) as link:
        assert (await link.request("echo", params)).result == {"_meta": {"keep": 1}}
        assert (await link.request("echo", params, back=Back())).result == {"_meta": {"keep": 1}}
    assert params["_meta"]["progressToken"] == 7


async def test_a_slow_downstream_slows_down_its_own_call_only(heard: Heard) -> None:
    slow = anyio.Event()

    class Slow(Back):
        async def notify(self, method: str, params: Params | None) -> None:
            await slow.wait()
            await super().notify(method, params)

    back = Slow("t")
    with capture_logs() as logs:
        async with child(heard) as link, anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: link.request("progress", {"steps": 5000}, back=back))
            await anyio.wait_all_tasks_blocked()
            assert (await link.request("echo", {"n": 1})).result == {"n": 1}
            slow.set()
    told = [params["progress"] for _, params in back.said if params]
    assert told[-1] == 4999
    assert told == sorted(told)
    dropped = [entry["count"] for entry in logs if entry["event"] == "link.notifications.dropped"]
    assert dropped == [5000 - len(told)]


async def test_progress_of_a_finished_call_is_dropped(heard: Heard) -> None:
    back = Back("t")
    late = {"jsonrpc": "2.0", "method": "notifications/progress", "params": {"progressToken": 1, "progress": 9}}
    async with child(heard) as link:
        await link.request("progress", {"steps": 0}, back=back)
        await link.request("speak", {"lines": [json.dumps(late)]})
    assert back.said == []
    assert not heard.said


async def test_notifications_of_a_subscription_go_to_the_request_that_opened_it(heard: Heard) -> None:
    back = Back()
    key = "io.modelcontextprotocol/subscriptionId"
    line = {"jsonrpc": "2.0", "method": "notifications/x", "params": {"_meta": {key: 1}}}
    async with child(heard) as link, anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: link.request("hang", None, back=back))
        await anyio.wait_all_tasks_blocked()
        await link.request("speak", {"lines": [json.dumps(line)]})
        with anyio.fail_after(10):
            await back.heard.wait()
        tasks.cancel_scope.cancel()
    assert back.said == [("notifications/x", {"_meta": {key: 1}})]
    assert not heard.said


async def test_a_notification_that_names_no_request_goes_to_the_call_that_the_listener_names(heard: Heard) -> None:
    back = Back()
    heard.owners["notifications/message"] = back
    line = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": "x"}}
    async with child(heard) as link:
        await link.request("speak", {"lines": [json.dumps(line)]}, back=back)
    assert back.said == [("notifications/message", {"data": "x"})]
    assert not heard.said


async def test_an_upstream_can_end_a_subscription(heard: Heard) -> None:
    line = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": 1}}
    async with child(heard) as link, anyio.create_task_group() as tasks:

        async def listen() -> None:
            with pytest.raises(Lost, match="ended the subscription"):
                await link.request("subscriptions/listen", {"hang": True}, back=Back())

        tasks.start_soon(listen)
        await anyio.wait_all_tasks_blocked()
        await link.notify("hang", None)
        await link.request("speak", {"lines": [json.dumps(line)]})


async def test_other_notifications_are_heard_in_their_order(heard: Heard) -> None:
    lines = [json.dumps({"jsonrpc": "2.0", "method": f"notifications/{n}", "params": {"n": n}}) for n in range(5)]
    async with child(heard) as link:
        await link.request("speak", {"lines": lines})
        assert list(heard.said) == [(f"notifications/{n}", {"n": n}) for n in range(5)]


async def test_a_batch_is_taken_apart(heard: Heard) -> None:
    batch = [{"jsonrpc": "2.0", "method": f"notifications/{n}"} for n in range(2)]
    async with child(heard) as link:
        await link.request("speak", {"lines": [json.dumps(batch)]})
        assert list(heard.said) == [("notifications/0", None), ("notifications/1", None)]


async def test_an_upstreams_question_is_answered() -> None:
    async def answer(method: str, params: Params | None) -> Json:
        return {"method": method, "params": params}

    async with child(Heard(answer)) as link:
        reply = await link.request("ask", {"method": "roots/list", "params": {"a": 1}})
    assert reply.result == {"jsonrpc": "2.0", "id": "q", "result": {"method": "roots/list", "params": {"a": 1}}}


async def test_a_question_nobody_can_answer_gets_the_error(heard: Heard) -> None:
    async with child(heard) as link:
        reply = await link.request("ask", {"method": "roots/list"})
    expected = {"code": -32601, "message": "no roots/list here", "data": {"method": "roots/list"}}
    assert reply.result["error"] == expected


async def test_a_failing_listener_answers_with_an_internal_error_that_says_nothing_of_it() -> None:
    async def answer(method: str, params: Params | None) -> Json:
        raise RuntimeError(f"secret {method} {params}")

    with capture_logs():
        async with child(Heard(answer)) as link:
            reply = await link.request("ask", {"method": "roots/list"})
    assert reply.result["error"] == {"code": -32603, "message": "the proxy failed to answer"}


async def test_a_ping_is_answered_by_the_link_itself(heard: Heard) -> None:
    async with child(heard) as link:
        assert (await link.request("ask", {"method": "ping"})).result["result"] == {}


async def test_a_question_that_the_upstream_takes_back_is_no_longer_worked_on() -> None:
    given_up = anyio.Event()

    async def answer(method: str, params: Params | None) -> Json:
        del method, params
        try:
            await anyio.sleep_forever()
        finally:
            given_up.set()

    async with child(Heard(answer)) as link:
        await link.request("ask", {"method": "roots/list", "then_cancel": True})
        await given_up.wait()
        assert [m["method"] for m in (await link.request("seen_so_far", None)).result] == ["ask"]


async def test_a_call_that_nobody_waits_for_is_cancelled_upstream(heard: Heard) -> None:
    async with child(heard) as link:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: link.request("hang", {"n": 1}))
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        messages: list[Any] = []
        while len(messages) < 2:
            messages = [m for m in (await link.request("seen_so_far", None)).result if m["method"] != "seen_so_far"]
    hang, cancelled = messages
    assert cancelled["method"] == "notifications/cancelled"
    assert cancelled["params"]["requestId"] == hang["id"]
    assert cancelled["params"]["reason"]


async def test_initialize_is_never_cancelled_upstream(heard: Heard) -> None:
    async with child(heard) as link:
        with anyio.move_on_after(0.01):
            await link.request("initialize", {"hang": True})
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: link.request("hang", None))
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        messages: list[Any] = []
        while not [m for m in messages if m["method"] == "notifications/cancelled"]:
            messages = (await link.request("seen_so_far", None)).result
    cancelled = [m["params"]["requestId"] for m in messages if m["method"] == "notifications/cancelled"]
    assert cancelled == [m["id"] for m in messages if m["method"] == "hang"]


async def test_noise_on_the_output_is_logged_and_passed_over(heard: Heard) -> None:
    with capture_logs() as logs:
        async with child(heard) as link:
            await link.request("speak", {"lines": ["Server started!", "", '{"level": "info"}', "\x1b[31mred\x1b[0m"]})
            assert (await link.request("echo", {"n": 1})).result == {"n": 1}
    noise = [entry["line"] for entry in logs if entry["event"] == "upstream.stdout.noise"]
    assert noise == ["Server started!", '{"level": "info"}', "red"]
    assert {entry["upstream"] for entry in logs} == {"up"}


async def test_an_answer_over_the_limit_fails_its_call_only(heard: Heard) -> None:
    with capture_logs() as logs:
        async with child(heard, max_message=2048) as link:
            with pytest.raises(ProtocolFault, match="2048") as caught:
                await link.request("big", {"size": 500_000})
            assert (await link.request("echo", {"n": 1})).result == {"n": 1}
    assert "max_message" in caught.value.hint
    assert [entry["event"] for entry in logs] == ["link.frame.oversized"]


async def test_a_broken_answer_fails_its_call_only(heard: Heard) -> None:
    async with child(heard) as link, anyio.create_task_group() as tasks:

        async def broken() -> None:
            with pytest.raises(ProtocolFault):
                await link.request("hang", None)

        tasks.start_soon(broken)
        await anyio.wait_all_tasks_blocked()
        await link.request("speak", {"lines": ['{"jsonrpc":"2.0","id":1,"result":{"cut off']})
        assert link.closed is None


async def test_a_large_message_crosses_in_both_directions(heard: Heard) -> None:
    text = "x" * 3_000_000
    async with child(heard) as link:
        assert (await link.request("echo", {"text": text})).result["text"] == text


async def test_standard_error_goes_into_the_log(heard: Heard) -> None:
    with capture_logs() as logs:
        async with child(heard, env={"TOKEN": "very-secret-value"}) as link:
            await link.request("stderr", {"text": "hello\nmy token is very-secret-value\n"})
            await link.request("stderr", {"text": "z" * 10_000 + "\n"})
    lines = [entry["line"] for entry in logs if entry["event"] == "upstream.stderr"]
    assert lines[:2] == ["hello", "my token is ***"]
    assert lines[2].endswith("(10000 bytes)")
    assert len(lines[2]) < 1000


async def test_a_flood_on_standard_error_neither_blocks_the_child_nor_fills_the_log(heard: Heard) -> None:
    with capture_logs() as logs:
        async with child(heard) as link:
            await link.request("stderr", {"text": "noise\n", "times": 100_000})
            assert (await link.request("echo", {"n": 1})).result == {"n": 1}
    assert len(logs) < 1000
    assert any(entry["event"] == "upstream.stderr.suppressed" for entry in logs)


async def test_after_kill_9_a_request_fails_at_once_as_never_sent(heard: Heard) -> None:
    async with child(heard) as link:
        await link.request("echo", None)
        os.kill(link.pid, signal.SIGKILL)
        os.waitid(os.P_PID, link.pid, os.WEXITED | os.WNOWAIT)  # noqa: ASYNC222 - the event loop must not run now
        assert link.closed
        with pytest.raises(ConnectFailed):
            await link.request("echo", None)
        with pytest.raises(ConnectFailed):
            await link.notify("x", None)


async def test_kill_9_during_a_call_loses_the_call_and_says_so(heard: Heard) -> None:
    async with child(heard) as link, anyio.create_task_group() as tasks:

        async def call() -> None:
            with pytest.raises(Lost, match="killed by SIGKILL"):
                await link.request("hang", None)

        tasks.start_soon(call)
        await anyio.wait_all_tasks_blocked()
        os.kill(link.pid, signal.SIGKILL)
        assert "SIGKILL" in await link.wait_closed()


async def test_the_reason_of_a_death_has_the_exit_code_and_the_last_words(heard: Heard) -> None:
    async with child(heard) as link:
        with pytest.raises(Lost):
            await link.request("die", {"code": 3, "stderr": "Traceback:\n  ...\nValueError: no key\n"})
        reason = await link.wait_closed()
    assert reason == "it exited with code 3: Traceback: | ValueError: no key"


async def test_an_answer_given_right_before_the_end_still_counts(heard: Heard) -> None:
    async with child(heard) as link:
        line = json.dumps({"jsonrpc": "2.0", "id": 1, "result": {"last": "words"}})
        reply = await link.request("die", {"stdout": line})
        assert reply.result == {"last": "words"}
        assert await link.wait_closed() == "it exited with code 0"


async def test_a_child_that_closes_its_output_is_of_no_use(heard: Heard) -> None:
    async with child(heard, stop_timeout=0.1) as link:
        with pytest.raises(Lost, match="closed its standard output"):
            await link.request("close_stdout", {"seconds": 600})
        assert link.closed


async def test_the_exit_code_is_told_even_if_it_comes_after_the_end_of_the_output(heard: Heard) -> None:
    async with child(heard) as link:
        with pytest.raises(Lost, match="exited with code 3"):
            await link.request("close_stdout", {"seconds": 0.1})


async def test_leaving_ends_the_calls_under_way(heard: Heard) -> None:
    async with anyio.create_task_group() as tasks:
        async with child(heard) as link:

            async def call() -> None:
                with pytest.raises(Lost, match="Manifold closed it"):
                    await link.request("hang", None)

            tasks.start_soon(call)
            await anyio.wait_all_tasks_blocked()
        with pytest.raises(ConnectFailed):
            await link.request("echo", None)


async def test_leaving_leaves_no_process_behind(heard: Heard) -> None:
    async with child(heard) as link:
        grandchild = (await link.request("grandchild", None)).result["pid"]
    await gone(link.pid)
    await gone(grandchild)


async def test_a_child_that_ignores_every_hint_is_killed_with_its_children(heard: Heard) -> None:
    async with child(heard, "stubborn", stop_timeout=0.05) as link:
        grandchild = (await link.request("grandchild", None)).result["pid"]
    await gone(link.pid)
    await gone(grandchild)


async def test_grandchildren_of_a_dead_child_are_not_left_behind(heard: Heard) -> None:
    async with child(heard) as link:
        grandchild = (await link.request("grandchild", None)).result["pid"]
        os.kill(link.pid, signal.SIGKILL)
        await link.wait_closed()
    await gone(grandchild)


async def test_cancelling_the_owner_leaves_no_process_behind(heard: Heard) -> None:
    pid = 0
    with anyio.CancelScope() as scope:
        async with child(heard) as link:
            pid = link.pid
            scope.cancel()
            await anyio.sleep_forever()
    await gone(pid)


async def test_a_child_that_does_not_read_holds_up_nothing_else(heard: Heard) -> None:
    frame = {"text": "x" * 300_000}
    waiting: list[str] = []
    async with child(heard, stop_timeout=0.05) as deaf, child(heard) as other, anyio.create_task_group() as tasks:

        async def call() -> None:
            try:
                await deaf.request("echo", frame)
            except (Lost, ConnectFailed) as error:
                waiting.append(error.code)

        tasks.start_soon(lambda: deaf.notify("hang", None))
        tasks.start_soon(deaf_call, deaf)
        await anyio.wait_all_tasks_blocked()
        for _ in range(20):
            tasks.start_soon(call)
        await anyio.wait_all_tasks_blocked()
        assert (await other.request("echo", {"n": 1})).result == {"n": 1}
        os.kill(deaf.pid, signal.SIGKILL)
    # What was in the pipe is lost; what waited for room was never sent.
    assert len(waiting) == 20
    assert waiting.count("connect-failed") >= 15


async def deaf_call(link: StdioLink) -> None:
    with pytest.raises(Lost):
        await link.request("deaf", {"seconds": 600})


async def test_a_call_cancelled_while_it_waited_for_room_was_never_sent(heard: Heard) -> None:
    async with child(heard) as link, anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: link.request("deaf", {"seconds": 0.3}))
        await anyio.wait_all_tasks_blocked()
        tasks.start_soon(lambda: link.request("echo", {"first": "x" * 1_000_000}))
        await anyio.wait_all_tasks_blocked()
        with anyio.move_on_after(0.05):
            await link.request("echo", {"second": 1})
        messages = (await link.request("seen_so_far", None)).result
    assert [next(iter(m["params"])) for m in messages] == ["seconds", "first"]


@pytest.mark.parametrize(
    ("changes", "message", "hint"),
    [
        ({"command": "no-such-command-here"}, "no-such-command-here was not found", "Install no-such-command-here"),
        ({"command": "npx", "env": {"PATH": "/nowhere"}}, "npx was not found", "Node.js"),
        ({"command": "./missing"}, "./missing was not found", "full path"),
        ({"command": f"{sys.executable} -m server"}, "was not found", "the rest into args"),
        ({"command": CHILD}, "cannot be executed", "chmod +x"),
        ({"cwd": "/no/such/directory"}, "directory /no/such/directory does not exist", "cwd"),
        ({"cwd": CHILD}, "is not a directory", "cwd"),
    ],
)
async def test_what_cannot_start_is_told_at_once_with_a_remedy(
    heard: Heard, changes: dict[str, Any], message: str, hint: str
) -> None:
    with pytest.raises(ConnectFailed) as caught:
        async with open_stdio("up", config(**changes), heard):
            pass
    assert message in caught.value.message
    assert hint in caught.value.hint
    assert caught.value.upstream == "up"


async def test_a_script_without_interpreter_line_is_explained(heard: Heard, tmp_path: Path) -> None:
    script = tmp_path / "server"
    script.write_text("print('hello')\n")
    script.chmod(0o755)
    with pytest.raises(ConnectFailed, match="cannot be started") as caught:
        async with open_stdio("up", config(command=str(script)), heard):
            pass
    assert "#!" in caught.value.hint


async def test_a_relative_command_counts_from_its_directory(heard: Heard, tmp_path: Path) -> None:
    script = tmp_path / "server.py"
    script.write_text(f"#!{sys.executable}\nimport runpy\nrunpy.run_path({CHILD!r}, run_name='__main__')\n")
    script.chmod(0o755)
    async with child(heard, command="./server.py", args=[], cwd=str(tmp_path)) as link:
        assert (await link.request("echo", {"n": 1})).result == {"n": 1}


async def test_links_leave_no_file_descriptors_behind(heard: Heard) -> None:
    async with child(heard) as link:
        await link.request("echo", None)
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - a count
    for _ in range(5):
        async with child(heard) as link:
            await link.request("echo", None)
    assert len(os.listdir("/proc/self/fd")) <= before  # noqa: PTH208 - a count


async def test_where_the_system_offers_no_process_handles_a_death_is_noticed_too(
    heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(os, "pidfd_open")
    monkeypatch.delattr(os, "waitid")
    async with child(heard) as link:
        grandchild = (await link.request("grandchild", None)).result["pid"]
        os.kill(link.pid, signal.SIGKILL)
        assert "SIGKILL" in await link.wait_closed()
    await gone(grandchild)
    async with child(heard) as link:
        assert (await link.request("echo", {"n": 1})).result == {"n": 1}


async def test_the_system_is_asked_once_whether_the_child_lives_for_all_frames_of_a_turn(
    heard: Heard, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0
    waitid = os.waitid

    def counted(*args: int) -> os.waitid_result | None:
        nonlocal asked
        asked += 1
        return waitid(*args)

    async with child(heard) as link:
        await link.request("echo", {"n": 0})
        monkeypatch.setattr(os, "waitid", counted)
        async with anyio.create_task_group() as tasks:
            for number in range(50):
                tasks.start_soon(link.request, "echo", {"n": number})
    assert asked < 25
