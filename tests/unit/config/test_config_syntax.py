import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.node import Node, node_of, path_text, plain, walk
from proxy.config.syntax import Format, format_of, parse
from proxy.errors import ConfigError, Problem

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=15,
)


def read(text: str, syntax: str) -> Node:
    return parse(text, Format(syntax), "f").root


def failure(text: str, syntax: str) -> Problem:
    with pytest.raises(ConfigError) as caught:
        parse(text, Format(syntax), "f")
    (problem,) = caught.value.problems
    assert problem.file == "f"
    return problem


def lines(root: Node) -> dict[str, int | None]:
    return {path_text(node.path): node.line for node in walk(root)}


@given(st.dictionaries(st.text(), JSON_VALUES, min_size=1), st.sampled_from([None, 2]))
def test_json_is_read_as_the_standard_library_reads_it(data: dict[str, object], indent: int | None) -> None:
    assert plain(read(json.dumps(data, indent=indent), "json")) == data


@given(st.dictionaries(st.text(), JSON_VALUES, min_size=1))
def test_any_nesting_of_plain_data_survives_the_tree(data: dict[str, object]) -> None:
    assert plain(node_of(data)) == data


@given(
    st.text(alphabet=st.sampled_from("{}[]\":,/*\\ \n0-1.eE'tTrue#&*!<|"), max_size=40), st.sampled_from(list(Format))
)
def test_any_text_is_read_as_a_mapping_or_refused(text: str, syntax: Format) -> None:
    with suppress(ConfigError):
        assert isinstance(parse(text, syntax, "f").root.value, dict)


JSONC = """\
// a comment
{
  "mcpServers": { /* another
     over two lines */
    "a": {
      "url": "http://not-a-comment/",
      "args": [
        "x", // trailing
        "/* no comment */",
      ],
    },
  },
}
"""


def test_json_may_have_comments_and_trailing_commas() -> None:
    assert plain(read(JSONC, "json")) == {
        "mcpServers": {"a": {"url": "http://not-a-comment/", "args": ["x", "/* no comment */"]}}
    }


def test_json_values_know_their_lines() -> None:
    found = lines(read(JSONC, "json"))
    assert (found["mcpServers"], found["mcpServers.a"], found["mcpServers.a.url"]) == (3, 5, 6)
    assert (found["mcpServers.a.args"], found["mcpServers.a.args[0]"], found["mcpServers.a.args[1]"]) == (7, 8, 9)


def test_yaml_values_know_their_lines() -> None:
    found = lines(
        read("mcpServers:\n  My Server:\n    args:\n      - x\n      -\n        y\n    env: {A: b}\n", "yaml")
    )
    assert found == {
        "": 1,
        "mcpServers": 1,
        'mcpServers."My Server"': 2,
        'mcpServers."My Server".args': 3,
        'mcpServers."My Server".args[0]': 4,
        'mcpServers."My Server".args[1]': 6,
        'mcpServers."My Server".env': 7,
        'mcpServers."My Server".env.A': 7,
    }


def test_toml_values_know_their_lines() -> None:
    found = lines(
        read(
            '[server]\nport = 1\n\n[mcpServers."My Server"]\ncommand = "x"\nenv.A = "1"\n[[x]]\na=1\n[[x]]\na=2', "toml"
        )
    )
    assert (found["server.port"], found['mcpServers."My Server"'], found['mcpServers."My Server".env.A']) == (2, 4, 6)
    assert (found["x[0].a"], found["x[1].a"]) == (8, 10)


def test_numbers_and_truths_remember_how_they_were_written() -> None:
    for text, syntax in (("a: 0777\nb: yes\nc: 1.10", "yaml"), ('{"a": 1e2, "b": true, "c": 1.10}', "json")):
        root = read(text, syntax)
        assert root.members["c"].text == "1.10"
        assert root.members["a"].text in ("0777", "1e2")


def test_yaml_dates_and_clock_times_are_texts() -> None:
    assert plain(read("a: 2024-01-01\nb: 12:30\nc: 22:22:22", "yaml")) == {
        "a": "2024-01-01",
        "b": "12:30",
        "c": "22:22:22",
    }


def test_yaml_aliases_and_merges_unfold() -> None:
    text = "x-base: &b {command: npx, timeout: 5}\nmcpServers:\n  a:\n    <<: *b\n    timeout: 9\n  c: *b\n"
    data = plain(read(text, "yaml"))
    assert data["mcpServers"] == {"a": {"command": "npx", "timeout": 9}, "c": {"command": "npx", "timeout": 5}}


def test_yaml_which_unfolds_without_end_is_refused() -> None:
    assert "aliases" in failure("a: &a [*a]", "yaml").message
    bomb = "a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + "".join(
        f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 9)
    )
    assert "aliases" in failure(bomb, "yaml").message


@pytest.mark.parametrize(
    ("text", "syntax"),
    [
        ('{\n "a": 1,\n "b": 2,\n "a": 3\n}', "json"),
        ("\na: 1\nb: 2\na: 3", "yaml"),
    ],
)
def test_a_duplicate_key_is_a_problem_with_both_lines(text: str, syntax: str) -> None:
    (problem,) = parse(text, Format(syntax), "f").problems
    assert (problem.path, problem.line) == ("a", 4)
    assert "line 2" in problem.message


@pytest.mark.parametrize(
    ("text", "syntax", "line", "words"),
    [
        ("{\n\"a\": 'x'}", "json", 2, "double quotes"),
        ('{"a": True}', "json", 1, "true, false and null"),
        ('{"a" 1}', "json", 1, "colon"),
        ('{"a": 1\n "b": 2}', "json", 2, "comma"),
        ('{\n"a": "C:\\Users"}', "json", 2, "backslash"),
        ('{"a": [\n1,\n2', "json", 3, "opened in line 1"),
        ('{"a": "x\n"}', "json", 1, "closing quote"),
        ("{}\n{}", "json", 2, "after its end"),
        ('{"a":}', "json", 1, "value"),
        ("{a: 1}", "json", 1, "key in double quotes"),
        ('{"a": 01}', "json", 1, "comma"),
        ('{"a": ' + "1" * 5000 + "}", "json", 1, "too long"),
        ('"x"', "json", 1, "mapping"),
        ("[]", "json", 1, "mapping"),
        ("\na: b: c", "yaml", 2, "quotes"),
        ("a:\n\t- b", "yaml", 2, "tabs"),
        ("a: [1", "yaml", 1, "YAML"),
        ("a: *x", "yaml", 1, "alias"),
        ("a: 1\n---\nb: 1", "yaml", 2, "one document"),
        ("a: \x01", "yaml", 1, "control character"),
        ("- 1", "yaml", 1, "mapping"),
        ("? [a]\n: 1", "yaml", 1, "key"),
        ("a: {<<: 1}", "yaml", 1, "<<"),
        ("a = 1\nb = ", "toml", 2, "TOML"),
        ("[a]\n[a]", "toml", 2, "twice"),
        ("a = 1\na = 2", "toml", 2, "TOML"),
        ("a = " + "1" * 5000, "toml", None, "too long"),
    ],
)
def test_a_syntax_error_says_the_line_and_what_is_wrong(text: str, syntax: str, line: int | None, words: str) -> None:
    problem = failure(text, syntax)
    assert problem.line == line
    assert words in f"{problem.message} {problem.hint}"


def test_a_syntax_error_does_not_repeat_what_may_be_secret() -> None:
    assert "s3cret" not in str(failure('{"TOKEN": s3cretvalue}', "json"))


@pytest.mark.parametrize("syntax", list(Format))
def test_deep_nesting_is_refused(syntax: Format) -> None:
    for depth in (100, 100_000):
        nested = "a = " * (syntax is Format.TOML) + '{"a": ' * (syntax is not Format.TOML) + "[" * depth + "]" * depth
        problem = failure(nested + "}" * (syntax is not Format.TOML), syntax)
        assert "deeply" in problem.message


@pytest.mark.parametrize(
    ("text", "syntax"), [("", "json"), (" \n", "yaml"), ("# only\n", "yaml"), ("", "toml"), ("null", "json")]
)
def test_an_empty_file_is_told_with_an_example(text: str, syntax: str) -> None:
    problem = failure(text, syntax)
    assert "empty" in problem.message
    assert "mcpServers" in problem.hint


def test_an_unknown_yaml_tag_is_a_problem() -> None:
    for text in ("a: !env X", "a: !env [X]", "a: !!int x"):
        (problem,) = parse(text, Format.YAML, "f").problems
        assert problem.path == "a"


@pytest.mark.parametrize(
    ("file", "text", "expected"),
    [
        ("a.yml", "", "yaml"),
        ("a.TOML", "", "toml"),
        ("a.jsonc", "", "json"),
        ("config", '\n{"a": 1}', "json"),
        ("config", "a: 1", "yaml"),
    ],
)
def test_the_format_follows_the_suffix_or_the_first_character(file: str, text: str, expected: str) -> None:
    assert format_of(file, text) == expected
