"""The words of other applications' configuration files, and what they mean here. Tables only."""

from typing import Final

SECTIONS: Final = ("mcpServers", "servers", "upstreams")
"""Top-level keys that hold upstreams: Claude, Cursor, Windsurf, Cline and our own; VS Code; the model's word."""

OWN_SECTIONS: Final = ("server", "log", "audit", "naming", "pinning", "auth", "agents")
TOP: Final = (*OWN_SECTIONS, *SECTIONS, "mcp")
WRAPPED: Final = ("servers", "mcpServers")
"""What ``mcp`` may hold (VS Code's settings.json)."""

SILENT: Final = frozenset({"$schema", "inputs"})
"""Keys which need no word: editors' schema links, and VS Code's inputs (their use is what gets a message)."""

APPLICATION: Final = ("globalShortcut", "preferences", "scale", "locale", "userThemeMode")
"""Top-level keys of Claude Desktop's file, for the schema; the loader tolerates any unlike ours."""

COMMENT_MARKS: Final = ("_", "//", "#", "x-")
"""Keys that begin so are comments."""

SPELLINGS: Final = {
    "serverUrl": "url",  # Windsurf, Antigravity
    "httpUrl": "url",  # Gemini CLI
    "transport": "type",  # FastMCP
    "transportType": "type",  # Cline
    "env_file": "envFile",
}
"""Other spellings of members of an upstream."""

TOOL_FILTERS: Final = {
    "includeTools": "allow",  # Gemini CLI
    "enabledTools": "allow",
    "excludeTools": "deny",  # Gemini CLI
    "disabledTools": "deny",  # Windsurf, Roo Code
}
"""Members of an upstream that name its tools; they say who may call what, so they are kept."""

PSEUDO: Final = ("disabled", "envFile")
"""Members of an upstream that the loader turns into others."""

_UNUSED: Final = "Manifold has no use for it"
_CREDENTIALS: Final = "log in with auth: oauth, or give headers, as in Authorization: Bearer ${env:TOKEN}"
_APPROVAL: Final = "approving calls is up to the client"

IGNORED: Final = {
    "description": _UNUSED,
    "title": _UNUSED,
    "icon": _UNUSED,
    "version": _UNUSED,
    "tags": _UNUSED,
    "notes": _UNUSED,
    "gallery": _UNUSED,
    "dev": "watching and debugging a server is not supported",
    "watchPaths": "watching a server's files is not supported",
    "sandboxEnabled": "starting servers in a sandbox is not supported",
    "sandbox": "starting servers in a sandbox is not supported",
    "autoApprove": _APPROVAL,
    "autoapprove": _APPROVAL,
    "alwaysAllow": _APPROVAL,
    "trust": _APPROVAL,
    "oauth": _CREDENTIALS,
    "authentication": _CREDENTIALS,
    "authProviderType": _CREDENTIALS,
    "keep_alive": "Manifold keeps sessions alive by itself",
}
"""Members of an upstream that are accepted and not used, and what to know about it."""


def is_comment(key: str) -> bool:
    """Tell whether a key is somebody's comment."""
    return key.startswith(COMMENT_MARKS)
