"""The agent loop of the documentation, offline: a scripted model that speaks the client libraries' own types.

The libraries' real clients are used; only their transport is ours, so what they would send is checked as they send it.
"""

import json
from contextlib import AsyncExitStack
from functools import partial
from typing import Any

import anthropic
import openai
from pydantic import TypeAdapter

from docs.examples.python_agent import ask_anthropic, ask_openai, ask_responses
from proxy import Manifold
from tests.support.link_http import Request, Response, serve
from tests.support.store_peer import Peer, serving

QUESTION = "What is 6 * 7?"


class ScriptedModel:
    """The HTTP API of a model: answers with the next turn, remembers what it was sent."""

    def __init__(self, *turns: dict[str, Any]) -> None:
        self.turns = list(turns)
        self.bodies: list[dict[str, Any]] = []

    async def handle(self, request: Request, response: Response) -> None:
        self.bodies.append(request.message)
        response.json(self.turns[len(self.bodies) - 1])


def completion(reason: str, **message: Any) -> dict[str, Any]:
    choice = {"index": 0, "finish_reason": reason, "message": {"role": "assistant", "content": None, **message}}
    return {"id": "1", "object": "chat.completion", "created": 1, "model": "scripted", "choices": [choice]}


def answer(reason: str, *content: dict[str, Any]) -> dict[str, Any]:
    usage = {"input_tokens": 1, "output_tokens": 1}
    about = {"id": "1", "type": "message", "role": "assistant", "model": "scripted", "stop_sequence": None}
    return {**about, "stop_reason": reason, "content": list(content), "usage": usage}


def peer() -> Peer:
    return Peer("calc").define("times").define("plus")


async def test_the_loop_runs_with_openais_client() -> None:
    calls = [
        {"id": "c1", "type": "function", "function": {"name": "mcp_calc_times", "arguments": '{"a": 6, "b": 7}'}},
        {"id": "c2", "type": "function", "function": {"name": "mcp_calc_nothing", "arguments": "{}"}},
    ]
    model = ScriptedModel(completion("tool_calls", tool_calls=calls), completion("stop", content="It is 42."))
    async with AsyncExitStack() as stack:
        (calc,) = await stack.enter_async_context(serving(peer()))
        site = await stack.enter_async_context(serve(model.handle))
        manifold = await stack.enter_async_context(Manifold({"mcpServers": {"calc": calc.entry()}}))
        client = await stack.enter_async_context(openai.AsyncOpenAI(api_key="x", base_url=site.url, max_retries=0))
        create = partial(client.chat.completions.create, model="scripted")
        assert await ask_openai(manifold.for_store(), create, QUESTION) == "It is 42."
    first, second = model.bodies
    assert [tool["function"]["name"] for tool in first["tools"]] == ["mcp_calc_times", "mcp_calc_plus"]
    sent = second["messages"]
    assert [message["role"] for message in sent] == ["user", "assistant", "tool", "tool"]
    typed: Any = TypeAdapter(openai.types.chat.ChatCompletionToolMessageParam)
    good, bad = (typed.validate_python(message) for message in sent[2:])
    assert json.loads(good["content"])["arguments"] == {"a": 6, "b": 7}
    assert (good["tool_call_id"], bad["tool_call_id"]) == ("c1", "c2")
    assert "Unknown tool" in bad["content"]


def response(*output: dict[str, Any]) -> dict[str, Any]:
    about = {"id": "r1", "object": "response", "created_at": 1, "model": "scripted", "tool_choice": "auto"}
    return {**about, "parallel_tool_calls": True, "tools": [], "output": list(output)}


async def test_the_loop_runs_with_openais_responses() -> None:
    call = {"type": "function_call", "id": "f1", "call_id": "c1", "name": "mcp_calc_times", "arguments": '{"a": 6}'}
    words = {"type": "output_text", "text": "It is 42.", "annotations": []}
    said = {"type": "message", "id": "m1", "role": "assistant", "status": "completed", "content": [words]}
    model = ScriptedModel(response(call), response(said))
    async with AsyncExitStack() as stack:
        (calc,) = await stack.enter_async_context(serving(peer()))
        site = await stack.enter_async_context(serve(model.handle))
        manifold = await stack.enter_async_context(Manifold({"mcpServers": {"calc": calc.entry()}}))
        client = await stack.enter_async_context(openai.AsyncOpenAI(api_key="x", base_url=site.url, max_retries=0))
        create = partial(client.responses.create, model="scripted")
        assert await ask_responses(manifold.for_store(), create, QUESTION) == "It is 42."
    first, second = model.bodies
    typed: Any = TypeAdapter(openai.types.responses.FunctionToolParam)
    assert [typed.validate_python(tool)["name"] for tool in first["tools"]] == ["mcp_calc_times", "mcp_calc_plus"]
    question, asked, answered = second["input"]
    assert (question["role"], asked["type"], asked["call_id"]) == ("user", "function_call", "c1")
    assert (answered["type"], answered["call_id"]) == ("function_call_output", "c1")
    assert json.loads(answered["output"])["arguments"] == {"a": 6}


async def test_the_loop_runs_with_anthropics_client() -> None:
    uses = {"type": "tool_use", "id": "t1", "name": "mcp_calc_times", "input": {"a": 6, "b": 7}}
    words = {"type": "text", "text": "Let me see."}
    model = ScriptedModel(answer("tool_use", words, uses), answer("end_turn", {"type": "text", "text": "It is 42."}))
    async with AsyncExitStack() as stack:
        (calc,) = await stack.enter_async_context(serving(peer()))
        site = await stack.enter_async_context(serve(model.handle))
        manifold = await stack.enter_async_context(Manifold({"mcpServers": {"calc": calc.entry()}}))
        client = await stack.enter_async_context(
            anthropic.AsyncAnthropic(api_key="x", base_url=site.url, max_retries=0)
        )
        create = partial(client.messages.create, model="scripted")
        assert await ask_anthropic(manifold.for_store(), create, QUESTION) == "It is 42."
    first, second = model.bodies
    typed: Any = TypeAdapter(anthropic.types.ToolParam)
    assert [typed.validate_python(tool)["name"] for tool in first["tools"]] == ["mcp_calc_times", "mcp_calc_plus"]
    results = second["messages"][-1]["content"]
    assert [(one["type"], one["tool_use_id"]) for one in results] == [("tool_result", "t1")]
    assert json.loads(results[0]["content"][0]["text"])["arguments"] == {"a": 6, "b": 7}
