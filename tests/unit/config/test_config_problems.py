import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from proxy.config.load import load_text
from proxy.errors import ConfigError, Problem

SECRET = "s3cret-value"  # noqa: S105 - made up, to be looked for in messages


def problems(text: str, env: dict[str, str] | None = None, syntax: str = "yaml") -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as caught:
        load_text(text, syntax, "manifold.yaml", env=env or {})
    return caught.value.problems


@pytest.mark.parametrize(
    ("text", "path", "line", "words"),
    [
        (
            "mcpServers:\n  a:\n    comand: x\n    command: x",
            "mcpServers.a.comand",
            3,
            ["not a known option", "command"],
        ),
        ("mcpServers:\n  a:\n    args: []", "mcpServers.a.command", 2, ["missing", "url"]),
        ("mcpServers:\n  a:", "mcpServers.a.command", 2, ["missing"]),
        ("mcpServers:\n  a: npx", "mcpServers.a", 2, ["mapping", "text", "command"]),
        ("mcpServers:\n  a:\n    command: [npx, -y]", "mcpServers.a.command", 3, ["text", "list", "args"]),
        ("mcpServers:\n  a: {command: x, args: -y}", "mcpServers.a.args", 2, ["list", "text"]),
        ("mcpServers:\n  a:\n    command: x\n    args:\n      - [y]", "mcpServers.a.args[0]", 5, ["text", "list"]),
        ("mcpServers: {a: {command: 5}}", "mcpServers.a.command", 1, ["text", "number", "quotes"]),
        ("mcpServers: {a: {command: x, timeout: 30sec}}", "mcpServers.a.timeout", 1, ["30sec", "30s"]),
        ("mcpServers: {a: {command: x, timeout: 0}}", "mcpServers.a.timeout", 1, ["more than 0"]),
        ("mcpServers: {a: {command: x, max_message: huge}}", "mcpServers.a.max_message", 1, ["huge", "4MiB"]),
        ("mcpServers: {a: {command: x, max_message: 5}}", "mcpServers.a.max_message", 1, ["at least 1024"]),
        ("mcpServers: {a: {command: x, queue: 9999999}}", "mcpServers.a.queue", 1, ["at most 1000000"]),
        ("mcpServers: {a: {command: x, queue: many}}", "mcpServers.a.queue", 1, ["whole number", "many"]),
        ("mcpServers: {a: {command: x, queue: true}}", "mcpServers.a.queue", 1, ["whole number"]),
        ("mcpServers: {a: {command: x, queue: 1.5}}", "mcpServers.a.queue", 1, ["whole number", "1.5"]),
        ("mcpServers: {a: {command: x, lazy: maybe}}", "mcpServers.a.lazy", 1, ["true or false", "maybe"]),
        ("mcpServers: {a: {command: x, session: shard}}", "mcpServers.a.session", 1, ["client", "shard", "shared?"]),
        ("mcpServers: {a: {url: http://h, type: ws}}", "mcpServers.a.type", 1, ["stdio", "ws"]),
        ("mcpServers: {a: {url: http://h, transport: ws}}", "mcpServers.a.transport", 1, ["stdio", "ws"]),
        ("mcpServers: {a: {command: x, url: http://h}}", "mcpServers.a.url", 1, ["command"]),
        ("mcpServers: {a: {url: example.com}}", "mcpServers.a.url", 1, ["https://example.com/mcp"]),
        ("mcpServers: {a: {command: x, env: [A]}}", "mcpServers.a.env", 1, ["mapping", "list"]),
        ("mcpServers: {a: {command: x, env: {A: [b]}}}", "mcpServers.a.env.A", 1, ["text", "list"]),
        ("mcpServers: {a: {command: x, tools: '*'}}", "mcpServers.a.tools", 1, ["mapping", "allow"]),
        ("mcpServers: {a: {command: x, tools: [5]}}", "mcpServers.a.tools[0]", 1, ["text"]),
        ("mcpServers: {a: {command: x, tools: {alow: []}}}", "mcpServers.a.tools.alow", 1, ["allow?"]),
        ("mcpServers: {a: {command: x, tools: {deny: [{}]}}}", "mcpServers.a.tools.deny[0]", 1, ["text", "mapping"]),
        ("mcpServers: {'': {command: x}}", 'mcpServers.""', 1, ["name"]),
        ("mcpServers: {My.Server: {command: x, foo: 1}}", 'mcpServers."My.Server".foo', 1, ["known here", "timeout"]),
        ("mcpserver: {a: {command: x}}", "mcpserver", 1, ["mcpServers?"]),
        ("server: {prot: 1}", "server.prot", 1, ["port?"]),
        ("server: {port: 70000}", "server.port", 1, ["at most 65535"]),
        ("server: {name: ''}", "server.name", 1, ["not be empty"]),
        ("server: {path: mcp}", "server.path", 1, ["/mcp"]),
        ("server: [1]", "server", 1, ["mapping", "port"]),
        ("server: {state_dir: 5}", "server.state_dir", 1, ["text"]),
        ("log: {level: loud}", "log.level", 1, ["debug", "loud"]),
        ("naming: {pattern: '{server}'}", "naming.pattern", 1, ["{tool}"]),
        ("naming: {max_length: 5}", "naming.max_length", 1, ["at least 16"]),
        ("agents: {a b: {}}", 'agents."a b"', 1, ["name", "URL"]),
        ("agents: [a]", "agents", 1, ["mapping"]),
        ("agents:\n  a:\n    server: [x]", "agents.a.server", 3, ["servers?"]),
        (
            "agents:\n  a:\n    servers: [fils]\nmcpServers:\n  files: {command: x}",
            "agents.a.servers[0]",
            3,
            ["fils", "files?"],
        ),
        (
            "agents:\n  a:\n    servers:\n      - 'z*'\nmcpServers:\n  b: {command: x}",
            "agents.a.servers[0]",
            4,
            ["z*", "b"],
        ),
        ("agents: {a: {names: short}}", "agents.a.names", 1, ["local or prefixed", "short"]),
        ("mcpServers: {a: {command: x, env: {K: '${NOPE}'}}}", "mcpServers.a.env.K", 1, ["NOPE", "not set"]),
        ("server: {port: '${NOPE}'}", "server.port", 1, ["NOPE"]),
        (
            "mcpServers: {a: {command: x, envFile: nowhere.env}}",
            "mcpServers.a.envFile",
            1,
            ["nowhere.env", "not exist"],
        ),
        ("mcpServers: {a: {command: x, envFile: 5}}", "mcpServers.a.envFile", 1, ["text"]),
    ],
)
def test_a_typical_mistake_is_told_once_where_it_stands_and_what_to_do(
    text: str, path: str, line: int, words: list[str]
) -> None:
    (problem,) = problems(text)
    assert (problem.file, problem.path, problem.line) == ("manifold.yaml", path, line)
    for word in words:
        assert word in str(problem)


@pytest.mark.parametrize(
    "text",
    [
        "mcpServers: {a: {command: x, timeout: '${TOKEN}'}}",
        "mcpServers: {a: {command: x, session: '${TOKEN}'}}",
        "mcpServers: {a: {command: x, lazy: '${TOKEN}'}}",
        "mcpServers: {a: {command: x, queue: '${TOKEN}'}}",
        "mcpServers: {a: {url: '${TOKEN}'}}",
        f"mcpServers: {{a: {{url: 'nope://{SECRET}@h'}}}}",
        f"mcpServers: {{a: {{url: http://h, headers: {{A: [{SECRET}]}}}}}}",
        f'mcpServers: {{a: {{url: http://h, headers: {{A: "{SECRET}\\nx"}}}}}}',
        f"mcpServers: {{a: {{command: x, args: [[{SECRET}]]}}}}",
        f"mcpServers: {{a: {{command: x, env: {SECRET}}}}}",
    ],
)
def test_messages_never_repeat_what_may_be_secret(text: str) -> None:
    found = problems(text, {"TOKEN": SECRET})
    assert found
    assert all(SECRET not in str(problem) for problem in found)


def test_numbers_and_truths_may_come_by_reference() -> None:
    text = "server: {port: '${PORT}'}\nmcpServers: {a: {command: x, lazy: '${LAZY}', timeout: '${T}'}}"
    config = load_text(text, "yaml", "f", env={"PORT": "9000", "LAZY": "true", "T": "5m"}).config
    assert (config.server.port, config.upstreams["a"].lazy, config.upstreams["a"].timeout) == (9000, True, 300.0)


def test_toml_mistakes_have_lines_too() -> None:
    (problem,) = problems('[mcpServers.a]\ncommand = "x"\n\ntimeot = 5\n', syntax="toml")
    assert (problem.path, problem.line) == ("mcpServers.a.timeot", 4)


def test_unresolved_references_of_a_server_that_is_off_are_only_warned_about() -> None:
    text = """
mcpServers:
  remote: {disabled: true, url: "${NOPE}", headers: {A: "${NOPE}"}}
  many: {enabled: false, urls: ["${NOPE}"], timeout: "${NOPE}"}
  local: {enabled: "no", command: "${NOPE}", args: ["${NOPE}"], envFile: nowhere}
"""
    loaded = load_text(text, "yaml", "f", env={})
    assert not any(upstream.enabled for upstream in loaded.config.upstreams.values())
    assert len(loaded.warnings) == 7
    assert {warning.line for warning in loaded.warnings} == {3, 4, 5}


def test_other_mistakes_of_a_server_that_is_off_are_problems() -> None:
    (problem,) = problems('mcpServers: {a: {disabled: true, url: "${NOPE}", timeout: soon}}')
    assert problem.path == "mcpServers.a.timeout"


MISTAKES = {
    "command: 5": "command",
    "command: x, args: y": "args",
    "command: x, env: 5": "env",
    "command: x, timeout: soon": "timeout",
    "command: x, timeout: -1": "timeout",
    "command: x, typo: 1": "typo",
    "command: x, lazy: maybe": "lazy",
    "command: x, session: nobody": "session",
    "command: x, naming: '{server}'": "naming",
    "command: x, envFile: nowhere": "envFile",
    "command: x, cwd: '${NOPE}'": "cwd",
    "command: x, disabled: maybe": "disabled",
    "command: x, tools: 5": "tools",
    "url: nope": "url",
    "url: http://h, serverUrl: http://g": "serverUrl",
    "url: http://h, headers: {A B: c}": 'headers."A B"',
    "url: http://h, command: x": "url",
    "args: []": "command",
    "url: '${NOPE}'": "url",
}


@settings(deadline=None)
@given(st.lists(st.sampled_from(sorted(MISTAKES)), min_size=1, max_size=12), st.integers(0, 3))
def test_all_mistakes_of_a_file_are_told_at_once_in_file_order(mistakes: list[str], strangers: int) -> None:
    lines = ["mcpServers:"]
    expected = []
    for number, mistake in enumerate(mistakes):
        lines.append(f"  s{number}: {{{mistake}}}")
        expected.append((f"mcpServers.s{number}.{MISTAKES[mistake]}", len(lines)))
    lines.append("agents:")
    for number in range(strangers):
        lines.append(f"  a{number}: {{servers: [nobody]}}")
        expected.append((f"agents.a{number}.servers[0]", len(lines)))

    found = problems("\n".join(lines))

    assert [(problem.path, problem.line) for problem in found] == expected
    assert all(problem.hint or "must be" in problem.message or "not exist" in problem.message for problem in found)


def test_the_error_lists_every_problem_in_its_text() -> None:
    with pytest.raises(ConfigError) as caught:
        load_text("server: {prot: 1}\nlog: {level: x}", "yaml", "m.yaml", env={})
    first, second = str(caught.value).splitlines()
    assert first.startswith("m.yaml:1: server.prot: ")
    assert second.startswith("m.yaml:2: log.level: ")
