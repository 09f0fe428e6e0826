"""What several commands share: finding the configuration, and telling what is wrong with it."""

import os
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from proxy.config.discover import candidates, discover
from proxy.config.load import Loaded, load
from proxy.config.model import Config
from proxy.errors import ConfigError, Problem, UnknownServer

ConfigFiles = Annotated[
    list[Path] | None,
    Parameter(name=["--config", "-c"], help="A configuration file; may be given several times.", negative=""),
]
AgentName = Annotated[str | None, Parameter(name="--agent", help="See everything as this agent does.")]


def load_config(files: list[Path] | None, *, agent: str | None = None) -> Loaded:
    """Load the named files, or find one where configurations are usually kept; warnings go to standard error.

    Raises:
        ConfigError: with every problem.
        UnknownServer: the configuration has no such agent.
    """
    paths = files or list(discover(os.environ, Path.cwd()))
    if not paths:
        places = ", ".join(str(place) for place in candidates(os.environ, Path.cwd())[:4])
        raise ConfigError([Problem("", "no configuration found", f"name one with --config; looked for {places}, …")])
    loaded = load(*paths)
    for warning in loaded.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    if agent is not None and agent not in loaded.config.agents:
        raise UnknownServer(f"There is no agent {agent!r}.", name=agent, suggestions=sorted(loaded.config.agents)[:8])
    return loaded


def state_dir(config: Config) -> Path:
    """Where last-known listings are kept: as configured, or in the user's state folder (XDG base directories)."""
    if config.server.state_dir is not None:
        return Path(config.server.state_dir)
    base = os.environ.get("XDG_STATE_HOME", "")
    root = Path(base) if Path(base).is_absolute() else Path.home() / ".local" / "state"
    return root / "mcp-manifold"
