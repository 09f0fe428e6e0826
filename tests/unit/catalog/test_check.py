import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.catalog.check import check
from proxy.model import Kind

SCHEMA = {"type": "object"}
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=5,
)


def nested(depth: int) -> list[Any]:
    value: list[Any] = []
    for _ in range(depth):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("kind", "raw", "fault"),
    [
        (Kind.TOOL, None, "the entry is not an object"),
        (Kind.TOOL, ["x"], "the entry is not an object"),
        (Kind.TOOL, {"inputSchema": SCHEMA}, "name is missing"),
        (Kind.TOOL, {"name": 7, "inputSchema": SCHEMA}, "name is not a string"),
        (Kind.TOOL, {"name": "", "inputSchema": SCHEMA}, "name is empty"),
        (Kind.TOOL, {"name": "\ud800", "inputSchema": SCHEMA}, "it is not valid JSON or Unicode"),
        (Kind.TOOL, {"name": "x", "inputSchema": {**SCHEMA, "title": "\ud800"}}, "it is not valid JSON or Unicode"),
        (Kind.TOOL, {"name": "x", "inputSchema": {**SCHEMA, "x": nested(200)}}, "it is nested too deeply"),
        (Kind.TOOL, {"name": "x", "inputSchema": {**SCHEMA, "x": nested(100_000)}}, "it is nested too deeply"),
        (Kind.TOOL, {"name": "x"}, "inputSchema is missing"),
        (Kind.TOOL, {"name": "x", "inputSchema": True}, "inputSchema is not an object"),
        (Kind.TOOL, {"name": "x", "inputSchema": {"type": "string"}}, "inputSchema is not of type object"),
        (Kind.TOOL, {"name": "x", "inputSchema": SCHEMA, "outputSchema": []}, "outputSchema is not an object"),
        (Kind.TOOL, {"name": "x", "inputSchema": SCHEMA, "description": 3}, "description is not a string"),
        (Kind.PROMPT, {"name": "x", "arguments": {}}, "arguments is not a list of objects with a name"),
        (Kind.PROMPT, {"name": "x", "arguments": [{}]}, "arguments is not a list of objects with a name"),
        (Kind.RESOURCE, {"name": "x"}, "uri is missing"),
        (Kind.RESOURCE, {"uri": "a:b"}, "name is missing or not a string"),
        (Kind.RESOURCE, {"uri": "a:b", "name": "x", "size": "big"}, "size is not a number"),
        (Kind.RESOURCE, {"uri": "a:b", "name": "x", "size": True}, "size is not a number"),
        (Kind.TEMPLATE, {"name": "x", "uri": "a:b"}, "uriTemplate is missing"),
        (Kind.TEMPLATE, {"name": "x", "uriTemplate": "a:{b}", "icons": "x"}, "icons is not a list"),
    ],
)
def test_what_would_spoil_a_list_has_a_fault(kind: Kind, raw: Any, fault: str) -> None:
    assert check(kind, raw).fault == fault


@pytest.mark.parametrize(
    ("kind", "raw"),
    [
        (Kind.TOOL, {"name": "größe", "inputSchema": SCHEMA, "x-unknown": None, "outputSchema": {}}),
        (Kind.PROMPT, {"name": "x", "arguments": [{"name": "a"}]}),
        (Kind.PROMPT, {"name": "x"}),
        (Kind.PROMPT, {"name": "x", "_meta": {"wide": [[]] * 1000, "deep": nested(100)}}),
        (Kind.RESOURCE, {"uri": "a:b", "name": "x", "size": 1.5}),
        (Kind.TEMPLATE, {"uriTemplate": "a:{b}", "name": ""}),
    ],
)
def test_a_good_entry_stays_the_object_that_it_is(kind: Kind, raw: dict[str, Any]) -> None:
    checked = check(kind, raw)
    assert checked.fault == ""
    assert checked.raw is raw


def test_nulls_of_optional_fields_go_and_the_original_keeps_them() -> None:
    raw = {"name": "x", "title": None, "inputSchema": SCHEMA, "annotations": None, "_meta": {"a": None}}
    assert check(Kind.TOOL, raw).raw == {"name": "x", "inputSchema": SCHEMA, "_meta": {"a": None}}
    assert "title" in raw


def test_a_schema_without_a_type_becomes_that_of_an_object() -> None:
    raw = {"name": "x", "inputSchema": {"properties": {}}}
    assert check(Kind.TOOL, raw).raw == {"name": "x", "inputSchema": {"type": "object", "properties": {}}}
    assert raw["inputSchema"] == {"properties": {}}


@given(st.sampled_from(Kind), JSON | st.fixed_dictionaries({"name": JSON, "uri": JSON, "inputSchema": JSON}))
def test_any_entry_is_either_usable_or_has_a_fault(kind: Kind, raw: Any) -> None:
    checked = check(kind, raw)
    assert checked.fault or checked.name
    json.dumps(checked.raw)
