"""Mount Manifold into a FastMCP server of your own: what its upstreams offer appears beside your own tools.

``python docs/examples/mount.py manifold.yaml`` serves it over stdio.
"""

import sys
from pathlib import Path

from fastmcp import FastMCP

from proxy.config.load import load
from proxy.gateway.provider import CatalogProvider


def build(*files: Path, agent: str | None = None) -> FastMCP:
    """A server with one tool of its own and everything that Manifold, so configured, offers to an agent.

    The upstreams are started and stopped with the server.
    """
    manifold = CatalogProvider.of(load(*files).config, agent=agent)
    server = FastMCP("office", providers=[manifold])

    @server.tool
    def opening_hours() -> str:
        """When the office is open."""
        return "nine to five"

    return server


if __name__ == "__main__":
    build(*map(Path, sys.argv[1:])).run()
