"""Serving one downstream over standard input and output, and what both ways of serving share.

Nothing in here imports FastMCP before the event loop runs. If the early front has answered a client's ``initialize``,
it is known for whom the upstreams are, and they start while the gateway is imported in a thread.
"""

import os
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
import anyio.to_thread
import structlog

from proxy import __version__
from proxy.config.diff import Plan
from proxy.config.model import Config
from proxy.errors import ConfigError, Problem
from proxy.front.early import Opening
from proxy.front.resting import resting
from proxy.model import Caller
from proxy.reload import Reloader, Source
from proxy.runtime import Runtime, background
from proxy.store.extensions import installed_layers
from proxy.telemetry import logging
from proxy.upstream.pool import canonical

if TYPE_CHECKING:
    from proxy.gateway.server import Gateway

log = structlog.get_logger(__name__)


async def serve_stdio(
    config: Config,
    *,
    state: Path | None = None,
    agent: str | None = None,
    source: Source | None = None,
    opening: Opening | None = None,
) -> None:
    """Serve one downstream over standard input and output, until it closes its end or a signal comes.

    With a source, the configuration is read again on SIGHUP and whenever one of the source's files changes. With an
    opening, the conversation that it has begun is continued.

    Raises:
        UnknownServer: there is no such agent.
        ConfigError: the audit log would go to standard output.
    """
    if config.audit.to == "stdout":
        problem = Problem("audit.to", "is standard output, which speaks MCP here", "name a file, or use stderr")
        raise ConfigError([problem])
    async with Runtime(config, state=state, layers=installed_layers()) as runtime, background() as tasks:
        runtime.view(agent)
        with anyio.CancelScope() as serving:
            tasks.start_soon(_cancel_on_signal, serving)
            if opening is not None:
                _begin(runtime, opening, agent)
            async with attended(runtime, await _gateway(runtime, state), source) as gateway:
                await gateway.stdio(agent, opening)
    log.info("manifold.stopped")


def _begin(runtime: Runtime, opening: Opening, agent: str | None) -> None:
    """Be who the client was told we are, and start the upstreams for it if it has said what it can do."""
    if opening.instance:
        runtime.instance = opening.instance
    if (declared := opening.declared) is not None:
        runtime.start(Caller(capabilities=declared, told=canonical(declared), agent=agent))


async def _gateway(runtime: Runtime, state: Path | None) -> "Gateway":
    with resting():
        await anyio.to_thread.run_sync(import_module, "proxy.gateway.server", abandon_on_cancel=True)
    from proxy.gateway.server import Gateway  # noqa: PLC0415 - FastMCP, which nothing before this waits for

    return Gateway(runtime, state)


@asynccontextmanager
async def attended(runtime: Runtime, gateway: "Gateway", source: Source | None) -> AsyncIterator["Gateway"]:
    """A gateway with everything that goes on beside its doors: reports to downstreams, hot reload, the audit log."""
    async with background() as tasks:
        tasks.start_soon(gateway.run)
        if source is not None:
            reloader = Reloader(runtime, source, partial(_applied, gateway))
            tasks.start_soon(reloader.run)
            tasks.start_soon(_reload_on_signal, reloader)
        upstreams, agents = sorted(runtime.config.upstreams), sorted(runtime.config.agents)
        runtime.audit.act("manifold.started", version=__version__, upstreams=upstreams, agents=agents)
        try:
            yield gateway
        finally:
            runtime.audit.act("manifold.stopped")


def _applied(gateway: "Gateway", config: Config, plan: Plan) -> None:
    if plan.log:
        logging.configure(level=config.log.level, style=config.log.format)
    gateway.configured(config)


async def _reload_on_signal(reloader: Reloader) -> None:
    if not hasattr(signal, "SIGHUP"):
        return  # Windows
    from_terminal = _has_terminal()
    with anyio.open_signal_receiver(signal.SIGHUP) as signals:
        async for _ in signals:
            if from_terminal and not _has_terminal():
                # Nobody asks for a reload: the terminal we were started in was closed, and we end with it.
                signal.raise_signal(signal.SIGTERM)
            else:
                reloader.request("SIGHUP")


def _has_terminal() -> bool:
    """Whether there is a terminal that controls this process."""
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY))
    except OSError:
        return False
    return True


async def _cancel_on_signal(scope: anyio.CancelScope) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for number in signals:
            log.info("manifold.stopping", signal=signal.Signals(number).name)
            scope.cancel()
            return
