"""The composition root: a configuration becomes a Manifold that serves over HTTP (``app_stdio``: the other door)."""

import signal
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import anyio
import structlog

from proxy.app_stdio import attended
from proxy.config.model import Config
from proxy.gateway.exposure import check_exposure
from proxy.gateway.refusals import audited
from proxy.gateway.server import Gateway
from proxy.gateway.serving import HttpServer, Idle, address, bind, http_server
from proxy.reload import Source
from proxy.runtime import Runtime, background
from proxy.store.extensions import installed_layers

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
        async with (
            Runtime(config, state=state, layers=installed_layers()) as runtime,
            attended(runtime, Gateway(runtime, state), source) as gateway,
        ):
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


__all__ = ["Serving", "serve_http"]
