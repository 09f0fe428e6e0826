"""The message shapes of OpenAI and Anthropic, checked against the types of their own client libraries."""

import json
from typing import Any

import pytest
from anthropic.types import ImageBlockParam, Message, TextBlockParam, ToolParam, ToolResultBlockParam
from hypothesis import given
from hypothesis import strategies as st
from openai.types.chat import ChatCompletion, ChatCompletionToolMessageParam, ChatCompletionToolParam
from openai.types.responses import (
    FunctionToolParam,
    Response,
    ResponseInputImageContentParam,
    ResponseInputTextContentParam,
)
from openai.types.responses.response_input_item_param import FunctionCallOutput
from pydantic import TypeAdapter

from proxy.errors import InvalidArguments
from proxy.store.calls import ToolCall, tool_call, tool_calls
from proxy.store.formats import NOTHING, anthropic_block, build_tool_context, openai_message, responses_item
from proxy.store.result import ToolResult
from proxy.store.tool import MAX_FUNCTION, Tool, anthropic_tool, function_names, openai_tool, responses_tool

SCHEMA = {"type": "object", "properties": {"q": {"type": "string"}}, "required": ["q"]}
TOOL = Tool("find.it", "web", "find.it", "find_it", {"name": "find.it", "description": "Finds.", "inputSchema": SCHEMA})
BARE = Tool("ping", "web", "ping", "ping", {"name": "ping", "inputSchema": {"type": "object"}})
IMAGE = {"type": "image", "data": "cGl4ZWw=", "mimeType": "image/png"}


def text(words: str) -> dict[str, Any]:
    return {"type": "text", "text": words}


COMPLETION = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1,
    "model": "gpt",
    "choices": [
        {
            "index": 0,
            "finish_reason": "tool_calls",
            "message": {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {"id": "c1", "type": "function", "function": {"name": "find_it", "arguments": '{"q": "x"}'}},
                    {"id": "c2", "type": "function", "function": {"name": "ping", "arguments": ""}},
                ],
            },
        }
    ],
}
MESSAGE = {
    "id": "msg_1",
    "type": "message",
    "role": "assistant",
    "model": "claude",
    "stop_reason": "tool_use",
    "stop_sequence": None,
    "usage": {"input_tokens": 1, "output_tokens": 1},
    "content": [
        {"type": "text", "text": "Let me look."},
        {"type": "tool_use", "id": "t1", "name": "find_it", "input": {"q": "x"}},
    ],
}
RESPONSE = {
    "id": "resp_1",
    "object": "response",
    "created_at": 1,
    "model": "gpt",
    "parallel_tool_calls": True,
    "tool_choice": "auto",
    "tools": [],
    "output": [
        {
            "type": "message",
            "id": "m1",
            "role": "assistant",
            "status": "completed",
            "content": [{"type": "output_text", "text": "Let me look.", "annotations": []}],
        },
        {"type": "function_call", "id": "f1", "call_id": "c1", "name": "find_it", "arguments": '{"q": "x"}'},
        {"type": "function_call", "id": "f2", "call_id": "c2", "name": "ping", "arguments": "{}"},
    ],
}


def test_tools_are_what_openais_responses_take() -> None:
    made = responses_tool(TOOL)
    assert TypeAdapter(FunctionToolParam).validate_python(made) == made
    about = {"type": "function", "name": "find_it", "description": "Finds."}
    assert made == {**about, "parameters": SCHEMA, "strict": False}
    assert responses_tool(BARE)["parameters"] == {"type": "object", "properties": {}}


@pytest.mark.parametrize("typed", [True, False])
def test_function_calls_are_read_from_an_openai_response(*, typed: bool) -> None:
    whole: Any = Response.model_validate(RESPONSE) if typed else RESPONSE
    output = whole.output if typed else whole["output"]
    expected = [ToolCall("find_it", '{"q": "x"}', "c1"), ToolCall("ping", "{}", "c2")]
    assert tool_calls(whole) == tool_calls(output) == expected
    assert tool_call(output[1]) == expected[0]


def test_results_are_what_openais_responses_take() -> None:
    made = responses_item(ToolResult("find", {"content": [text("found")], "isError": True}, "c1"))
    assert TypeAdapter(FunctionCallOutput).validate_python(made) == made
    assert made == {"type": "function_call_output", "call_id": "c1", "output": "found"}
    pictured = responses_item(ToolResult("find", {"content": [text("found"), IMAGE]}, "c1"))["output"]
    for block, kind in zip(pictured, (ResponseInputTextContentParam, ResponseInputImageContentParam), strict=True):
        assert TypeAdapter(kind).validate_python(block) == block
    assert pictured[1]["image_url"] == "data:image/png;base64,cGl4ZWw="


def test_tools_are_what_openai_takes() -> None:
    made = openai_tool(TOOL)
    assert TypeAdapter(ChatCompletionToolParam).validate_python(made) == made
    assert made["function"] == {"name": "find_it", "description": "Finds.", "parameters": SCHEMA}
    assert openai_tool(BARE)["function"]["parameters"] == {"type": "object", "properties": {}}


def test_tools_are_what_anthropic_takes() -> None:
    made = anthropic_tool(TOOL)
    assert TypeAdapter(ToolParam).validate_python(made) == made
    assert made == {"name": "find_it", "description": "Finds.", "input_schema": SCHEMA}


@pytest.mark.parametrize("typed", [True, False])
def test_tool_calls_are_read_from_an_openai_completion(*, typed: bool) -> None:
    whole: Any = ChatCompletion.model_validate(COMPLETION) if typed else COMPLETION
    message = whole.choices[0].message if typed else whole["choices"][0]["message"]
    calls = message.tool_calls if typed else message["tool_calls"]
    expected = [ToolCall("find_it", '{"q": "x"}', "c1"), ToolCall("ping", "", "c2")]
    assert tool_calls(whole) == tool_calls(message) == tool_calls(calls) == expected


@pytest.mark.parametrize("typed", [True, False])
def test_tool_calls_are_read_from_an_anthropic_message(*, typed: bool) -> None:
    whole: Any = Message.model_validate(MESSAGE) if typed else MESSAGE
    content = whole.content if typed else whole["content"]
    assert tool_calls(whole) == tool_calls(content) == [ToolCall("find_it", {"q": "x"}, "t1")]


def test_a_message_without_tool_calls_has_none() -> None:
    assert tool_calls({"role": "assistant", "content": "Hello."}) == []
    assert tool_calls("Hello.") == []
    assert tool_calls(None) == []


@pytest.mark.parametrize(
    ("given_form", "expected"),
    [
        (ToolCall("a", {"x": 1}, "7"), ToolCall("a", {"x": 1}, "7")),
        ("a", ToolCall("a")),
        (("a", {"x": 1}), ToolCall("a", {"x": 1})),
        ({"name": "a", "arguments": {"x": 1}, "id": "7"}, ToolCall("a", {"x": 1}, "7")),
        ({"name": "a", "input": {"x": 1}}, ToolCall("a", {"x": 1})),
    ],
)
def test_a_call_may_be_written_in_many_forms(given_form: Any, expected: ToolCall) -> None:
    assert tool_call(given_form) == expected


@pytest.mark.parametrize("wrong", [7, {}, {"name": 7}, {"function": {}}, ("a",), {"function": "x"}])
def test_what_is_no_call_is_refused(wrong: Any) -> None:
    with pytest.raises(InvalidArguments, match="no tool call"):
        tool_call(wrong)


def test_results_are_what_openai_takes() -> None:
    made = openai_message(ToolResult("find", {"content": [text("found"), IMAGE]}, "c1"))
    assert TypeAdapter(ChatCompletionToolMessageParam).validate_python(made) == made
    assert made == {"role": "tool", "tool_call_id": "c1", "content": "found\n[image, image/png]"}


def test_results_are_what_anthropic_takes() -> None:
    made = anthropic_block(ToolResult("find", {"content": [text("found"), IMAGE], "isError": True}, "t1"))
    # Block by block: the whole type refers to itself in a way that makes pydantic-core panic.
    for block, kind in zip(made["content"], (TextBlockParam, ImageBlockParam), strict=True):
        assert TypeAdapter(kind).validate_python(block) == block
    assert set(made) <= ToolResultBlockParam.__annotations__.keys()
    assert made["tool_use_id"] == "t1"
    assert made["is_error"] is True
    source = {"type": "base64", "media_type": "image/png", "data": "cGl4ZWw="}
    assert made["content"] == [{"type": "text", "text": "found"}, {"type": "image", "source": source}]


@pytest.mark.parametrize("raw", [{"content": []}, {}])
def test_a_tool_that_says_nothing_gives_a_model_something_to_read(raw: dict[str, Any]) -> None:
    assert openai_message(ToolResult("find", raw, "c1"))["content"] == NOTHING
    assert anthropic_block(ToolResult("find", raw, "c1"))["content"] == NOTHING
    assert responses_item(ToolResult("find", raw, "c1"))["output"] == NOTHING


def test_structured_content_without_text_is_shown() -> None:
    assert openai_message(ToolResult("find", {"structuredContent": {"a": 1}}))["content"] == '{"a": 1}'


RESULTS = [
    ToolResult("find", {"content": [text("found")], "structuredContent": {"n": 1}}, "c1"),
    ToolResult("ping", {"content": [text("no answer")], "isError": True}),
]


def test_results_become_context() -> None:
    assert build_tool_context(RESULTS) == "## find\n\nfound\n\n## ping (failed)\n\nno answer"
    assert build_tool_context(RESULTS, format="plain") == "find: found\nping (failed): no answer"
    assert json.loads(build_tool_context(RESULTS, format="json")) == [
        {"id": "c1", "tool": "find", "is_error": False, "result": {"n": 1}},
        {"tool": "ping", "is_error": True, "result": "no answer"},
    ]
    with pytest.raises(ValueError, match="markdown, json or plain"):
        build_tool_context(RESULTS, format="xml")  # type: ignore[arg-type]


@given(st.sets(st.text(alphabet="ab._-/ é9", min_size=1, max_size=90), max_size=12))
def test_names_of_functions_are_what_models_take_and_differ(names: set[str]) -> None:
    made = function_names(sorted(names))
    assert set(made) == names
    assert len(set(made.values())) == len(names)
    for name, function in made.items():
        assert 1 <= len(function) <= MAX_FUNCTION
        assert function.replace("_", "").replace("-", "").isascii()
        assert all(letter.isalnum() or letter in "_-" for letter in function)
        if name.isascii() and len(name) <= MAX_FUNCTION and all(one.isalnum() or one in "_-" for one in name):
            assert function == name
