"""Where a configuration is looked for when none is named."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

ENV_VARIABLE: Final = "MCP_MANIFOLD_CONFIG"
_SUFFIXES: Final = ("yaml", "yml", "toml", "json")


def candidates(env: Mapping[str, str], cwd: Path) -> tuple[Path, ...]:
    """The places of a configuration, first choice first. Pure.

    ``manifold.*`` and ``.mcp.json`` in the working directory, then ``mcp-manifold/config.*`` in the user's
    configuration folder (XDG base directories).
    """
    home = Path(env.get("HOME") or env.get("USERPROFILE") or "~").expanduser()
    own = env.get("XDG_CONFIG_HOME", "")
    folder = Path(own) if Path(own).is_absolute() else home / ".config"
    return (
        *(cwd / f"manifold.{suffix}" for suffix in _SUFFIXES),
        cwd / ".mcp.json",
        *(folder / "mcp-manifold" / f"config.{suffix}" for suffix in _SUFFIXES),
    )


def discover(env: Mapping[str, str], cwd: Path) -> tuple[Path, ...]:
    """The configuration files to load; empty when there are none.

    ``$MCP_MANIFOLD_CONFIG`` comes first and may name several files like a search path; they are taken even if they
    do not exist, so that a slip in it is told and does not lead to some other file.
    """
    named = [part for part in env.get(ENV_VARIABLE, "").split(os.pathsep) if part]
    if named:
        return tuple(cwd / Path(part).expanduser() for part in named)
    found = next((path for path in candidates(env, cwd) if path.is_file()), None)
    return (found,) if found else ()
