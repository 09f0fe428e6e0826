import json
from pathlib import Path
from typing import Any

import pytest

from proxy.config.load import Loaded, load_data, load_text
from proxy.config.model import Config, Transport, UpstreamConfig
from proxy.errors import ConfigError, Problem


def loaded(data: dict[str, Any], env: dict[str, str] | None = None) -> Loaded:
    return load_text(json.dumps(data, indent=1), "json", "f.json", env=env or {})


def config(data: dict[str, Any], env: dict[str, str] | None = None) -> Config:
    return loaded(data, env).config


def upstream(entry: dict[str, Any], env: dict[str, str] | None = None) -> UpstreamConfig:
    return config({"mcpServers": {"a": entry}}, env).upstreams["a"]


def problems(text: str, syntax: str = "yaml") -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as caught:
        load_text(text, syntax, "f", env={})
    return caught.value.problems


def problem(text: str, syntax: str = "yaml") -> Problem:
    (only,) = problems(text, syntax)
    return only


def test_a_claude_desktop_file_works_unchanged() -> None:
    result = loaded(
        {
            "globalShortcut": "Ctrl+Space",
            "preferences": {"menuBarEnabled": True},
            "mcpServers": {
                "My Server": {"command": "npx", "args": ["-y", "pkg"], "env": {"KEY": "v"}},
                "web.search": {"command": "uvx", "args": ["search"]},
            },
        }
    )
    assert list(result.config.upstreams) == ["My Server", "web.search"]
    assert result.config.upstreams["My Server"].env["KEY"].get_secret_value() == "v"
    (warning,) = result.warnings
    assert "globalShortcut, preferences" in warning.message


@pytest.mark.parametrize(
    "data",
    [
        {"mcpServers": {"a": {"command": "x"}}},
        {"servers": {"a": {"command": "x"}}, "inputs": [{"id": "k", "type": "promptString"}]},
        {"upstreams": {"a": {"command": "x"}}},
        {"mcp": {"servers": {"a": {"command": "x"}}, "inputs": []}},
        {"mcp": {"mcpServers": {"a": {"command": "x"}}}},
        {"$schema": "https://example.com/schema.json", "mcpServers": {"a": {"command": "x"}}},
    ],
)
def test_servers_are_found_in_every_dialect(data: dict[str, Any]) -> None:
    result = loaded(data)
    assert result.config.upstreams == {"a": UpstreamConfig(command="x")}
    assert result.warnings == ()


def test_sections_of_one_file_combine_and_a_name_in_two_is_a_problem() -> None:
    both = config({"mcpServers": {"a": {"command": "x"}}, "servers": {"b": {"command": "y"}}})
    assert set(both.upstreams) == {"a", "b"}
    twice = problem("mcpServers:\n  a: {command: x}\nservers:\n  a: {command: y}\n")
    assert (twice.path, twice.line) == ("servers.a", 4)
    assert "line 2" in twice.message


@pytest.mark.parametrize("spelling", ["url", "serverUrl", "httpUrl"])
def test_other_spellings_of_url_are_taken(spelling: str) -> None:
    assert upstream({spelling: "http://h/mcp"}).url == "http://h/mcp"


@pytest.mark.parametrize("spelling", ["type", "transport", "transportType"])
def test_other_spellings_of_type_are_taken(spelling: str) -> None:
    assert upstream({"url": "http://h/", spelling: "sse"}).type is Transport.SSE


def test_two_spellings_of_one_option_are_a_problem() -> None:
    found = problem("mcpServers:\n  a:\n    url: http://h\n    serverUrl: http://g\n")
    assert (found.path, found.line) == ("mcpServers.a.serverUrl", 4)
    assert "url" in found.message


@pytest.mark.parametrize(
    ("entry", "enabled"),
    [
        ({"disabled": True}, False),
        ({"disabled": False}, True),
        ({"disabled": "${OFF}"}, False),
        ({"disabled": "${ON:-no}"}, True),
        ({"enabled": False}, False),
        ({"enabled": False, "disabled": True}, False),
        ({}, True),
    ],
)
def test_disabled_is_the_opposite_of_enabled(entry: dict[str, Any], *, enabled: bool) -> None:
    assert upstream({"command": "x", **entry}, {"OFF": "true"}).enabled is enabled


def test_disabled_must_be_a_truth_and_agree_with_enabled() -> None:
    assert "true or false" in problem("mcpServers: {a: {command: x, disabled: maybe}}").message
    assert "contradicts" in problem("mcpServers: {a: {command: x, disabled: true, enabled: true}}").message


def test_what_clients_add_to_a_server_is_ignored_with_a_warning_each() -> None:
    result = loaded(
        {
            "mcpServers": {
                "a": {
                    "command": "x",
                    "autoApprove": ["t"],
                    "alwaysAllow": [],
                    "description": "${NOT_LOOKED_AT}",
                    "gallery": True,
                }
            }
        }
    )
    assert [warning.path for warning in result.warnings] == [
        "mcpServers.a.autoApprove",
        "mcpServers.a.alwaysAllow",
        "mcpServers.a.description",
        "mcpServers.a.gallery",
    ]
    assert result.config.upstreams["a"] == UpstreamConfig(command="x")


def test_oauth_of_other_clients_is_ignored_with_the_way_to_give_credentials() -> None:
    (warning,) = loaded({"mcpServers": {"a": {"url": "http://h", "oauth": {"clientId": "c"}}}}).warnings
    assert "headers" in warning.hint


def test_tool_lists_of_other_clients_become_filters() -> None:
    found = upstream({"command": "x", "includeTools": ["a"], "disabledTools": ["b"]})
    assert (found.tools.allow, found.tools.deny) == (("a",), ("b",))
    assert "tools" in problem("mcpServers: {a: {command: x, tools: [a], excludeTools: [b]}}").message


def test_comments_in_disguise_are_left_alone() -> None:
    data = {
        "_note": 1,
        "//": "x",
        "x-base": {},
        "mcpServers": {"a": {"command": "x", "_why": "because", "// args": []}},
    }
    assert loaded(data).warnings == ()


def test_an_option_without_a_value_is_an_option_not_given() -> None:
    text = "agents:\n  all:\nlog:\nserver:\n  state_dir:\nmcpServers:\n  a:\n    command: x\n"
    text += "    env:\n    grace:\n    tools:\n      deny:\n"
    found = load_text(text, "yaml", "f", env={}).config
    assert found.upstreams["a"] == UpstreamConfig(command="x")
    assert "all" in found.agents


def test_numbers_and_truths_in_args_and_env_are_taken_as_written() -> None:
    text = "mcpServers: {a: {command: x, args: [-p, 8080, 0777, 1.10, yes], env: {A: 0777, B: on, C: 1.10, D: null}}}"
    found = load_text(text, "yaml", "f", env={}).config.upstreams["a"]
    assert found.args == ("-p", "8080", "0777", "1.10", "yes")
    assert {key: each.get_secret_value() for key, each in found.env.items()} == {"A": "0777", "B": "on", "C": "1.10"}


def test_a_misspelt_section_next_to_servers_is_a_problem_with_a_suggestion() -> None:
    found = problem('{"mcpServers": {},\n "agnets": {},\n "theme": "dark"}', "json")
    assert (found.path, found.line) == ("agnets", 2)
    assert "agents" in found.hint


def test_foreign_sections_are_a_problem_where_no_other_application_writes() -> None:
    assert problem("mcpServers: {}\ntheme: dark").path == "theme"
    assert problem('{"theme": "dark"}', "json").path == "theme"


def test_a_misspelt_option_of_a_server_is_a_problem_with_a_suggestion() -> None:
    found = problem("mcpServers:\n  a:\n    command: x\n    startTimeout: 5\n")
    assert (found.path, found.line) == ("mcpServers.a.startTimeout", 4)
    assert "start_timeout" in found.hint


def test_sections_of_the_wrong_shape_are_told() -> None:
    for text in ("mcpServers: [a]", "mcpServers: {}\nservers: x", "mcp: 5", "mcp: {servers: 5}"):
        assert "must be a mapping" in problem(text).message


def test_milliseconds_in_a_timeout_are_doubted() -> None:
    (warning,) = loaded({"mcpServers": {"a": {"command": "x", "timeout": 30000}}}).warnings
    assert "30000ms" in warning.hint
    assert loaded({"mcpServers": {"a": {"command": "x", "timeout": "30000s"}}}).warnings == ()


def test_a_whole_command_line_in_command_is_doubted() -> None:
    (warning,) = loaded({"mcpServers": {"a": {"command": "npx -y pkg"}}}).warnings
    assert "args" in warning.hint
    assert loaded({"mcpServers": {"a": {"command": "/opt/my tools/server"}}}).warnings == ()


def test_vscode_inputs_are_refused_with_the_way_out() -> None:
    data = '{"servers": {"a": {"command": "x",\n "env": {"KEY": "${input:api-key}"}}}}'
    found = problem(data, "json")
    assert (found.path, found.line) == ("servers.a.env.KEY", 2)
    assert "${env:API_KEY}" in found.hint


def test_plain_data_is_taken_in_any_dialect() -> None:
    found = load_data({"servers": {"a": {"url": "http://h", "disabled": True}}}, base=Path("/srv"), env={}).config
    assert not found.upstreams["a"].enabled
    with pytest.raises(ConfigError, match="did you mean command"):
        load_data({"mcpServers": {"a": {"comand": "x"}}})


def test_plain_data_without_an_end_is_refused() -> None:
    data: dict[str, Any] = {}
    data["mcpServers"] = data
    with pytest.raises(ConfigError, match="deeply"):
        load_data(data)


def test_a_configuration_without_servers_is_warned_about() -> None:
    (warning,) = loaded({"mcpServers": {}}).warnings
    assert "no servers" in warning.message
