"""One configured MCP server each: its link, its session, its supervisor."""
