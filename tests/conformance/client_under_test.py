"""What the suite's ``client`` mode starts: Manifold, with the scenario's server as its upstream, and somebody who asks.

Everything that the server offers is used through Manifold: every tool called, every resource read, every prompt got.

    client_under_test.py URL
"""

import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import anyio

from tests.conformance.scripts import FULL
from tests.conformance.stage import configured, manifold_command
from tests.conformance.wire import HANDSHAKE, MODERN, Client, Json, over_stdio

VALUES = {"string": "x", "number": 5, "integer": 5, "boolean": True, "object": {}, "array": []}


def answer(method: str, params: Json | None) -> Json:
    """What a person answers who leaves everything as it was proposed."""
    if method == "roots/list":
        return {"roots": []}
    if method == "sampling/createMessage":
        return {"role": "assistant", "model": "m", "content": {"type": "text", "text": "yes"}}
    properties = ((params or {}).get("requestedSchema") or {}).get("properties") or {}
    content = {name: schema.get("default", _filled(schema)) for name, schema in properties.items()}
    return {"action": "accept", "content": content}


def _filled(schema: Json) -> Any:
    return schema["enum"][0] if schema.get("enum") else VALUES.get(schema.get("type", ""), "x")


def arguments_for(tool: Json, tools: list[Json]) -> Json:
    """Something for every argument; where a schema is asked for, the one of another tool as it arrived here."""
    schema = tool["inputSchema"]
    filled = {name: _filled(one) for name, one in (schema.get("properties") or {}).items() if isinstance(one, dict)}
    if filled.keys() == {"schema"}:
        filled["schema"] = next(one["inputSchema"] for one in tools if one is not tool)
    return filled


async def use(client: Client, context: Json) -> None:
    """Use everything there is."""
    tools: list[Json] = (await client.send("tools/list")).result["tools"]
    calls = context.get("toolCalls") or [
        {"name": tool["name"], "arguments": arguments_for(tool, tools)} for tool in tools
    ]
    async with anyio.create_task_group() as tasks:
        for call in calls:
            tasks.start_soon(_call, client, call)
    for resource in (await client.send("resources/list")).result["resources"]:
        await client.call("resources/read", {"uri": resource["uri"]}, answer=answer)
    for prompt in (await client.send("prompts/list")).result["prompts"]:
        wanted = {argument["name"]: "x" for argument in prompt.get("arguments") or ()}
        await client.call("prompts/get", {"name": prompt["name"], "arguments": wanted}, answer=answer)


async def _call(client: Client, call: Json) -> None:
    exchange = await client.call("tools/call", {"name": call["name"], "arguments": call["arguments"]}, answer=answer)
    print(json.dumps({"call": call["name"], **exchange.answer}))


async def main(url: str) -> None:
    """Serve the URL through Manifold, and use it."""
    version = MODERN if os.environ.get("MCP_CONFORMANCE_PROTOCOL_VERSION") == MODERN else HANDSHAKE
    context = json.loads(os.environ.get("MCP_CONFORMANCE_CONTEXT") or "{}")
    with tempfile.TemporaryDirectory() as folder:
        config = configured(Path(folder), {"server": {"url": url}})
        env = {"XDG_STATE_HOME": folder}
        async with over_stdio(manifold_command(config, "--stdio"), version=version, capabilities=FULL, env=env) as one:
            await use(one, context)


if __name__ == "__main__":  # pytest takes the name for that of a test
    anyio.run(main, sys.argv[1])
