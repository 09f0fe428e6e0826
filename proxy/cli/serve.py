"""``mcp-manifold serve``: open a door."""

import gc
import os
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Annotated, Final

import anyio
import structlog
from cyclopts import Parameter
from pydantic_core import PydanticCustomError

from proxy.agents.selection import parts
from proxy.app_stdio import serve_stdio
from proxy.cli.options import AgentName, ConfigFiles, load_config, state_dir
from proxy.config.load import Loaded, load
from proxy.config.model import Config
from proxy.config.units import DURATION_HINT, seconds
from proxy.errors import ConfigError, Problem
from proxy.front.early import opening
from proxy.front.resting import resting
from proxy.reload import Source
from proxy.telemetry import logging

log = structlog.get_logger(__name__)

THRESHOLDS: Final = (10_000, 50, 50)
"""When the garbage collector looks (measured: p99 at 64 connections falls to a third)."""


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
    insecure: Annotated[
        bool, Parameter(help="Listen beyond this machine although nobody needs a credential.", negative="")
    ] = False,
    idle_exit: Annotated[str | None, Parameter(help="Over HTTP, end after this time without a request.")] = None,
    ready_fd: Annotated[int | None, Parameter(show=False)] = None,
) -> int:
    """Serve the configured upstreams as one MCP server."""
    if http and stdio:
        print("mcp-manifold serve: choose one of --http and --stdio", file=sys.stderr)
        return 2
    loaded = load_config(config, agent=agent)
    listening = partial(_listening, host=host, port=port, insecure=insecure or None)
    chosen = listening(loaded.config)
    logging.configure(level=chosen.log.level, style=chosen.log.format)
    state = state_dir(chosen)
    again = partial(_load_again, loaded.files, agent)
    if stdio:
        source = Source.of(loaded, partial(again, listening), watch=watch)
        start = opening(loaded, agent, os.environ)
        run = partial(serve_stdio, chosen, state=state, agent=agent, source=source, opening=start)
    else:
        with resting():
            from proxy.cli import http as door  # noqa: PLC0415 - FastMCP, which the other door imports later

        source = Source.of(loaded, partial(again, partial(door.exposed, listening, state)), watch=watch)
        opened = partial(door.opened, files=loaded.files, agent=agent, ready_fd=ready_fd)
        idle = None if idle_exit is None else _seconds(idle_exit)
        run = partial(door.serve_http, chosen, state=state, agent=agent, opened=opened, source=source, idle_exit=idle)
    gc.set_threshold(*THRESHOLDS)
    anyio.run(run, backend_options={"use_uvloop": sys.platform != "win32"})
    return 0


def _load_again(files: tuple[Path, ...], agent: str | None, chosen: Callable[[Config], Config]) -> Loaded:
    """What the files say now, under the same options of the command line.

    Raises:
        ConfigError: they cannot be used.
    """
    loaded = load(*files)
    for one in parts(agent):
        if one not in loaded.config.agents:
            hint = "put it back, or stop this one"
            raise ConfigError([Problem(f"agents.{one}", "is gone, but is served here", hint)])
    return replace(loaded, config=chosen(loaded.config))


def _listening(config: Config, **given: str | int | bool | None) -> Config:
    changes = {key: value for key, value in given.items() if value is not None}
    return config.model_copy(update={"server": config.server.model_copy(update=changes)}) if changes else config


def _seconds(text: str) -> float:
    try:
        return seconds(text)
    except PydanticCustomError as error:
        raise ConfigError([Problem("--idle-exit", f"{text!r} {error.message()}", DURATION_HINT)]) from error
