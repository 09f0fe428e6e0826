"""``mcp-manifold serve``: open a door."""

import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated

import anyio
from cyclopts import Parameter

from proxy.app import Serving, serve_http, serve_stdio
from proxy.cli.options import AgentName, ConfigFiles, load_config, state_dir
from proxy.cli.report import banner
from proxy.config.load import Loaded, load
from proxy.config.model import Config
from proxy.errors import ConfigError, Problem
from proxy.reload import Source
from proxy.telemetry import logging


def serve(  # noqa: PLR0913 - each is an option of the command line
    *,
    config: ConfigFiles = None,
    http: Annotated[bool, Parameter(help="Serve over HTTP (the default).", negative="")] = False,
    stdio: Annotated[bool, Parameter(help="Serve one client over standard input and output.", negative="")] = False,
    agent: AgentName = None,
    host: Annotated[str | None, Parameter(help="The address to listen on.")] = None,
    port: Annotated[int | None, Parameter(help="The port to listen on; 0 takes a free one.")] = None,
    watch: Annotated[
        bool, Parameter(help="Reload when a configuration file changes; SIGHUP reloads in any case.")
    ] = True,
) -> int:
    """Serve the configured upstreams as one MCP server."""
    if http and stdio:
        print("mcp-manifold serve: choose one of --http and --stdio", file=sys.stderr)
        return 2
    loaded = load_config(config, agent=agent)
    chosen = _listening(loaded.config, host, port)
    logging.configure(level=chosen.log.level, style=chosen.log.format)
    state = state_dir(chosen)
    again = partial(_load_again, loaded.files, agent, partial(_listening, host=host, port=port))
    source = Source.of(loaded, again, watch=watch)
    if stdio:
        run = partial(serve_stdio, chosen, state=state, agent=agent, source=source)
    else:
        opened = partial(_opened, files=loaded.files, agent=agent)
        run = partial(serve_http, chosen, state=state, opened=opened, source=source)
    anyio.run(run, backend_options={"use_uvloop": sys.platform != "win32"})
    return 0


def _load_again(files: tuple[Path, ...], agent: str | None, chosen: Callable[[Config], Config]) -> Loaded:
    """What the files say now, under the same options of the command line.

    Raises:
        ConfigError: they cannot be used.
    """
    loaded = load(*files)
    if agent is not None and agent not in loaded.config.agents:
        raise ConfigError([Problem(f"agents.{agent}", "is gone, but is served here", "put it back, or stop this one")])
    return replace(loaded, config=chosen(loaded.config))


def _listening(config: Config, host: str | None, port: int | None) -> Config:
    changes = {key: value for key, value in (("host", host), ("port", port)) if value is not None}
    return config.model_copy(update={"server": config.server.model_copy(update=changes)}) if changes else config


async def _opened(serving: Serving, *, files: tuple[Path, ...], agent: str | None) -> None:
    await serving.runtime.ready(None)
    print(banner(serving, files, agent), file=sys.stderr, flush=True)
