"""What a tool call came to, and how to take it apart. Pure."""

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Literal

from proxy.errors import ArgumentProblem, ManifoldError, ToolFailed

Part = Literal["auto", "text", "data", "structured", "images", "content"]
"""What ``extract`` can take out of a result."""


@dataclass(frozen=True, slots=True)
class Image:
    """An image in a result."""

    data: bytes
    mime_type: str


@dataclass(frozen=True)
class ToolResult:
    """The result of one tool call. False if the call failed, whoever's fault it is."""

    tool: str
    """The name by which the tool was called."""
    raw: Mapping[str, Any]
    """The whole result, as MCP defines it."""
    id: str = ""
    """The id of the call in a batch or in a model's message; empty for a single call."""
    error: ManifoldError | None = None
    """Why the tool did not answer, where the caller wanted a result rather than an exception."""
    warnings: Sequence[ArgumentProblem] = field(default=())
    """What ``validate="warn"`` found."""

    def __bool__(self) -> bool:
        return not self.is_error

    @property
    def is_error(self) -> bool:
        """Whether the call failed: in the tool, or on the way to it (then ``error`` says how)."""
        return self.raw.get("isError") is True

    @property
    def content(self) -> list[dict[str, Any]]:
        """The content blocks, as they came."""
        content = self.raw.get("content")
        return [block for block in content if isinstance(block, dict)] if isinstance(content, list) else []

    @cached_property
    def text(self) -> str:
        """All texts, those of embedded resources included, one per line."""
        return "\n".join(text for block in self.content if (text := _text(block)) is not None)

    @property
    def structured(self) -> Any:
        """The structured content, as it came; None if there is none."""
        return self.raw.get("structuredContent")

    @cached_property
    def data(self) -> Any:
        """The result as a value: its structured content, else the JSON in its text, else its text, else None.

        A value that a server wrapped into an object only because structured content must be one is unwrapped.
        """
        structured = self.structured
        if structured is not None:
            return structured["result"] if _is_wrapped(self.raw, structured) else structured
        try:
            return json.loads(self.text)
        except ValueError:
            return self.text or None

    @cached_property
    def images(self) -> list[Image]:
        """All images; one that is not base64 is left out."""
        blocks = (block for block in self.content if block.get("type") == "image")
        return [image for block in blocks if (image := _image(block)) is not None]

    def extract(self, part: Part = "auto") -> Any:
        """Take one part out.

        Args:
            part: ``text``, ``data``, ``structured``, ``images`` or ``content``; ``auto`` is the data if there is any,
                else the images, else an empty text.
        """
        if part == "auto":
            return self.data if self.data is not None else self.images or ""
        return getattr(self, part)

    def raise_for_error(self) -> "ToolResult":
        """Return the result itself if the call went well.

        Raises:
            ManifoldError: the ``error``; or ToolFailed if the tool itself said that it failed.
        """
        if self.error is not None:
            raise self.error
        if self.is_error:
            raise ToolFailed(self.text or f"The tool {self.tool!r} failed and did not say why.")
        return self


def _is_wrapped(raw: Mapping[str, Any], structured: Any) -> bool:
    meta = raw.get("_meta")
    notes = meta.get("fastmcp") if isinstance(meta, Mapping) else None
    marked = isinstance(notes, Mapping) and notes.get("wrap_result") is True
    return marked and isinstance(structured, dict) and list(structured) == ["result"]


def _text(block: Mapping[str, Any]) -> str | None:
    resource = block.get("resource")
    text = resource.get("text") if isinstance(resource, Mapping) else block.get("text")
    return text if isinstance(text, str) else None


def _image(block: Mapping[str, Any]) -> Image | None:
    try:
        return Image(base64.b64decode(str(block.get("data", "")), validate=True), str(block.get("mimeType", "")))
    except (binascii.Error, ValueError):
        return None
