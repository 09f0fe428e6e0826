"""Manifold: one MCP endpoint in front of many MCP servers."""

__version__ = "0.1.0"

__all__ = ["__version__"]
