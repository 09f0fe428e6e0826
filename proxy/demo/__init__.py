"""Three small MCP servers to try Manifold with, and the launcher behind ``make run``.

They are ordinary upstreams: programs of their own, which know nothing of Manifold.
"""

import os

# FastMCP reads these when it is imported; a server that starts inside somebody's desktop client should be quiet.
os.environ.setdefault("FASTMCP_LOG_ENABLED", "false")
os.environ.setdefault("FASTMCP_CHECK_FOR_UPDATES", "off")
os.environ.setdefault("FASTMCP_SHOW_SERVER_BANNER", "false")
