"""An agent loop: a model calls tools through Manifold until it has an answer.

Works with the client libraries of OpenAI and Anthropic as they are: the loop touches their objects only as Manifold
reads them. The model is an argument, so a test runs the loop with a scripted one, offline.

    OPENAI_API_KEY=... python docs/examples/python_agent.py manifold.yaml "What is in my notes?"
"""

import asyncio
import sys
from collections.abc import Awaitable, Callable
from typing import Any

from proxy import Context, Manifold

MAX_TURNS = 10

Model = Callable[..., Awaitable[Any]]
"""``client.chat.completions.create``, ``client.responses.create`` or ``client.messages.create``, with the model's name
filled in."""


async def ask_openai(context: Context, create: Model, question: str) -> str:
    """Answer a question with OpenAI's chat completions."""
    tools = await context.openai_tools()
    messages: list[Any] = [{"role": "user", "content": question}]
    for _ in range(MAX_TURNS):
        completion = await create(messages=messages, tools=tools)
        message = completion.choices[0].message
        if not message.tool_calls:
            return message.content or ""
        messages.append(message.model_dump(exclude_none=True))
        messages += await context.answer_openai(message, max_concurrent=4, timeout=60)
    raise RuntimeError(f"no answer after {MAX_TURNS} turns")


async def ask_responses(context: Context, create: Model, question: str) -> str:
    """Answer a question with OpenAI's Responses."""
    tools = await context.responses_tools()
    items: list[Any] = [{"role": "user", "content": question}]
    for _ in range(MAX_TURNS):
        response = await create(input=items, tools=tools)
        items += [item.model_dump(exclude_none=True) for item in response.output]
        answers = await context.answer_responses(response, max_concurrent=4, timeout=60)
        if not answers:
            return str(response.output_text)
        items += answers
    raise RuntimeError(f"no answer after {MAX_TURNS} turns")


async def ask_anthropic(context: Context, create: Model, question: str) -> str:
    """Answer a question with Anthropic's messages."""
    tools = await context.anthropic_tools()
    messages: list[Any] = [{"role": "user", "content": question}]
    for _ in range(MAX_TURNS):
        message = await create(messages=messages, tools=tools, max_tokens=1024)
        if message.stop_reason != "tool_use":
            return "".join(block.text for block in message.content if block.type == "text")
        messages.append({"role": "assistant", "content": [block.model_dump() for block in message.content]})
        answers = await context.answer_anthropic(message, max_concurrent=4, timeout=60)
        messages.append({"role": "user", "content": answers})
    raise RuntimeError(f"no answer after {MAX_TURNS} turns")


async def main(config: str, question: str) -> None:
    """Ask OpenAI, with the tools of a configuration file."""
    from functools import partial  # noqa: PLC0415 - only this entry needs it

    from openai import AsyncOpenAI  # noqa: PLC0415 - the loop itself needs no client library

    async with AsyncOpenAI() as client, Manifold(config) as manifold:
        create = partial(client.chat.completions.create, model="gpt-5-mini")
        print(await ask_openai(manifold.for_store(), create, question))  # noqa: T201 - a command prints


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
