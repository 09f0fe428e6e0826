"""The command line itself: what it takes, and what it says to what it does not take."""

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.scripted import crashing, upstream

Run = Callable[..., Any]
Write = Callable[..., str]
COMMANDS = ("serve", "check", "list", "call", "explain", "schema")


def test_without_a_command_it_shows_what_there_is(run: Run) -> None:
    done = run()
    assert done.status == 0
    assert all(command in done.out for command in COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_explains_itself(run: Run, command: str) -> None:
    done = run(command, "--help")
    assert done.status == 0
    assert f"Usage: mcp-manifold {command}" in done.out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["srve"], 'Unknown command "srve"'),
        (["serve", "--prot", "1"], "Did you mean --port?"),
        (["serve", "--port", "abc"], "--port"),
        (["serve", "--http", "--stdio"], "choose one of --http and --stdio"),
        (["call"], "requires"),
        (["call", "x", "{nope"], "the arguments are not JSON"),
        (["call", "x", "[]"], "the arguments must be a JSON object"),
        (["explain"], "requires"),
    ],
)
def test_a_wrong_command_line_is_told_and_nothing_runs(run: Run, arguments: list[str], said: str) -> None:
    done = run(*arguments)
    assert done.status == 2
    assert said.lower() in f"{done.out}{done.err}".lower()


@pytest.mark.parametrize("command", [["serve"], ["check"], ["list"], ["call", "x"], ["explain", "x"]])
def test_without_a_configuration_it_says_where_it_looked(run: Run, tmp_path: Path, command: list[str]) -> None:
    done = run(*command)
    assert done.status == 1
    assert "no configuration found" in f"{done.out}{done.err}"
    assert str(tmp_path / "manifold.yaml") in f"{done.out}{done.err}"


def test_a_configuration_in_the_folder_is_found(run: Run, write: Write) -> None:
    write({"a": upstream("a", "work")})
    assert run("list").out.startswith("tool      mcp_a_work  → a: work\n")


@pytest.mark.parametrize("command", [["serve"], ["list"], ["call", "x"], ["explain", "x"]])
def test_an_unknown_agent_is_told_with_those_that_there_are(run: Run, write: Write, command: list[str]) -> None:
    write({}, agents={"reader": {}})
    done = run(*command, "--agent", "raeder")
    assert done.status == 1
    assert "There is no agent 'raeder'" in done.err
    assert "reader" in done.err


def test_a_taken_port_is_told_with_what_to_do(run: Run, write: Write) -> None:
    write({})
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = run("serve", "--port", str(port))
    assert done.status == 1
    assert f"cannot listen on 127.0.0.1:{port}" in done.err
    assert "choose another --port, or 0 for any free one" in done.err


@pytest.mark.parametrize("port", ["70000", "-1"])
def test_a_port_that_is_none_is_told(run: Run, write: Write, port: str) -> None:
    write({})
    done = run("serve", f"--port={port}")
    assert done.status in (1, 2)
    assert "port" in done.err
    assert "Traceback" not in done.err


def test_schema_is_the_json_schema_of_the_configuration(run: Run) -> None:
    done = run("schema")
    assert done.status == 0
    assert done.json["$schema"].startswith("https://json-schema.org/")
    assert "mcpServers" in done.json["properties"]


# -- check -----------------------------------------------------------------------------------------------------------


def test_check_is_content_when_everything_is_well(run: Run, write: Write) -> None:
    file = write({"a": upstream("a", "work", "rest")})
    done = run("check", "--config", file)
    assert done.status == 0
    assert f"● configuration  {file}" in done.out
    assert "● a  ready        2 tools (2025-11-25)" in done.out
    assert "Everything is well." in done.out


def test_check_reports_every_broken_upstream_at_once(run: Run, write: Write) -> None:
    write({"a": crashing("boom"), "b": {"command": "no-such-thing"}, "c": upstream("c", "work")})
    done = run("check")
    assert done.status == 1
    assert "2 problems" in done.out
    assert "boom" in done.out
    assert "no-such-thing was not found" in done.out
    assert "● c" in done.out


def test_check_reports_every_problem_of_a_configuration_and_starts_nothing(run: Run, tmp_path: Path) -> None:
    marker = tmp_path / "started"
    (tmp_path / "manifold.yaml").write_text(
        "server: {prot: 1}\n"
        "mcpServers:\n"
        f"  good: {{command: touch, args: ['{marker}']}}\n"
        "  bad: {command: x, timeout: soon}\n"
        "  worse: {url: 'http://h/', headers: {A: '${env:NOT_SET_ANYWHERE}'}}\n"
    )
    done = run("check")
    assert done.status == 1
    lines = [line for line in done.out.splitlines() if line.startswith("✗")]
    assert len(lines) == 3
    told = "\n".join(lines)
    assert "manifold.yaml:1:" in told
    assert "port" in told
    assert "mcpServers.bad.timeout" in told
    assert "NOT_SET_ANYWHERE" in told
    assert "3 problems; nothing was started." in done.out
    assert not marker.exists()


# -- list, call, explain ---------------------------------------------------------------------------------------------


def test_list_shows_everything_with_its_route(run: Run, write: Write) -> None:
    write({"a": upstream("a", "web.search", resources=["x://y"], templates=["x://{z}"], prompts=["ask"])})
    rows = run("list", "--json").json
    assert rows == [
        {"kind": "tool", "name": "mcp_a_web_search", "upstream": "a", "own": "web.search"},
        {"kind": "prompt", "name": "mcp_a_ask", "upstream": "a", "own": "ask"},
        {"kind": "resource", "name": "a+x://y", "upstream": "a", "own": "x://y"},
        {"kind": "template", "name": "a+x://{z}", "upstream": "a", "own": "x://{z}"},
    ]
    shown = run("list").out
    assert all(row["name"] in shown and row["own"] in shown for row in rows)
    assert "4 entries" in shown


def test_list_shows_what_an_agent_sees(run: Run, write: Write) -> None:
    write({"a": upstream("a", "read", "write")}, agents={"reader": {"tools": {"deny": ["write"]}}})
    assert [row["name"] for row in run("list", "--json", "--agent", "reader").json] == ["read"]


def test_list_says_what_to_do_when_there_is_nothing(run: Run, write: Write) -> None:
    write({"a": crashing("boom")})
    done = run("list")
    assert done.status == 0
    assert "`mcp-manifold check` says why" in done.out


def test_call_prints_the_result(run: Run, write: Write) -> None:
    write({"a": upstream("a", "work")})
    done = run("call", "mcp_a_work", json.dumps({"text": "größe"}))
    assert done.status == 0
    assert done.json["structuredContent"]["arguments"] == {"text": "größe"}


def test_call_understands_server_dot_tool(run: Run, write: Write) -> None:
    write({"a": upstream("a", "work")})
    assert run("call", "a.work").json["structuredContent"]["tool"] == "work"


def test_call_fails_for_a_wrong_name_with_the_nearest(run: Run, write: Write) -> None:
    write({"a": upstream("a", "work")})
    done = run("call", "mcp_a_wrok")
    assert done.status == 1
    assert "Did you mean: mcp_a_work?" in done.err
    assert done.out == ""


def test_call_fails_when_the_server_dies_in_it(run: Run, write: Write) -> None:
    write({"a": upstream("a", "work")})
    done = run("call", "mcp_a_work", '{"do": "die"}')
    assert done.status == 1
    assert "it exited with code 3" in f"{done.out}{done.err}"
    assert "Traceback" not in done.err


def test_check_says_what_an_operator_can_do_about_a_child_that_does_not_start(
    run: Run, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NOT_THERE", raising=False)
    file = Path(write({"bad": crashing("no key"), "good": upstream("good", "work", inherit_env=["NOT_THERE"])}))
    file.chmod(0o666)
    done = run("check")
    assert done.status == 1
    assert "✗ bad   failed       it was gone before it had answered: it exited with code 1: no key" in done.out
    assert "under env or inherit_env" in done.out
    assert "! mcpServers.good.inherit_env: NOT_THERE is not set here, so good does not get it" in done.out
    assert "every user of this machine may write it" in done.err
    assert f"chmod go-w {file}" in done.err


def test_explain_says_where_a_name_comes_from(run: Run, write: Write) -> None:
    write({"a": upstream("a", "b_x"), "a_b": upstream("a_b", "x")})
    done = run("explain", "a.b_x")
    assert done.status == 0
    for said in ("(collision)", "upstream  a\n", "own name  b_x", "mcp_{server}_{tool} → mcp_a_b_x", "collides"):
        assert said in done.out


def test_explain_fails_for_what_nobody_knows(run: Run, write: Write) -> None:
    write({"a": upstream("a", "work")})
    done = run("explain", "zzz")
    assert done.status == 1
    assert "Unknown tool: 'zzz'" in done.err


def test_where_several_agents_apply_only_what_all_see_is_there(run: Run, write: Write) -> None:
    agents = {"reader": {"tools": {"deny": ["*write*"]}}, "files": {"servers": ["f"]}}
    write({"f": upstream("f", "read", "write"), "n": upstream("n", "read")}, agents=agents)
    assert [line.split()[1] for line in run("list", "--agent", "reader+files").out.splitlines()[:-1]] == ["read"]
    assert "f" in run("explain", "read", "--agent", "files+reader").out
    refused = run("list", "--agent", "reader+nobody")
    assert refused.status == 1
    assert "There is no agent 'nobody'" in refused.err
