"""The Python clients, driven by the same steps as the scripted clients (tests/e2e/peers/steps.mjs)."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any

import fastmcp
import mcp
import mcp_types
from pydantic import BaseModel

Step = Sequence[Any]
Steps = Sequence[Step]


async def sdk(
    where: str | AbstractAsyncContextManager[Any], steps: Steps, *, mode: str = "auto"
) -> tuple[str, list[dict[str, Any]]]:
    """Run steps with the client of the Python SDK; the negotiated revision, and the results as on the wire."""
    async with mcp.Client(where, mode=mode) as client:
        return client.protocol_version, [plain(await _sdk_step(client, *step)) for step in steps]


def _sdk_step(client: mcp.Client, name: str, *rest: Any) -> Awaitable[BaseModel]:
    deeds: dict[str, Callable[..., Awaitable[BaseModel]]] = {
        "list_tools": client.list_tools,
        "list_resources": client.list_resources,
        "list_templates": client.list_resource_templates,
        "list_prompts": client.list_prompts,
        "call": client.call_tool,
        "read": client.read_resource,
        "get_prompt": client.get_prompt,
        "complete": lambda ref, argument: client.complete(_reference(ref), argument),
    }
    return deeds[name](*rest)


async def fast(where: Any, steps: Steps) -> list[dict[str, Any]]:
    """The same with FastMCP's client."""
    async with fastmcp.Client(where) as client:
        return [plain(await _fast_step(client, *step)) for step in steps]


def _fast_step(client: "fastmcp.Client[Any]", name: str, *rest: Any) -> Awaitable[BaseModel]:
    deeds: dict[str, Callable[..., Awaitable[BaseModel]]] = {
        "list_tools": client.list_tools_mcp,
        "list_resources": client.list_resources_mcp,
        "list_templates": client.list_resource_templates_mcp,
        "list_prompts": client.list_prompts_mcp,
        "call": client.call_tool_mcp,
        "read": client.read_resource_mcp,
        "get_prompt": client.get_prompt_mcp,
        "complete": lambda ref, argument: client.complete_mcp(_reference(ref), argument),
    }
    return deeds[name](*rest)


def _reference(raw: dict[str, Any]) -> Any:
    kind = mcp_types.PromptReference if raw["type"] == "ref/prompt" else mcp_types.ResourceTemplateReference
    return kind.model_validate(raw)


def plain(model: BaseModel) -> dict[str, Any]:
    """A result as it stood on the wire."""
    return model.model_dump(mode="json", by_alias=True, exclude_none=True)
