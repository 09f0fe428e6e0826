"""A tool as a program sees it, and the names by which models may call it. Pure."""

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from proxy.catalog.naming import sanitise
from proxy.model import Params

MAX_FUNCTION: Final = 64
"""The longest name of a function that models take, in characters (OpenAI; Anthropic takes 128)."""

_FUNCTION: Final = re.compile(rf"[a-zA-Z0-9_-]{{1,{MAX_FUNCTION}}}")
_HASH: Final = 8


@dataclass(frozen=True)
class Tool:
    """One tool of a view."""

    name: str
    """The name by which the view shows it: local for an agent, full for the store."""
    server: str
    """The upstream that has it."""
    own_name: str
    """What that upstream calls it."""
    function: str
    """The name by which models call it: ``name``, if that has only characters that models take."""
    raw: Params = field(repr=False)
    """Its definition as MCP defines it."""

    @property
    def title(self) -> str:
        """A name for people."""
        return str(self.raw.get("title") or self.annotations.get("title") or self.name)

    @property
    def description(self) -> str:
        """What it does; empty if it does not say."""
        return str(self.raw.get("description") or "")

    @property
    def input_schema(self) -> Params:
        """The schema of its arguments."""
        schema = self.raw.get("inputSchema")
        return schema if isinstance(schema, Mapping) else {"type": "object"}

    @property
    def output_schema(self) -> Params | None:
        """The schema of its structured content, if it says so."""
        schema = self.raw.get("outputSchema")
        return schema if isinstance(schema, Mapping) else None

    @property
    def annotations(self) -> Params:
        """What it says of itself (``readOnlyHint`` and others). Not to be trusted more than its server is."""
        notes = self.raw.get("annotations")
        return notes if isinstance(notes, Mapping) else {}


@dataclass(frozen=True, slots=True)
class FunctionName:
    """What a model means by a function's name."""

    name: str
    """The tool's name in this view."""
    server: str
    tool: str
    """What the upstream calls it."""


def function_names(names: Iterable[str]) -> dict[str, str]:
    """A name for models for every name of a tool: the same one where models take it, else a near one with a hash."""
    every = tuple(names)
    safe = {name: name if _FUNCTION.fullmatch(name) else sanitise(name)[:MAX_FUNCTION] for name in every}
    taken = Counter(safe.values())
    return {
        name: near if near == name or (taken[near] == 1 and len(sanitise(name)) <= MAX_FUNCTION) else _hashed(name)
        for name, near in safe.items()
    }


def _hashed(name: str) -> str:
    tail = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:_HASH]
    return f"{sanitise(name)[: MAX_FUNCTION - _HASH - 1]}_{tail}"


def openai_tool(tool: Tool) -> dict[str, Any]:
    """A tool as OpenAI's chat completions take it in ``tools``."""
    function: dict[str, Any] = {"name": tool.function, "parameters": _object_schema(tool)}
    if tool.description:
        function["description"] = tool.description
    return {"type": "function", "function": function}


def responses_tool(tool: Tool) -> dict[str, Any]:
    """A tool as OpenAI's Responses take it in ``tools``."""
    # Strict schemas are another dialect, which few servers write: without saying so the service would rewrite them.
    made: dict[str, Any] = {
        "type": "function",
        "name": tool.function,
        "parameters": _object_schema(tool),
        "strict": False,
    }
    if tool.description:
        made["description"] = tool.description
    return made


def anthropic_tool(tool: Tool) -> dict[str, Any]:
    """A tool as Anthropic's messages take it in ``tools``."""
    made: dict[str, Any] = {"name": tool.function, "input_schema": _object_schema(tool)}
    if tool.description:
        made["description"] = tool.description
    return made


def _object_schema(tool: Tool) -> dict[str, Any]:
    # Both want an object with properties, and refuse a schema without them.
    return {"type": "object", "properties": {}, **tool.input_schema}
