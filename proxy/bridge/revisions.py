"""Results for downstreams of older handshake revisions: what their revision does not know is taken out or written down.

Pure; an input is never changed in place. Sources: the changelogs of 2025-03-26 (audio content, tool annotations,
completions), 2025-06-18 (structured output, resource links, titles) and 2025-11-25 (icons).
"""

from collections.abc import Callable, Mapping
from typing import Any, Final

WRAPPED: Final = "result"
"""The member under which structured output that is no object stands in one."""

_DEFINITIONS: Final = ("$defs", "definitions")

_AUDIO: Final = "2025-03-26"
_STRUCTURED: Final = "2025-06-18"
_ICONS: Final = "2025-11-25"

_NEWER_FIELDS: Final = (
    (_AUDIO, frozenset({"annotations"}), frozenset({"tools"})),
    (
        _STRUCTURED,
        frozenset({"title", "outputSchema"}),
        frozenset({"tools", "resources", "resourceTemplates", "prompts"}),
    ),
    (_ICONS, frozenset({"icons", "execution"}), frozenset({"tools", "resources", "resourceTemplates", "prompts"})),
)
"""Since which revision, which members of entries of which lists exist."""


def for_version(version: str, method: str, result: dict[str, Any]) -> dict[str, Any]:
    """The result as a handshake downstream that negotiated ``version`` may get it."""
    result = _only_objects(method, result)
    if version >= _ICONS:
        return result
    if method.endswith("/list"):
        return {key: _entries(version, key, value) for key, value in result.items()}
    if method == "tools/call":
        shaped = dict(result)
        if version < _STRUCTURED:
            shaped.pop("structuredContent", None)
        shaped["content"] = _each(result.get("content"), lambda block: _block(version, block))
        return shaped
    if method == "prompts/get":
        return {**result, "messages": _each(result.get("messages"), lambda message: _message(version, message))}
    return result


def _only_objects(method: str, result: dict[str, Any]) -> dict[str, Any]:
    """Structured output of the handshake era is an object: anything else goes into one, and its schema with it."""
    if method == "tools/list" and isinstance(tools := result.get("tools"), list):
        return {**result, "tools": [_with_object_schema(tool) for tool in tools]}
    if method == "tools/call" and not isinstance(result.get("structuredContent", {}), Mapping):
        return {**result, "structuredContent": {WRAPPED: result["structuredContent"]}}
    return result


def _with_object_schema(tool: Any) -> Any:
    schema = tool.get("outputSchema") if isinstance(tool, Mapping) else None
    if not isinstance(schema, Mapping) or schema.get("type") == "object":
        return tool
    rest = {key: value for key, value in tool.items() if key != "outputSchema"}
    definitions = {key: schema[key] for key in _DEFINITIONS if key in schema}
    inner = {key: value for key, value in schema.items() if key not in _DEFINITIONS and key != "$schema"}
    if _refers_elsewhere(schema):
        return rest  # its references would point at the wrong place in any other schema
    wrapper = {"type": "object", "properties": {WRAPPED: inner}, "required": [WRAPPED], **definitions}
    return {**rest, "outputSchema": wrapper}


def _refers_elsewhere(schema: Any) -> bool:
    if isinstance(schema, list):
        return any(_refers_elsewhere(item) for item in schema)
    if not isinstance(schema, Mapping):
        return False
    reference = schema.get("$ref", schema.get("$dynamicRef"))
    if isinstance(reference, str) and not reference.startswith(tuple(f"#/{key}/" for key in _DEFINITIONS)):
        return True
    return any(_refers_elsewhere(value) for value in schema.values())


def _entries(version: str, key: str, value: Any) -> Any:
    gone = {name for since, names, lists in _NEWER_FIELDS if version < since and key in lists for name in names}
    if not gone:
        return value
    return _each(value, lambda entry: {name: item for name, item in entry.items() if name not in gone})


def _message(version: str, message: Mapping[str, Any]) -> Mapping[str, Any]:
    return {**message, "content": _block(version, message.get("content"))}


def _block(version: str, block: Any) -> Any:
    """A content block; one of a kind that the revision does not know becomes text that says what was there."""
    kind = block.get("type") if isinstance(block, Mapping) else None
    if kind == "audio" and version < _AUDIO:
        return {"type": "text", "text": f"[audio, {block.get('mimeType', 'of unknown type')}: not supported here]"}
    if kind == "resource_link" and version < _STRUCTURED:
        name = block.get("title") or block.get("name") or "resource"
        return {"type": "text", "text": f"[{name}]({block.get('uri', '')})"}
    return block


def _each(values: Any, change: Callable[[Any], Any]) -> Any:
    return (
        [change(value) if isinstance(value, Mapping) else value for value in values]
        if isinstance(values, list)
        else values
    )
