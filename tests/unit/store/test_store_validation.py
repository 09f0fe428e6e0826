"""Arguments against schemas: the report names the argument, what was expected, and what kind of value came."""

import socket
from typing import Any

import pytest

from proxy.store.validation import Uncheckable, Validators

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
    return [str(problem) for problem in Validators().check(SCHEMA if schema is None else schema, arguments)]


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
