"""The composition root: a configuration becomes a running Manifold. The only module that knows all the others."""

import os
import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio
import structlog

from proxy import __version__
from proxy.config.diff import Plan
from proxy.config.model import Config
from proxy.errors import ConfigError, Problem
from proxy.front.early import Opening
from proxy.gateway.exposure import check_exposure
from proxy.gateway.refusals import audited
from proxy.gateway.server import Gateway
from proxy.gateway.serving import HttpServer, Idle, address, bind, http_server
from proxy.reload import Reloader, Source
from proxy.runtime import Runtime, background
from proxy.store.extensions import installed_layers
from proxy.telemetry import logging

log = structlog.get_logger(__name__)

DRAIN: Final = 10.0
"""Seconds that calls in flight are given when Manifold stops."""


@dataclass(frozen=True, slots=True)
class Serving:
    """A Manifold whose door is open."""

    runtime: Runtime
    gateway: Gateway
    url: str
    """The endpoint over HTTP; empty on stdio."""


Opened = Callable[[Serving], Coroutine[Any, Any, None]]
"""Called once the door is open."""


async def serve_http(  # noqa: PLR0913 - each is an option of the command line
    config: Config,
    *,
    state: Path | None = None,
    agent: str | None = None,
    opened: Opened | None = None,
    source: Source | None = None,
    idle_exit: float | None = None,
) -> None:
    """Serve over HTTP until a signal says otherwise, or nobody asked anything for ``idle_exit`` seconds.

    Paths that name no agent are served as ``agent`` sees it.

    The first SIGINT or SIGTERM drains: no new connections, calls in flight finish, bounded. A second one hurries.
    With a source, the configuration is read again on SIGHUP and whenever one of the source's files changes.

    Raises:
        ConfigError: the address cannot be listened on, or must not be without credentials.
    """
    check_exposure(config, state, str(source.files[0]) if source is not None and source.files else "")
    sock = bind(config.server.host, config.server.port)
    try:
        async with _running(config, state, source) as (runtime, gateway):
            runtime.start()
            idle = Idle(audited(gateway.http_app(agent), runtime.audit))
            server = http_server(idle)
            async with background() as tasks:
                if idle_exit is not None:
                    tasks.start_soon(_on_idle, server, idle, idle_exit)
                tasks.start_soon(_on_signal, server, runtime, gateway)
                url = address(sock) + config.server.path
                log.info("manifold.listening", url=url)
                if opened is not None:
                    tasks.start_soon(opened, Serving(runtime, gateway, url))
                await server.serve(sockets=[sock])
    finally:
        sock.close()


async def serve_stdio(
    config: Config,
    *,
    state: Path | None = None,
    agent: str | None = None,
    source: Source | None = None,
    opening: Opening | None = None,
) -> None:
    """Serve one downstream over standard input and output, until it closes its end or a signal comes.

    A source means the same as for ``serve_http``. With an opening, the conversation that it has begun is continued.

    Raises:
        UnknownServer: there is no such agent.
        ConfigError: the audit log would go to standard output.
    """
    if config.audit.to == "stdout":
        problem = Problem("audit.to", "is standard output, which speaks MCP here", "name a file, or use stderr")
        raise ConfigError([problem])
    async with _running(config, state, source) as (runtime, gateway):
        runtime.view(agent)
        async with background() as tasks:
            with anyio.CancelScope() as serving:
                tasks.start_soon(_cancel_on_signal, serving)
                await gateway.stdio(agent, opening)
    log.info("manifold.stopped")


@asynccontextmanager
async def _running(config: Config, state: Path | None, source: Source | None) -> AsyncIterator[tuple[Runtime, Gateway]]:
    async with Runtime(config, state=state, layers=installed_layers()) as runtime:
        gateway = Gateway(runtime, state)
        async with background() as tasks:
            tasks.start_soon(gateway.run)
            if source is not None:
                reloader = Reloader(runtime, source, partial(_applied, gateway))
                tasks.start_soon(reloader.run)
                tasks.start_soon(_reload_on_signal, reloader)
            upstreams, agents = sorted(config.upstreams), sorted(config.agents)
            runtime.audit.act("manifold.started", version=__version__, upstreams=upstreams, agents=agents)
            try:
                yield runtime, gateway
            finally:
                runtime.audit.act("manifold.stopped")


def _applied(gateway: Gateway, config: Config, plan: Plan) -> None:
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


async def _on_signal(server: HttpServer, runtime: Runtime, gateway: Gateway) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for number in signals:
            log.info("manifold.stopping", signal=signal.Signals(number).name, drain=DRAIN)
            break
        gateway.joint.suspender.abandon()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(partial(_hurry, signals, server, tasks.cancel_scope))
            await runtime.registry.drain(DRAIN)
            server.stop()
            await anyio.sleep_forever()


async def _on_idle(server: HttpServer, idle: Idle, limit: float) -> None:
    await idle.reached(limit)
    log.info("manifold.idle", limit=limit)
    server.stop()


async def _hurry(signals: AsyncIterator[signal.Signals], server: HttpServer, drain: anyio.CancelScope) -> None:
    async for _ in signals:
        server.stop(now=True)
        drain.cancel()


async def _cancel_on_signal(scope: anyio.CancelScope) -> None:
    with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async for number in signals:
            log.info("manifold.stopping", signal=signal.Signals(number).name)
            scope.cancel()
            return


__all__ = ["Serving", "serve_http", "serve_stdio"]
