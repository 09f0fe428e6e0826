"""Tool calls as models and programs write them. Pure."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from proxy.errors import ArgumentProblem, InvalidArguments

_PAIR: Final = 2
_CALLS: Final = ("function", "tool_use", "function_call")
"""What OpenAI's completions, Anthropic's messages and OpenAI's responses call a tool call."""
_SHAPES: Final = "a ToolCall, a name, (name, arguments), a mapping with a name, or a model's tool call"


@dataclass(frozen=True, slots=True)
class ToolCall:
    """One call: its id (empty if it has none), a tool's name, and arguments in any form that ``call_tool`` takes."""

    name: str
    arguments: Any = None
    id: str = ""


def tool_call(given: Any) -> ToolCall:
    """One call out of any of the forms in which it may come.

    Args:
        given: a ``ToolCall``; a name; a pair of name and arguments; a mapping with ``name`` and perhaps ``arguments``
            (or ``input``) and ``id``; an OpenAI tool call or ``function_call`` item; an Anthropic ``tool_use`` block;
            as mappings or as objects of their client libraries.

    Raises:
        InvalidArguments: it is none of these.
    """
    if isinstance(given, ToolCall):
        return given
    if isinstance(given, str):
        return ToolCall(given)
    if isinstance(given, tuple) and len(given) == _PAIR and isinstance(given[0], str):
        return ToolCall(given[0], given[1])
    call = _plain(given)
    function = call.get("function", call)
    name = function.get("name") if isinstance(function, Mapping) else None
    if not isinstance(name, str) or not name:
        problem = ArgumentProblem("name", _SHAPES, f"a {type(given).__name__} without a name")
        raise InvalidArguments(f"This is no tool call: {problem}", problems=[problem])
    arguments = function.get("arguments", function.get("input"))
    return ToolCall(name, arguments, str(call.get("call_id") or call.get("id") or ""))


def tool_calls(message: Any) -> list[ToolCall]:
    """All tool calls in what a model sent.

    Args:
        message: an OpenAI chat completion, one of its messages, or its list of tool calls; an OpenAI response, or its
            output; an Anthropic message, or its content; as mappings or as objects of their client libraries.

    Raises:
        InvalidArguments: something in the place of a tool call is none.
    """
    if message is None or isinstance(message, str):
        return []
    return [tool_call(one) for one in _listed(message)]


def _listed(message: Any) -> Iterable[Any]:
    if isinstance(message, Sequence):
        return [one for one in message if _kind(one) in (None, *_CALLS)]
    whole = _plain(message)
    choices = whole.get("choices")
    if isinstance(choices, list) and choices:
        whole = _plain(_plain(choices[0]).get("message"))
    if whole.get("tool_calls"):
        return list(whole["tool_calls"])
    parts = whole.get("output", whole.get("content"))
    return [one for one in parts if _kind(one) in _CALLS] if isinstance(parts, list) else []


def _kind(block: Any) -> Any:
    return block.get("type") if isinstance(block, Mapping) else getattr(block, "type", None)


def _plain(given: Any) -> Mapping[str, Any]:
    if isinstance(given, Mapping):
        return given
    dump = getattr(given, "model_dump", None)
    dumped = dump() if callable(dump) else None
    return dumped if isinstance(dumped, Mapping) else {}


def shown(value: Any) -> str:
    """A JSON value as a text for people and models."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)
