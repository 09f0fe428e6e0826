"""Results as models take them back: ``role: tool`` messages, ``tool_result`` blocks, or text for a prompt. Pure."""

import json
from collections.abc import Iterable
from typing import Any, Final, Literal

from proxy.store.calls import shown
from proxy.store.result import ToolResult

ContextFormat = Literal["markdown", "json", "plain"]

NOTHING: Final = "(no output)"
"""What a model reads where a tool said nothing: an empty answer is refused by some services."""

_IMAGES: Final = frozenset({"image/jpeg", "image/png", "image/gif", "image/webp"})
"""The kinds of images that the services take."""


def openai_message(result: ToolResult) -> dict[str, Any]:
    """A result as a message of OpenAI's chat completions."""
    return {"role": "tool", "tool_call_id": result.id, "content": said(result)}


def responses_item(result: ToolResult) -> dict[str, Any]:
    """A result as an input item of OpenAI's Responses."""
    blocks = result.content
    pictured = any(_is_image(block) for block in blocks)
    output = [_responses(block) for block in blocks] if pictured else said(result)
    return {"type": "function_call_output", "call_id": result.id, "output": output}


def _responses(block: dict[str, Any]) -> dict[str, Any]:
    if _is_image(block):
        return {"type": "input_image", "image_url": f"data:{block['mimeType']};base64,{block.get('data', '')}"}
    return {"type": "input_text", "text": _words(block) or NOTHING}


def _is_image(block: dict[str, Any]) -> bool:
    return block.get("type") == "image" and block.get("mimeType") in _IMAGES


def anthropic_block(result: ToolResult) -> dict[str, Any]:
    """A result as a content block of a user's message of Anthropic's messages."""
    block: dict[str, Any] = {
        "type": "tool_result",
        "tool_use_id": result.id,
        "content": [_anthropic(one) for one in result.content] or said(result),
    }
    if result.is_error:
        block["is_error"] = True
    return block


def _anthropic(block: dict[str, Any]) -> dict[str, Any]:
    if _is_image(block):
        source = {"type": "base64", "media_type": block["mimeType"], "data": block.get("data", "")}
        return {"type": "image", "source": source}
    return {"type": "text", "text": _words(block) or NOTHING}


def said(result: ToolResult) -> str:
    """Everything that a result holds, as one text; what is no text is named, never left out silently."""
    words = [text for block in result.content if (text := _words(block))]
    if not words and result.structured is not None:
        words = [shown(result.structured)]
    return "\n".join(words) or NOTHING


def _words(block: dict[str, Any]) -> str:
    match block:
        case {"type": "text", "text": str(text)}:
            return text
        case {"type": "resource", "resource": {"text": str(text)}}:
            return text
        case {"type": "resource", "resource": {"uri": uri, **rest}}:
            return f"[resource {uri}, {rest.get('mimeType', 'unknown type')}]"
        case {"type": "resource_link", "uri": uri}:
            return f"[resource {uri}: {block.get('name', '')}]"
        case {"type": ("image" | "audio") as kind}:
            return f"[{kind}, {block.get('mimeType', 'unknown type')}]"
    return f"[{block.get('type', 'unknown content')}]"


def build_tool_context(results: Iterable[ToolResult], format: ContextFormat = "markdown") -> str:  # noqa: A002 - a caller writes format="json"; any other word would be a worse one
    """Results as one text to put into a prompt, in their order.

    Args:
        results: the results.
        format: ``markdown`` with a heading for each, ``json`` as a list of objects, or ``plain`` lines.

    Raises:
        ValueError: there is no such format.
    """
    made = list(results)
    if format == "markdown":
        return "\n\n".join(f"## {one.tool}{' (failed)' if one.is_error else ''}\n\n{said(one)}" for one in made)
    if format == "json":
        return json.dumps([_as_json(one) for one in made], ensure_ascii=False, indent=2, default=str)
    if format == "plain":
        return "\n".join(f"{one.tool}{' (failed)' if one.is_error else ''}: {said(one)}" for one in made)
    raise ValueError(f"format must be markdown, json or plain, not {format!r}")


def _as_json(result: ToolResult) -> dict[str, Any]:
    known = {"id": result.id} if result.id else {}
    data = result.structured if result.structured is not None else said(result)
    return {**known, "tool": result.tool, "is_error": result.is_error, "result": data}
