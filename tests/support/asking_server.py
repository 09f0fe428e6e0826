"""A server that speaks both eras, and asks by a way which its framework has in the handshake era only."""

from fastmcp import Context, FastMCP

server: FastMCP = FastMCP("asking")


@server.tool
async def greet(ctx: Context) -> str:
    """Ask for a name and greet."""
    answer = await ctx.elicit("Your name?", response_type=str)
    return f"Hello, {answer.data}!" if answer.action == "accept" else "Nobody there"


if __name__ == "__main__":
    server.run(show_banner=False)
