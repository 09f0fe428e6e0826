"""What several commands share: finding the configuration, and telling what is wrong with it."""

import os
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from proxy.agents.selection import parts
from proxy.cli.reading import read
from proxy.config.discover import candidates, discover
from proxy.config.exposure import exposed_state, make_private
from proxy.config.load import Loaded
from proxy.config.model import Config
from proxy.errors import ConfigError, Problem, UnknownServer
from proxy.keeping import users_state

ConfigFiles = Annotated[
    list[Path] | None,
    Parameter(name=["--config", "-c"], help="A configuration file; may be given several times.", negative=""),
]
AgentName = Annotated[
    str | None, Parameter(name="--agent", help="See everything as this agent does; a+b: what both see.")
]


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
    loaded = read(tuple(paths))
    state = state_dir(loaded.config)
    if loaded.config.server.state_dir is None:
        make_private(state)
    for warning in (*loaded.warnings, *exposed_state(state)):
        print(f"warning: {warning}", file=sys.stderr)
    if unknown := [one for one in parts(agent) if one not in loaded.config.agents]:
        known = sorted(loaded.config.agents)[:8]
        raise UnknownServer(f"There is no agent {unknown[0]!r}.", name=unknown[0], suggestions=known)
    return loaded


def state_dir(config: Config) -> Path:
    """Where last-known listings are kept: as configured, or in the user's state folder (XDG base directories)."""
    if config.server.state_dir is not None:
        return Path(config.server.state_dir)
    return users_state()
