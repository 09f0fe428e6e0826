"""What the command says of agents' overrides and of who may call what."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.support.scripted import upstream

Run = Callable[..., Any]
Write = Callable[..., str]

FIND = {
    "name": "find",
    "inputSchema": {"type": "object", "properties": {"root": {"type": "string"}, "text": {"type": "string"}}},
}
SECRET = "s3cret-r00t-f0lder"  # noqa: S105 - planted, to be looked for


@pytest.fixture
def _fixed(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROOT", SECRET)
    override = {"name": "seek", "arguments": {"root": {"value": "${env:ROOT}"}, "text": {"name": "pattern"}}}
    write(
        {"files": upstream("files", FIND, "wipe")},
        agents={
            "reader": {"overrides": {"files.find": override, "fnd": {"hide": True}}},
            "other": {"tools": {"deny": ["find*"]}},
        },
    )


@pytest.mark.usefixtures("_fixed")
def test_who_can_says_it_for_every_agent_without_telling_a_fixed_value(run: Run) -> None:
    assert run("token", "create", "ann", "--agent", "reader").status == 0
    done = run("who-can", "seek")
    assert done.status == 0
    assert done.out.splitlines() == [
        "files.find (mcp_files_find)",
        "  the store  ✓ as mcp_files_find  the store sees everything",
        '  reader     ✓ as seek  agents.reader.tools.allow: "*"',
        '               overrides: "files.find"',
        "               fixed: root",
        "               renamed: text → pattern",
        "               credentials: token ann",
        '  other      ✗  agents.other.tools.deny: "find*"',
    ]
    assert SECRET not in f"{done.out}{done.err}"


@pytest.mark.usefixtures("_fixed")
def test_who_can_prints_json(run: Run) -> None:
    (found,) = run("who-can", "files.wipe", "--json").json
    assert {one["agent"]: one["sees"] for one in found["verdicts"]} == {None: True, "reader": True, "other": True}
    unknown = run("who-can", "nothing-like-it")
    assert (unknown.status, "nothing-like-it" in unknown.err) == (1, True)


@pytest.mark.usefixtures("_fixed")
def test_explain_shows_what_an_agent_changes(run: Run) -> None:
    done = run("explain", "seek", "--agent", "reader")
    told = "changes its name; fixes the argument root; calls the argument text pattern"
    assert f'  override  "files.find" {told}' in done.out
    assert SECRET not in done.out
    assert "override" not in run("explain", "wipe", "--agent", "reader").out


@pytest.mark.usefixtures("_fixed")
def test_explain_says_why_a_name_is_not_seen(run: Run) -> None:
    done = run("explain", "find", "--agent", "other")
    assert done.status == 0
    assert done.out.splitlines() == [
        "tool find (not seen)",
        "  upstream  files",
        '  because   agents.other.tools.deny: "find*"',
    ]
    both = run("explain", "files.find", "--agent", "reader+other")
    assert '  because   agents.other.tools.deny: "find*"' in both.out
    assert "not seen" not in run("explain", "find").out


@pytest.mark.usefixtures("_fixed")
def test_check_warns_of_an_override_that_fits_nothing_and_is_content_otherwise(run: Run) -> None:
    done = run("check")
    assert '! agents.reader.overrides."fnd": no tool that the agent sees is called so' in done.out
    assert done.status == 0
    assert SECRET not in f"{done.out}{done.err}"


@pytest.mark.usefixtures("_fixed")
def test_call_as_an_agent_gets_the_fixed_argument(run: Run) -> None:
    done = run("call", "seek", '{"pattern": "x"}', "--agent", "reader")
    assert SECRET in done.out
    refused = run("call", "seek", '{"root": "/"}', "--agent", "reader")
    assert refused.status == 1
    assert "root: expected nothing, because it cannot be given here" in refused.err
    assert SECRET not in refused.err
