import string
import sys
from contextlib import suppress
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.interpolate import Sources, Unresolved, escape, interpolate, interpolate_tree
from proxy.config.lookups import from_keyring
from proxy.config.node import node_of, plain
from proxy.errors import Problem

NAMES = st.text(string.ascii_letters + "_", min_size=1, max_size=12)


def files(path: str) -> str:
    if path == "/run/secrets/x":
        return "from-file"
    raise Unresolved(f"refers to the file {path}, which does not exist", absent=True)


def keyring(service: str, user: str) -> str:
    return f"{user}@{service}"


SOURCES = Sources(
    {"X": "x-value", "EMPTY": "", "TRICKY": "${X}", "GITHUB_TOKEN": "t"}, {"python": "/usr/bin/python3"}, files, keyring
)


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        ("plain", "plain"),
        ("${env:X}", "x-value"),
        ("${X}", "x-value"),
        ("a ${X} b ${env:X} c", "a x-value b x-value c"),
        ("${X:-other}", "x-value"),
        ("${NOPE:-other}", "other"),
        ("${env:NOPE:-other}", "other"),
        ("${EMPTY:-other}", "other"),
        ("${EMPTY}", ""),
        ("${NOPE:-}", ""),
        ("${NOPE:-http://h:1/-}", "http://h:1/-"),
        ("${NOPE:-${X}}", "x-value"),
        ("${NOPE:-${NADA:-deep}}!", "deep!"),
        ('${NOPE:-{"a": 1}}', '{"a": 1}'),
        ("${file:/run/secrets/x}", "from-file"),
        ("${file:/nowhere:-fallback}", "fallback"),
        ("${keyring:my/service/me}", "me@my/service"),
        ("${python}", "/usr/bin/python3"),
        ("${TRICKY}", "${X}"),
        ("$${X}", "${X}"),
        ("$$${X}", "$x-value"),
        ("$$$${X}", "$${X}"),
        ("a$$b $HOME $", "a$$b $HOME $"),
        ("{X} }{", "{X} }{"),
    ],
)
def test_references_are_replaced(written: str, expected: str) -> None:
    assert interpolate(written, SOURCES) == expected


@pytest.mark.parametrize(
    ("written", "words", "remedy"),
    [
        ("${NOPE}", "NOPE", "${NOPE:-"),
        ("${GITHUB_TOKN}", "GITHUB_TOKN", "did you mean GITHUB_TOKEN?"),
        ("${env:NOPE}", "not set", "default"),
        ("${input:api-key}", "api-key", "${env:API_KEY}"),
        ("${command:pick}", "command:pick", "${env:NAME}"),
        ("${keyring:nouser}", "keyring:nouser", "service/user"),
        ("${file:/nowhere}", "/nowhere", ""),
        ("${}", "unknown reference", "${env:NAME}"),
        ("${env:}", "unknown reference", "${env:NAME}"),
        ("${a b}", "unknown reference", "$${"),
        ("${X", "without its }", "$${"),
        ("${NOPE:-" * 40 + "x" + "}" * 40, "nested too deeply", ""),
    ],
)
def test_what_cannot_be_resolved_says_what_and_what_to_do(written: str, words: str, remedy: str) -> None:
    with pytest.raises(Unresolved) as caught:
        interpolate(written, SOURCES)
    assert words in caught.value.message
    assert remedy in caught.value.hint


@given(st.text(alphabet=st.sampled_from("${}:-aX"), max_size=30))
def test_an_escaped_text_comes_back_as_it_was(text: str) -> None:
    assert interpolate(escape(text), Sources()) == text


@given(st.text())
def test_a_text_without_an_opening_is_never_changed(text: str) -> None:
    plain_text = text.replace("${", "")
    assert "${" in plain_text or interpolate(plain_text, Sources()) == plain_text


@given(NAMES, st.text())
def test_a_value_comes_in_unread_whatever_it_contains(name: str, value: str) -> None:
    assert interpolate(f"<${{env:{name}}}>", Sources({name: value})) == f"<{value}>"


@given(st.text(alphabet=st.sampled_from("${}:-aX/"), max_size=40))
def test_any_text_is_resolved_or_refused(text: str) -> None:
    with suppress(Unresolved):
        assert isinstance(interpolate(text, SOURCES), str)


def test_every_unresolved_reference_of_a_tree_is_told_with_its_path() -> None:
    problems: list[Problem] = []
    tree = node_of({"a": {"b": ["${X}", "${NOPE}"]}, "c": "${NADA}", "d": 5})

    resolved = interpolate_tree(tree, SOURCES, problems)

    assert [problem.path for problem in problems] == ["a.b[1]", "c"]
    assert plain(resolved) == {"a": {"b": ["x-value", "${NOPE}"]}, "c": "${NADA}", "d": 5}


def test_a_missing_keyring_package_is_told_with_other_ways(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "keyring", None)
    with pytest.raises(Unresolved) as caught:
        from_keyring("service", "me")
    assert "no keyring is installed" in caught.value.message
    assert "${env:NAME}" in caught.value.hint


def with_keyring(monkeypatch: pytest.MonkeyPatch, entries: dict[tuple[str, str], str]) -> None:
    module = ModuleType("keyring")

    def get_password(service: str, user: str) -> str | None:
        if service == "locked":
            raise RuntimeError("the content of an exception may be secret")
        return entries.get((service, user))

    module.get_password = get_password  # type: ignore[attr-defined] # a stand-in for a package that may be absent
    monkeypatch.setitem(sys.modules, "keyring", module)


def test_the_keyring_gives_a_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    with_keyring(monkeypatch, {("service", "me"): "s3cret"})
    assert from_keyring("service", "me") == "s3cret"


def test_an_absent_entry_and_a_failing_keyring_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    with_keyring(monkeypatch, {})
    with pytest.raises(Unresolved, match="does not exist"):
        from_keyring("service", "me")
    with pytest.raises(Unresolved, match="failed: RuntimeError"):
        from_keyring("locked", "me")
