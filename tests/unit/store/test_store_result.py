"""Taking results apart."""

import base64
from typing import Any

import pytest

from proxy.errors import Lost, ToolFailed
from proxy.store.result import Image, ToolResult

PIXEL = base64.b64encode(b"pixel").decode()


def result(**members: Any) -> ToolResult:
    return ToolResult("tool", members)


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


def test_texts_come_in_order_with_those_of_resources() -> None:
    made = result(content=[text("a"), {"type": "resource", "resource": {"uri": "x:y", "text": "b"}}, text("c")])
    assert made.text == "a\nb\nc"


def test_data_is_structured_content_before_json_before_text() -> None:
    assert result(content=[text('{"a": 2}')], structuredContent={"a": 1}).data == {"a": 1}
    assert result(content=[text('{"a": 2}')]).data == {"a": 2}
    assert result(content=[text("words")]).data == "words"
    assert result(content=[]).data is None


def test_a_value_that_fastmcp_wrapped_is_unwrapped_and_no_other() -> None:
    wrapped = result(structuredContent={"result": [1]}, _meta={"fastmcp": {"wrap_result": True}})
    assert wrapped.data == [1]
    assert wrapped.structured == {"result": [1]}
    assert result(structuredContent={"result": [1]}).data == {"result": [1]}


def test_images_are_decoded_and_broken_ones_left_out() -> None:
    good = {"type": "image", "data": PIXEL, "mimeType": "image/png"}
    made = result(content=[good, {"type": "image", "data": "%%%", "mimeType": "image/png"}])
    assert made.images == [Image(b"pixel", "image/png")]


@pytest.mark.parametrize(
    ("part", "expected"),
    [
        ("text", "words"),
        ("structured", {"a": 1}),
        ("data", {"a": 1}),
        ("images", []),
        ("content", [text("words")]),
        ("auto", {"a": 1}),
    ],
)
def test_extract_takes_out_what_is_asked_for(part: Any, expected: Any) -> None:
    assert result(content=[text("words")], structuredContent={"a": 1}).extract(part) == expected


def test_extract_finds_images_where_there_is_nothing_else() -> None:
    image = {"type": "image", "data": PIXEL, "mimeType": "image/png"}
    assert result(content=[image]).extract() == [Image(b"pixel", "image/png")]
    assert result(content=[]).extract() == ""


def test_a_failure_is_false_and_becomes_an_exception_on_request() -> None:
    failed = result(content=[text("no such note")], isError=True)
    assert not failed
    with pytest.raises(ToolFailed, match="no such note"):
        failed.raise_for_error()
    lost = ToolResult("tool", {"isError": True}, error=Lost("gone", upstream="a"))
    with pytest.raises(Lost):
        lost.raise_for_error()
    fine = result(content=[])
    assert fine
    assert fine.raise_for_error() is fine


@pytest.mark.parametrize("raw", [{}, {"content": None}, {"content": "x"}, {"content": [7, {"type": "odd"}]}])
def test_odd_results_are_no_exceptions(raw: dict[str, Any]) -> None:
    made = ToolResult("tool", raw)
    assert (made.text, made.images, made.data) == ("", [], None)
