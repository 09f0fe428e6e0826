"""The command ``mcp-manifold``: one small file per command."""

from proxy.cli.main import main

__all__ = ["main"]
