# mypy: ignore-errors
# It runs on mcp 1.x in an environment of its own, while the checker sees the mcp of this one.
"""A scripted client on the Python SDK 1.x; see steps.mjs for request and answer."""

import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
from mcp import ClientSession, McpError, StdioServerParameters
from mcp.client.sse import sse_client
from mcp.client.stdio import get_default_environment, stdio_client
from mcp.client.streamable_http import streamablehttp_client
from mcp.types import CompletionArgument, Implementation, PromptReference, ResourceTemplateReference
from pydantic import AnyUrl

LISTS = {
    "list_tools": ("list_tools", "tools"),
    "list_resources": ("list_resources", "resources"),
    "list_templates": ("list_resource_templates", "resourceTemplates"),
    "list_prompts": ("list_prompts", "prompts"),
}
REFS = {"ref/prompt": PromptReference, "ref/resource": ResourceTemplateReference}


@asynccontextmanager
async def connected(transport: dict[str, Any]) -> AsyncIterator[tuple[Any, Any]]:
    """The two streams of a transport."""
    if transport["type"] == "stdio":
        env = get_default_environment() | transport.get("env", {})
        parameters = StdioServerParameters(
            command=transport["command"], args=transport.get("args", []), env=env, cwd=transport.get("cwd")
        )
        opened = stdio_client(parameters)
    else:
        opening = {"http": streamablehttp_client, "sse": sse_client}[transport["type"]]
        opened = opening(transport["url"], headers=transport.get("headers"))
    async with opened as streams:
        yield streams[0], streams[1]


async def perform(session: ClientSession, name: str, *rest: Any) -> dict[str, Any]:
    """Run one step."""
    if name in LISTS:
        return {"ok": [plain(one) for one in await every_page(session, *LISTS[name])]}
    if name == "call":
        return await call(session, *rest)
    if name == "read":
        return {"ok": plain(await session.read_resource(AnyUrl(rest[0])))}
    if name == "get_prompt":
        return {"ok": plain(await session.get_prompt(*rest))}
    if name == "complete":
        ref = REFS[rest[0]["type"]](**rest[0])
        return {"ok": plain(await session.complete(ref, CompletionArgument(**rest[1]).model_dump()))}
    if name == "ping":
        return {"ok": plain(await session.send_ping())}
    raise ValueError(f"unknown step {name}")


async def call(session: ClientSession, name: str, arguments: dict[str, Any] | None = None) -> dict[str, Any]:
    """Call a tool and keep what it reports on the way."""
    progress = []

    async def note(done: float, total: float | None, message: str | None) -> None:
        progress.append({"progress": done, "total": total, "message": message})

    ok = await session.call_tool(name, arguments or {}, progress_callback=note)
    return {"ok": plain(ok), "progress": progress}


async def every_page(session: ClientSession, method: str, key: str) -> list[Any]:
    """The entries of all pages of a listing."""
    found: list[Any] = []
    cursor = None
    while True:
        page = await getattr(session, method)(cursor)
        found += getattr(page, key)
        cursor = page.nextCursor
        if cursor is None:
            return found


def plain(model: Any) -> Any:
    """A result as it stood on the wire."""
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)


async def main() -> None:
    """Run the request on argv and print the answer."""
    request = json.loads(sys.argv[1])
    notifications = []

    async def note(message: Any) -> None:
        if not isinstance(message, Exception) and hasattr(message, "root") and hasattr(message.root, "method"):
            notifications.append(plain(message.root))

    async with (
        connected(request["transport"]) as streams,
        ClientSession(
            *streams, message_handler=note, client_info=Implementation(name="python-mcp1", version="1.0.0")
        ) as session,
    ):
        opened = await session.initialize()
        steps = []
        for step in request["steps"]:
            try:
                steps.append(await perform(session, *step))
            except McpError as error:
                steps.append({"error": {"type": "McpError", **error.error.model_dump()}})
        answer = {
            "server": plain(opened.serverInfo),
            "protocol": opened.protocolVersion,
            "era": "handshake",
            "capabilities": plain(opened.capabilities),
            "instructions": opened.instructions,
            "steps": steps,
            "notifications": notifications,
        }
        print(json.dumps(answer))


anyio.run(main)
