"""Arguments against schemas: the report names the argument, what was expected, and what kind of value came."""

import socket
from typing import Any

import pytest

from proxy.store.validation import Uncheckable, Validators

DRAFT_7 = "http://json-schema.org/draft-07/schema#"
SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "path": {"type": "string"},
        "limit": {"type": "integer", "minimum": 1, "maximum": 10},
        "mode": {"enum": ["read", "write"]},
        "when": {"type": "string", "format": "date-time"},
        "day": {"type": "string", "format": "date"},
        "site": {"type": "string", "format": "uri"},
        "who": {"anyOf": [{"type": "string"}, {"type": "integer"}]},
        "tags": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
        "filter": {"type": "object", "properties": {"name": {"type": "string"}}, "required": ["name"]},
        "node": {"$ref": "#/$defs/node"},
        "code": {"type": "string", "pattern": "^[a-z]+$"},
    },
    "required": ["path"],
    "additionalProperties": False,
    "$defs": {
        "node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}, "value": {"type": "number"}}}
    },
}


def found(arguments: dict[str, Any], schema: Any = None) -> list[str]:
    return [str(problem) for problem in Validators().check(SCHEMA if schema is None else schema, arguments).problems]


def test_arguments_that_fit_have_no_problems() -> None:
    fitting = {
        "path": "/x",
        "limit": 3,
        "mode": "read",
        "when": "2026-01-02T03:04:05Z",
        "day": "2026-01-02",
        "site": "https://example.com/x?y#z",
        "who": 7,
        "tags": ["a", "b"],
        "filter": {"name": "n"},
        "node": {"next": {"next": {"value": 1.5}}},
    }
    assert found(fitting) == []


@pytest.mark.parametrize(
    ("argument", "value", "told"),
    [
        ("path", 7, "path: expected a text, got a whole number"),
        ("limit", "many", "limit: expected a whole number, got a text"),
        ("limit", 0, "limit: expected at least 1, got a whole number"),
        ("limit", 11, "limit: expected at most 10, got a whole number"),
        ("mode", "run", "mode: expected one of 'read', 'write', got a text"),
        ("when", "yesterday", "when: expected a text in the format date-time, got a text"),
        ("when", "2026-01-02", "when: expected a text in the format date-time, got a text"),
        ("day", "2026-13-02", "day: expected a text in the format date, got a text"),
        ("site", "no uri", "site: expected a text in the format uri, got a text"),
        ("who", None, "who: expected a text or a whole number, got null"),
        ("tags", ["a", 2], "tags[1]: expected a text, got a whole number"),
        ("tags", ["a", "a"], "tags: expected a list without repetitions, got a list"),
        ("filter", {}, "filter.name: expected a text, got nothing: it is required"),
        ("node", {"next": {"value": "x"}}, "node.next.value: expected a number, got a text"),
        ("code", "A1", "code: expected a text that matches ^[a-z]+$, got a text"),
        ("pth", "/x", "pth: expected no such argument (did you mean path?), got a text"),
    ],
)
def test_the_report_names_argument_expectation_and_kind(argument: str, value: Any, told: str) -> None:
    assert found({"path": "/x", argument: value}) == [told]


def test_every_problem_is_told_and_no_value_is_repeated() -> None:
    told = found({"limit": "hunter2", "mode": "hunter3", "extra": "hunter4"})
    assert len(told) == 4
    assert not any("hunter" in one for one in told)


def test_a_schema_elsewhere_is_never_fetched(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("somebody went to the network")

    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    schema = {"type": "object", "properties": {"a": {"$ref": "http://192.0.2.1/schema.json"}}}
    with pytest.raises(Uncheckable, match=r"http://192\.0\.2\.1"):
        found({"a": 1}, schema)


@pytest.mark.parametrize(
    "schema",
    [7, {"type": "nonsense"}, {"properties": []}, {"properties": {"a": {"pattern": "("}}}],
)
def test_a_schema_that_is_none_is_told_as_such(schema: Any) -> None:
    with pytest.raises(Uncheckable):
        found({"a": "x"}, schema)


def test_an_endless_schema_ends() -> None:
    with pytest.raises(Uncheckable):
        found({"a": 1}, {"$ref": "#"})


CATASTROPHES = ["^(a+)+$", "^(a|aa)+$", "(.*)*x", "^(([a-z])+.)+[A-Z]([a-z])+$", r"^(\w+\s?)*$"]
WORDS = "a" * 5000 + "!"


@pytest.mark.parametrize("pattern", CATASTROPHES)
def test_a_pattern_that_would_take_for_ever_takes_no_time(pattern: str) -> None:
    plain = {"properties": {"a": {"pattern": pattern}}}
    for schema in (
        plain,
        {"propertyNames": {"pattern": pattern}},
        {"patternProperties": {pattern: {"type": "integer"}}},
        {"patternProperties": {pattern: {}}, "additionalProperties": False},
        {"patternProperties": {pattern: {}}, "unevaluatedProperties": False},
        {"$schema": DRAFT_7, "properties": {"a": {"$ref": "#/definitions/x"}}, "definitions": {"x": plain}},
        {"properties": {"a": {"$schema": DRAFT_7, "pattern": pattern}}},
        {"$schema": DRAFT_7, "properties": {"b": {"$ref": "#"}}, "patternProperties": {pattern: {"type": "integer"}}},
    ):
        report = Validators().check(schema, {"a": WORDS, WORDS: WORDS, "b": {WORDS: WORDS}})
        assert report.problems or schema is not plain


def test_a_pattern_works_as_it_does_elsewhere() -> None:
    assert found({"a": "x1"}, {"properties": {"a": {"pattern": r"^[a-z]\d$"}}}) == []
    assert found({"a": "é"}, {"properties": {"a": {"pattern": "^[\\u00e0-\\u00ff]$"}}}) == []
    assert found({"a": "e"}, {"properties": {"a": {"pattern": "^[\\u00e0-\\u00ff]$"}}}) != []
    assert found({"a": "ab"}, {"properties": {"a": {"pattern": "b"}}}) == []
    rules = {"patternProperties": {"^x-": {"type": "integer"}}, "additionalProperties": False}
    assert found({"x-a": 1}, rules) == []
    assert found({"x-a": "1"}, rules) == ["x-a: expected a whole number, got a text"]
    assert [one.split(":")[0] for one in found({"x-a": 1, "y": 1}, rules)] == ["y"]
    few = {"properties": {"a": True}, "additionalProperties": {"type": "integer"}}
    assert found({"a": "x", "b": 1, "c": "x"}, few) == ["c: expected a whole number, got a text"]


@pytest.mark.parametrize("pattern", [r"^(?=.*\d)[a-z0-9]+$", r"^(a)\1$", "^(?!x)"])
def test_a_pattern_that_cannot_be_checked_is_reported_and_refuses_nothing(pattern: str) -> None:
    for schema in (
        {"properties": {"a": {"pattern": pattern}}},
        {"patternProperties": {pattern: {"type": "integer"}}, "additionalProperties": False},
    ):
        report = Validators().check(schema, {"a": "-"})
        assert report.problems == ()
        assert [one.expected for one in report.skipped] == [f"a text that matches {pattern}"]
        assert "no check of that" in report.skipped[0].got


def test_a_text_of_any_length_is_no_reason_to_wait() -> None:
    report = Validators().check({"properties": {"a": {"pattern": "^(a|b)*$"}}}, {"a": "a" * 20_000_000})
    assert report.problems == ()
    assert "too long" in report.skipped[0].got


def test_a_schema_that_doubles_with_every_reference_is_given_up() -> None:
    steps = {f"s{n}": {"allOf": [{"$ref": f"#/$defs/s{n + 1}"}] * 2} for n in range(40)}
    with pytest.raises(Uncheckable, match="references"):
        found({"a": 1}, {"$ref": "#/$defs/s0", "$defs": {**steps, "s40": {}}})


def test_a_name_in_a_constant_is_no_dialect() -> None:
    schema = {"properties": {"a": {"const": {"$schema": "x"}}}}
    assert found({"a": {"$schema": "x"}}, schema) == []
    assert found({"a": {}}, schema) != []


def test_prepared_schemas_are_kept() -> None:
    validators = Validators()
    for _ in range(3):
        validators.check(SCHEMA, {"path": "/x"})
    assert (validators.tally.hits, validators.tally.misses, len(validators)) == (2, 1, 1)
    validators.clear()
    assert len(validators) == 0


def test_an_older_dialect_is_checked_by_its_own_rules() -> None:
    schema = {
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object",
        "properties": {"pair": {"type": "array", "items": [{"type": "string"}, {"type": "integer"}]}},
    }
    assert found({"pair": ["x", "y"]}, schema) == ["pair[1]: expected a whole number, got a text"]
