"""Small things that tests ask a server with the SDK's client."""

import anyio
from mcp import Client


async def tools_over_http(url: str) -> list[str]:
    """The names of all tools of a server."""
    with anyio.fail_after(20):
        async with Client(url) as client:
            return [tool.name for tool in (await client.list_tools()).tools]
