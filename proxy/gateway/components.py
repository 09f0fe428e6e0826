"""FastMCP components that stand for what upstreams offer.

They serve people who mount Manifold into a FastMCP server of their own, and FastMCP's transforms. Manifold's own doors
do not go through them: the relay is faithful where these typed models cannot be (docs/decisions/0001).
"""

import base64
from collections.abc import Mapping
from typing import Any

import mcp_types
from fastmcp.exceptions import PromptError, ResourceError
from fastmcp.prompts.base import Message, Prompt, PromptArgument, PromptResult
from fastmcp.resources.base import Resource, ResourceContent, ResourceResult
from fastmcp.resources.template import ResourceTemplate
from fastmcp.tools.base import Tool, ToolResult
from pydantic import AnyUrl, PrivateAttr, TypeAdapter

from proxy.agents import rewrite
from proxy.bridge.convert import Crossing, result_for
from proxy.bridge.failed import describe, failed_call
from proxy.errors import InvalidArguments, ManifoldError, Rejected, UpstreamError
from proxy.model import Caller, Era, Params
from proxy.router import Request
from proxy.runtime import Runtime

_BLOCKS: TypeAdapter[list[mcp_types.ContentBlock]] = TypeAdapter(list[mcp_types.ContentBlock])


class Target:
    """How a component reaches its upstream."""

    def __init__(self, runtime: Runtime, agent: str | None) -> None:
        self.runtime = runtime
        self.agent = agent

    async def request(self, method: str, params: Params) -> Mapping[str, Any]:
        """Send a request through the router and return its result as the handshake era writes it.

        Raises:
            ManifoldError: as the router does.
        """
        router = self.runtime.router
        routed = await router.route(Request(method, params, Caller(agent=self.agent)))
        reply = await router.send(routed)
        result = rewrite.result(routed.view, routed.route.upstream, method, reply.result)
        return result_for(Crossing(reply.era, Era.HANDSHAKE), method, result, {})


class RelayedTool(Tool):
    """A tool of an upstream."""

    _target: Target = PrivateAttr()

    @classmethod
    def of(cls, target: Target, raw: Params) -> "RelayedTool":
        """The component for a listed definition."""
        tool = mcp_types.Tool.model_validate(raw, by_name=False)
        made = cls(
            name=tool.name,
            title=tool.title,
            description=tool.description,
            parameters=tool.input_schema,
            output_schema=_object_schema(tool.output_schema),
            annotations=tool.annotations,
            icons=tool.icons,
            meta=tool.meta,
        )
        made._target = target
        return made

    async def run(self, arguments: dict[str, Any]) -> ToolResult:
        """Call the upstream's tool. Its own error results come back as results; a failure on the way as one too."""
        try:
            result = await self._target.request("tools/call", {"name": self.name, "arguments": arguments})
        except Rejected:
            raise
        except (UpstreamError, InvalidArguments) as error:
            result = failed_call(error)
        structured = result.get("structuredContent")
        return ToolResult(
            content=_BLOCKS.validate_python(result.get("content") or [], by_name=False),
            structured_content=structured if isinstance(structured, dict) else None,
            meta=result.get("_meta"),
            is_error=result.get("isError") is True,
        )


class RelayedResource(Resource):
    """A resource of an upstream."""

    _target: Target = PrivateAttr()

    @classmethod
    def of(cls, target: Target, raw: Params) -> "RelayedResource":
        """The component for a listed definition."""
        found = mcp_types.Resource.model_validate(raw, by_name=False)
        made = cls(
            uri=AnyUrl(found.uri),
            name=found.name,
            title=found.title,
            description=found.description,
            mime_type=found.mime_type or "text/plain",
            icons=found.icons,
            annotations=found.annotations,
            meta=found.meta,
        )
        made._target = target
        return made

    async def read(self) -> ResourceResult:
        """Read it at the upstream."""
        return await _read(self._target, str(self.uri))


class RelayedTemplate(ResourceTemplate):
    """A resource template of an upstream."""

    _target: Target = PrivateAttr()

    @classmethod
    def of(cls, target: Target, raw: Params) -> "RelayedTemplate":
        """The component for a listed definition."""
        found = mcp_types.ResourceTemplate.model_validate(raw, by_name=False)
        made = cls(
            uri_template=found.uri_template,
            name=found.name,
            title=found.title,
            description=found.description,
            mime_type=found.mime_type or "text/plain",
            icons=found.icons,
            annotations=found.annotations,
            meta=found.meta,
            parameters={},
        )
        made._target = target
        return made

    async def create_resource(self, uri: str, params: dict[str, Any]) -> Resource:
        """The resource behind a URI that fits the template; the URI itself goes to the upstream."""
        del params
        return RelayedResource.of(self._target, {"uri": uri, "name": self.name, "mimeType": self.mime_type})


class RelayedPrompt(Prompt):
    """A prompt of an upstream."""

    _target: Target = PrivateAttr()

    @classmethod
    def of(cls, target: Target, raw: Params) -> "RelayedPrompt":
        """The component for a listed definition."""
        found = mcp_types.Prompt.model_validate(raw, by_name=False)
        made = cls(
            name=found.name,
            title=found.title,
            description=found.description,
            arguments=[
                PromptArgument(name=one.name, description=one.description, required=bool(one.required))
                for one in found.arguments or ()
            ],
            icons=found.icons,
            meta=found.meta,
        )
        made._target = target
        return made

    async def render(self, arguments: dict[str, Any] | None = None) -> PromptResult:
        """Get it from the upstream."""
        try:
            result = await self._target.request("prompts/get", {"name": self.name, "arguments": arguments or {}})
        except ManifoldError as error:
            raise PromptError(describe(error)) from error
        return PromptResult(
            messages=[_message(one) for one in result.get("messages") or ()],
            description=result.get("description"),
            meta=result.get("_meta"),
        )


def _message(raw: Params) -> Message:
    message = mcp_types.PromptMessage.model_validate(raw, by_name=False)
    return Message(message.content, role=message.role)


async def _read(target: Target, uri: str) -> ResourceResult:
    try:
        result = await target.request("resources/read", {"uri": uri})
    except ManifoldError as error:
        raise ResourceError(describe(error)) from error
    contents = [
        ResourceContent(
            content=one["text"] if "text" in one else base64.b64decode(one.get("blob", "")),
            mime_type=one.get("mimeType"),
            meta=one.get("_meta"),
        )
        for one in result.get("contents") or ()
    ]
    return ResourceResult(contents=contents, meta=result.get("_meta"))


def _object_schema(schema: Any) -> dict[str, Any] | None:
    """FastMCP knows only output schemas of objects; any other is left out, and the text remains."""
    return schema if isinstance(schema, dict) and schema.get("type") == "object" else None


__all__ = ["RelayedPrompt", "RelayedResource", "RelayedTemplate", "RelayedTool", "Target"]
