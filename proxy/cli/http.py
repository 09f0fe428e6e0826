"""``mcp-manifold serve --http``: what is needed only when the door is HTTP. Importing this imports FastMCP."""

import json
import os
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import anyio
import structlog

from proxy.app import Serving, serve_http
from proxy.cli.report import banner
from proxy.config.model import Config
from proxy.front.place import Place
from proxy.gateway.exposure import check_exposure

log = structlog.get_logger(__name__)


def exposed(chosen: Callable[[Config], Config], state: Path, config: Config) -> Config:
    """The same, unless it would open what was closed.

    Raises:
        ConfigError: it would.
    """
    found = chosen(config)
    check_exposure(found, state)
    return found


async def opened(serving: Serving, *, files: tuple[Path, ...], agent: str | None, ready_fd: int | None) -> None:
    """Tell everybody that the door is open: fronts, whoever started us, and people."""
    with ExitStack() as stack:
        if agent is None:  # fronts look for the store
            _announce(stack, Place.of(files, os.environ), serving.url)
        if ready_fd is not None:
            os.write(ready_fd, json.dumps({"url": serving.url}).encode() + b"\n")
            os.close(ready_fd)
        await serving.runtime.ready(None)
        print(banner(serving, files, agent), file=sys.stderr, flush=True)
        await anyio.sleep_forever()


def _announce(stack: ExitStack, place: Place, url: str) -> None:
    """Let fronts find us for as long as the door is open."""
    try:
        stack.enter_context(place.announced(url))
    except OSError as error:
        log.warning("front.not_announced", path=str(place.note), reason=error.strerror or str(error))


__all__ = ["exposed", "opened", "serve_http"]
