"""The downstream side: FastMCP as the front door, and the relay which plugs into it once."""
