"""The token that a front shows to a Manifold which asks for one: from a file, or from the environment."""

import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

TOKEN: Final = "MCP_MANIFOLD_TOKEN"  # noqa: S105 - the name of a variable
HINT: Final = f"give it a token with --token-file or {TOKEN}; `mcp-manifold token create NAME` makes one"


class NoToken(Exception):
    """The token cannot be had; the message says why."""


def authorization(file: Path | None, env: Mapping[str, str]) -> dict[str, str]:
    """The header that bears the token; none if there is no token.

    Raises:
        NoToken: the file cannot be read, has no token, or is for others to read as well.
    """
    token = env.get(TOKEN, "").strip() if file is None else _read(file)
    return {"Authorization": f"Bearer {token}"} if token else {}


def _read(file: Path) -> str:
    try:
        with file.open(encoding="ascii") as lines:
            mode = os.fstat(lines.fileno()).st_mode
            token = lines.read().strip()
    except (OSError, UnicodeDecodeError) as error:
        raise NoToken(f"--token-file {file}: {getattr(error, 'strerror', None) or 'is no token'}") from error
    if os.name == "posix" and stat.S_ISREG(mode) and mode & (stat.S_IRGRP | stat.S_IROTH):
        raise NoToken(f"--token-file {file}: others may read it; take it from them with chmod 600")
    if not token or not token.isprintable() or " " in token:
        raise NoToken(f"--token-file {file}: has no token, or more than one line")
    return token
