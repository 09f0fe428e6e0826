from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp.shared import inbound

from proxy.wire import headers

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
tricky = st.one_of(
    texts,
    st.sampled_from(
        ["", " a", "a ", "\t", "=?base64??=", "=?base64?YQ==?=", "=?base64?YR==?=", "=?base64?/w==?=", "é"]
    ),
    texts.map(lambda text: f"=?base64?{text}?="),
)

tokens = st.sampled_from(["Region", "region", "X-1", "", "bad token", "ü", 5, None])
types = st.sampled_from(["string", "integer", "boolean", "number", "object", ["string"], None])
leaves = st.fixed_dictionaries(
    {"type": types}, optional={"x-mcp-header": tokens, "default": st.just({"x-mcp-header": "D"})}
)
names = st.sampled_from(["a", "b", "properties", "x-mcp-header"])


def _nested(children: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.one_of(
        st.fixed_dictionaries({"type": st.just("object"), "properties": st.dictionaries(names, children, max_size=3)}),
        st.fixed_dictionaries({"items": children}),
        st.fixed_dictionaries({"anyOf": st.lists(children, max_size=2)}),
        st.fixed_dictionaries({"$defs": st.dictionaries(names, children, max_size=2)}),
        st.fixed_dictionaries({"properties": st.just(["not", "a", "map"]), "enum": st.lists(children, max_size=1)}),
    )


schemas = st.recursive(leaves, _nested, max_leaves=12)
scalars = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), tricky)
arguments = st.recursive(scalars, lambda inner: st.dictionaries(names, inner, max_size=3), max_leaves=8).filter(
    lambda value: isinstance(value, dict)
)


@given(tricky)
def test_a_value_survives_the_header(value: str) -> None:
    encoded = headers.encode_value(value)
    assert encoded.isascii()
    assert encoded == encoded.strip()
    assert headers.decode_value(encoded) == value


@given(tricky)
def test_values_are_written_and_read_as_the_sdk_does(value: str) -> None:
    assert headers.encode_value(value) == inbound.encode_header_value(value)
    if value.isascii():  # the SDK raises at a wrapped value beyond ASCII
        assert headers.decode_value(value) == inbound.decode_header_value(value)


@given(schemas)
def test_annotations_are_judged_as_the_sdk_does(schema: Any) -> None:
    ours, theirs = headers.annotation_fault(schema), inbound.find_invalid_x_mcp_header(schema)
    assert (ours is None) == (theirs is None), (ours, theirs)


@given(schemas.filter(lambda schema: headers.annotation_fault(schema) is None), arguments)
def test_arguments_are_rendered_as_the_sdk_does(schema: Any, values: dict[str, Any]) -> None:
    ours = headers.param_map(schema)
    assert ours == inbound.x_mcp_header_map(schema)
    rendered = headers.param_headers(ours, values)
    assert rendered == inbound.mcp_param_headers(ours, values)
    assert inbound.validate_mcp_param_headers(schema, values, rendered) is None


def test_nested_arguments_travel_in_headers() -> None:
    schema = {
        "properties": {
            "where": {"properties": {"region": {"type": "string", "x-mcp-header": "Region"}}},
            "dry": {"type": "boolean", "x-mcp-header": "Dry-Run"},
            "count": {"type": "integer", "x-mcp-header": "Count"},
            "absent": {"type": "string", "x-mcp-header": "Absent"},
        }
    }
    values = {"where": {"region": "Zürich"}, "dry": True, "count": 3, "absent": None}
    assert headers.param_headers(headers.param_map(schema), values) == {
        "Mcp-Param-Region": "=?base64?WsO8cmljaA==?=",
        "Mcp-Param-Dry-Run": "true",
        "Mcp-Param-Count": "3",
    }


@pytest.mark.parametrize(
    ("schema", "reason"),
    [
        ({"x-mcp-header": "A"}, "plain chain"),
        ({"items": {"type": "string", "x-mcp-header": "A"}}, "plain chain"),
        ({"properties": {"a": {"type": "number", "x-mcp-header": "A"}}}, "'a' is on a property whose type"),
        ({"properties": {"a": {"type": "string", "x-mcp-header": "A b"}}}, "token"),
        ({"properties": {"a": {"type": "string", "x-mcp-header": 1}}}, "not a text"),
    ],
)
def test_an_unusable_annotation_is_explained(schema: Any, reason: str) -> None:
    assert reason in str(headers.annotation_fault(schema))


def test_one_header_for_two_arguments_is_unusable() -> None:
    two = {name: {"type": "string", "x-mcp-header": token} for name, token in [("a", "Same"), ("b", "same")]}
    assert "repeats" in str(headers.annotation_fault({"properties": two}))


@pytest.mark.parametrize(
    ("method", "params", "value"),
    [
        ("tools/call", {"name": "t"}, "t"),
        ("prompts/get", {"name": "p"}, "p"),
        ("resources/read", {"uri": "x://é"}, "=?base64?eDovL8Op?="),
        ("tasks/get", {"taskId": "17"}, "17"),
        ("tools/list", {"name": "t"}, None),
        ("tools/call", None, None),
        ("tools/call", {"name": 5}, None),
    ],
)
def test_the_name_header_repeats_what_the_method_names(method: str, params: Any, value: str | None) -> None:
    assert headers.name_value(method, params) == value


def test_a_schema_may_be_nested_deeply() -> None:
    schema: dict[str, Any] = {"type": "string", "x-mcp-header": "Deep"}
    for _ in range(10_000):
        schema = {"properties": {"a": schema}}
    assert headers.annotation_fault(schema) is None
