"""Manifold: one MCP endpoint in front of many MCP servers.

The public Python API (docs/guide/python.md). Importing this package imports nothing else; each name brings its module
when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from proxy.errors import ManifoldError
    from proxy.model import Call, Reply
    from proxy.store.asking import Handlers
    from proxy.store.calls import ToolCall
    from proxy.store.context import Context
    from proxy.store.formats import build_tool_context
    from proxy.store.manifold import Manifold
    from proxy.store.result import ToolResult
    from proxy.store.tool import Tool

__version__ = "0.1.0"

__all__ = [
    "Call",
    "Context",
    "Handlers",
    "Manifold",
    "ManifoldError",
    "Reply",
    "Tool",
    "ToolCall",
    "ToolResult",
    "__version__",
    "build_tool_context",
]

_HOMES: Final = {
    "Call": "proxy.model",
    "Context": "proxy.store.context",
    "Handlers": "proxy.store.asking",
    "Manifold": "proxy.store.manifold",
    "ManifoldError": "proxy.errors",
    "Reply": "proxy.model",
    "Tool": "proxy.store.tool",
    "ToolCall": "proxy.store.calls",
    "ToolResult": "proxy.store.result",
    "build_tool_context": "proxy.store.formats",
}


def __getattr__(name: str) -> Any:
    """The public names, imported when they are first used."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
