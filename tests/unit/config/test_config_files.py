import os
import sys
from pathlib import Path

import pytest

from proxy.config.discover import candidates, discover
from proxy.config.exposure import exposed_state, make_private
from proxy.config.load import load, load_text
from proxy.errors import ConfigError, Problem


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    path.chmod(mode)
    return path


def problems(*paths: Path) -> tuple[Problem, ...]:
    with pytest.raises(ConfigError) as caught:
        load(*paths, env={})
    return caught.value.problems


SERVER = "mcpServers: {{{name}: {{command: x}}}}"


def test_a_file_is_loaded_by_its_suffix(tmp_path: Path) -> None:
    write(tmp_path / "a.toml", '[mcpServers.a]\ncommand = "x"')
    write(tmp_path / "b.json", '{"mcpServers": {"b": {"command": "x"}}}')
    write(tmp_path / "c.yml", SERVER.format(name="c"))
    loaded = load(tmp_path / "a.toml", str(tmp_path / "b.json"), tmp_path / "c.yml", env={})
    assert list(loaded.config.upstreams) == ["a", "b", "c"]
    assert loaded.files == (tmp_path / "a.toml", tmp_path / "b.json", tmp_path / "c.yml")
    assert loaded.warnings == ()


def test_a_file_that_cannot_be_read_is_one_clear_problem(tmp_path: Path) -> None:
    (missing,) = problems(tmp_path / "nowhere.yaml")
    assert (missing.file, missing.message) == (str(tmp_path / "nowhere.yaml"), "does not exist")
    (folder,) = problems(tmp_path)
    assert "directory" in folder.message
    (tmp_path / "latin.yaml").write_bytes(b"a: 1\nb: \xff\n")
    (latin,) = problems(tmp_path / "latin.yaml")
    assert ("UTF-8" in latin.message, latin.line) == (True, 2)


def test_a_file_of_absurd_size_is_refused(tmp_path: Path) -> None:
    with (tmp_path / "a.yaml").open("wb") as stream:
        stream.truncate(9 * 1024 * 1024)
    (problem,) = problems(tmp_path / "a.yaml")
    assert "8 MiB" in problem.message


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_byte_order_marks_of_editors_are_understood(tmp_path: Path, encoding: str) -> None:
    path = tmp_path / "a.json"
    path.write_bytes('{"mcpServers": {"é": {"command": "x"}}}'.encode(encoding))
    assert list(load(path, env={}).config.upstreams) == ["é"]


def test_options_of_several_files_combine(tmp_path: Path) -> None:
    one = write(tmp_path / "one.yaml", "server: {port: 1}\nlog: {level: debug}\n" + SERVER.format(name="a"))
    two = write(
        tmp_path / "two.yaml",
        "server: {host: h, port: 1}\nagents: {all: {servers: [a, b]}}\n" + SERVER.format(name="b"),
    )
    config = load(one, two, env={}).config
    assert (config.server.host, config.server.port, config.log.level) == ("h", 1, "debug")
    assert config.agents["all"].servers == ("a", "b")


def test_the_same_name_in_two_files_is_a_problem_naming_both_places(tmp_path: Path) -> None:
    one = write(tmp_path / "one.yaml", "\n" + SERVER.format(name="a"))
    two = write(tmp_path / "two.yaml", "\n\n" + SERVER.format(name="a"))
    (problem,) = problems(one, two)
    assert (problem.file, problem.line, problem.path) == (str(two), 3, "mcpServers.a")
    assert f"{one}:2" in problem.message


def test_an_option_which_two_files_set_differently_is_a_problem(tmp_path: Path) -> None:
    one = write(tmp_path / "one.yaml", "server: {port: 1}")
    two = write(tmp_path / "two.yaml", "server: {port: 2}")
    (problem,) = problems(one, two)
    assert problem.path == "server.port"
    assert f"{one}:1" in problem.message


def test_problems_of_several_files_come_in_the_order_of_the_files(tmp_path: Path) -> None:
    one = write(tmp_path / "z.yaml", "server: {prot: 1}\nagents: {a: {servers: [b]}}")
    two = tmp_path / "missing.yaml"
    three = write(tmp_path / "a.yaml", "log: {level: x}")
    assert [problem.file for problem in problems(one, two, three)] == [str(one), str(two), str(three)]


def test_paths_start_at_the_folder_of_the_file(tmp_path: Path) -> None:
    servers = "{a: {command: ./run, cwd: sub}, b: {command: x, cwd: /abs}, c: {command: x, cwd: ~/d}}"
    text = f"server: {{state_dir: state}}\nmcpServers: {servers}"
    config = load(write(tmp_path / "conf" / "m.yaml", text), env={}).config
    assert config.server.state_dir == tmp_path / "conf" / "state"
    assert config.upstreams["a"].cwd == str(tmp_path / "conf" / "sub")
    assert config.upstreams["a"].command == "./run"
    assert config.upstreams["b"].cwd == "/abs"
    assert config.upstreams["c"].cwd == str(Path.home() / "d")


@pytest.mark.parametrize("folder", [".vscode", ".cursor", ""])
def test_the_workspace_is_around_an_editors_folder(tmp_path: Path, folder: str) -> None:
    text = '{"servers": {"a": {"command": "${python}", "args": ["${workspaceFolder}/x", "${userHome}"], "cwd": "."}}}'
    upstream = load(write(tmp_path / folder / "mcp.json", text), env={}).config.upstreams["a"]
    assert upstream.args == (f"{tmp_path}/x", str(Path.home()))
    assert upstream.cwd == str(tmp_path)
    assert upstream.command == sys.executable


def test_secrets_come_from_files_without_their_last_line_break(tmp_path: Path) -> None:
    secret = write(tmp_path / "secret", "s3cret\n\n")
    text = f'mcpServers: {{a: {{command: x, env: {{A: "${{file:{secret}}}", B: "${{file:secret}}"}}}}}}'
    loaded = load(write(tmp_path / "m.yaml", text), env={})
    env = {key: each.get_secret_value() for key, each in loaded.config.upstreams["a"].env.items()}
    assert env == {"A": "s3cret\n", "B": "s3cret\n"}
    assert loaded.also_read == (secret,)


def test_files_that_cannot_serve_as_secrets_are_told(tmp_path: Path) -> None:
    (tmp_path / "binary").write_bytes(b"\xff\xfe\xff")
    (tmp_path / "large").write_bytes(b"x" * (1024 * 1024 + 1))
    names = ("nowhere", "binary", "large", ".", "a\\0b")
    args = ", ".join(f'"${{file:{name}}}"' for name in names)
    found = problems(write(tmp_path / "m.yaml", f"mcpServers: {{a: {{command: x, args: [{args}]}}}}"))
    words = ["does not exist", "not UTF-8", "larger than 1 MiB", "cannot be read", "cannot be read"]
    assert len(found) == len(words)
    for problem, word in zip(found, words, strict=True):
        assert word in problem.message


DOTENV = """\
# comment
A=plain # not this
export B = "with \\"quotes\\" and \\n break" # nor this
C='single ${A} #kept'
D=
E=a#b

"""


def test_an_env_file_joins_env_which_wins(tmp_path: Path) -> None:
    write(tmp_path / ".env", DOTENV)
    text = "mcpServers: {a: {command: x, env: {A: mine, Z: '1'}, envFile: .env}}"
    loaded = load(write(tmp_path / "m.yaml", text), env={})
    assert {key: each.get_secret_value() for key, each in loaded.config.upstreams["a"].env.items()} == {
        "A": "mine",
        "B": 'with "quotes" and \n break',
        "C": "single ${A} #kept",
        "D": "",
        "E": "a#b",
        "Z": "1",
    }
    assert loaded.also_read == (tmp_path / ".env",)


@pytest.mark.parametrize("content", ["A=1\nnonsense s3cret", 'A=1\nB="s3cret', "A=1\nB='s3cret"])
def test_a_malformed_env_file_is_told_by_line_and_not_by_content(tmp_path: Path, content: str) -> None:
    write(tmp_path / ".env", content)
    (problem,) = problems(
        write(tmp_path / "m.yaml", "mcpServers: {a: {command: x, envFile: '${workspaceFolder}/.env'}}")
    )
    assert problem.path == "mcpServers.a.envFile"
    assert "line 2" in problem.message
    assert "s3cret" not in str(problem)


@pytest.mark.skipif(os.name != "posix", reason="permission bits are POSIX")
@pytest.mark.parametrize(
    ("mode", "header", "warned"),
    [
        (0o644, "Bearer abc", True),
        (0o640, "Bearer abc", True),
        (0o600, "Bearer abc", False),
        (0o644, "Bearer ${env:T}", False),
    ],
)
def test_a_literal_secret_in_a_file_for_all_eyes_is_warned_about(
    tmp_path: Path, mode: int, header: str, *, warned: bool
) -> None:
    text = f"mcpServers:\n  a: {{url: 'http://h', headers: {{Authorization: '{header}'}}}}"
    loaded = load(write(tmp_path / "m.yaml", text, mode), env={"T": "t"})
    assert [warning.path for warning in loaded.warnings] == ["mcpServers.a.headers.Authorization"] * warned
    assert all("abc" not in str(warning) and warning.line == 2 for warning in loaded.warnings)


def test_a_text_is_loaded_with_the_name_of_its_file() -> None:
    config = load_text("mcpServers: {a: {command: x, cwd: sub}}", "yaml", "/srv/conf/m.yaml", env={}).config
    assert config.upstreams["a"].cwd == "/srv/conf/sub"


def test_our_environment_is_used_unless_another_is_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MANIFOLD_TEST_VALUE", "ours")
    text = "mcpServers: {a: {command: '${MANIFOLD_TEST_VALUE:-none}'}}"
    assert load_text(text, "yaml").config.upstreams["a"].command == "ours"
    assert load_text(text, "yaml", env={}).config.upstreams["a"].command == "none"


def test_the_first_existing_candidate_is_discovered(tmp_path: Path) -> None:
    env = {"HOME": str(tmp_path / "home")}
    assert discover(env, tmp_path) == ()
    expected = []
    for path in reversed(candidates(env, tmp_path)):
        expected.append(write(path, ""))
        assert discover(env, tmp_path) == (path,)
    assert expected[-1] == tmp_path / "manifold.yaml"
    assert expected[0] == tmp_path / "home/.config/mcp-manifold/config.json"


def test_the_user_folder_follows_xdg_if_it_is_absolute(tmp_path: Path) -> None:
    assert Path("/etc/x/mcp-manifold/config.yaml") in candidates({"HOME": "/h", "XDG_CONFIG_HOME": "/etc/x"}, tmp_path)
    assert Path("/h/.config/mcp-manifold/config.toml") in candidates({"HOME": "/h", "XDG_CONFIG_HOME": "x"}, tmp_path)


def test_the_environment_names_files_even_if_they_are_missing(tmp_path: Path) -> None:
    write(tmp_path / "manifold.yaml", "")
    env = {"HOME": "/h", "MCP_MANIFOLD_CONFIG": os.pathsep.join(["a.yaml", "/abs/b.yaml"])}
    assert discover(env, tmp_path) == (tmp_path / "a.yaml", Path("/abs/b.yaml"))


@pytest.mark.skipif(os.name != "posix", reason="permission bits are POSIX")
@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("mcpServers: {a: {url: 'https://me:s3cret@h/'}}", "mcpServers.a.url"),
        ("mcpServers: {a: {command: x, args: [--port, '1', --api-key, s3cret]}}", "mcpServers.a.args[3]"),
        ("server: {state_keys: ['s3cret-s3cret-s3cret-s3cret-s3cret-s3cret']}", "server.state_keys[0]"),
        ("mcpServers: {a: {command: x, env: {MODE: fast, DB_PASSWORD: s3cret}}}", "mcpServers.a.env.DB_PASSWORD"),
        ("mcpServers: {a: {command: x, args: [--port, '1'], env: {MODE: fast}}}", ""),
        ("mcpServers: {a: {url: 'https://h/', headers: {X-Trace: on}}}", ""),
    ],
)
def test_secrets_are_found_wherever_they_stand(tmp_path: Path, text: str, path: str) -> None:
    loaded = load(write(tmp_path / "m.yaml", text, 0o644), env={})
    assert [one.path for one in loaded.warnings if "secret in a file" in one.message] == [path] * bool(path)
    assert all("s3cret" not in str(one) for one in loaded.warnings)


@pytest.mark.skipif(os.name != "posix", reason="permission bits are POSIX")
def test_a_state_directory_that_is_open_to_others_is_told(tmp_path: Path) -> None:
    assert exposed_state(tmp_path / "not there") == []
    (tmp_path / "state").mkdir(mode=0o700)
    assert exposed_state(tmp_path / "state") == []
    (tmp_path / "state").chmod(0o755)
    (told,) = exposed_state(tmp_path / "state")
    assert "open to other users (drwxr-xr-x)" in told.message
    assert told.hint.startswith("chmod 700")


@pytest.mark.skipif(os.name != "posix", reason="permission bits are POSIX")
def test_our_own_state_directory_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    for directory in (tmp_path / "new" / "state", tmp_path):
        directory.mkdir(parents=True, exist_ok=True)
        directory.chmod(0o755)
        make_private(directory)
        assert exposed_state(directory) == []
    make_private(tmp_path / "other")
    assert exposed_state(tmp_path / "other") == []


@pytest.mark.parametrize(("to", "found"), [("logs/audit.jsonl", "sub/logs/audit.jsonl"), ("stderr", "stderr")])
def test_the_audit_log_is_relative_to_the_file_that_names_it(tmp_path: Path, to: str, found: str) -> None:
    (tmp_path / "sub").mkdir()
    loaded = load(write(tmp_path / "sub" / "m.yaml", f"mcpServers: {{}}\naudit: {{to: {to}}}"), env={})
    assert loaded.config.audit.to == (str(tmp_path / found) if "/" in found else found)


def test_an_unknown_option_of_the_audit_log_is_told_with_a_suggestion(tmp_path: Path) -> None:
    (problem,) = problems(write(tmp_path / "m.yaml", "mcpServers: {}\naudit: {to: a.log, argument: keep}"))
    assert (problem.path, problem.line) == ("audit.argument", 2)
    assert "arguments" in problem.hint
