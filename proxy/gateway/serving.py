"""Running the front door: uvicorn on a socket that is already bound, or stdio. Signals are the caller's."""

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import anyio
import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from proxy.errors import ConfigError, Problem
from proxy.gateway.direct import HttpProtocol
from proxy.gateway.parting import Parting

LINGER: Final = 3
"""Seconds that open responses are given when the server stops; they are cut after it."""
BACKLOG: Final = 2048


class HttpServer(uvicorn.Server):
    """Uvicorn without its own signal handling: whoever runs us decides what a signal means (drain first).

    Args:
        config: uvicorn's.
    """

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        app: Any = config.app
        self._parting = config.app = Parting(app)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave the signals alone."""
        yield

    def stop(self, *, now: bool = False) -> None:
        """Take no more connections and end; ``now`` does not wait for open responses."""
        self.should_exit = True
        self._parting.begin()
        self.force_exit = self.force_exit or now


class Idle:
    """An ASGI app that knows since when nobody asks anything. An open stream counts as asking."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app
        self._open = 0
        self._now = asyncio.get_running_loop().time
        self._since = self._now()
        self.direct = getattr(app, "direct", None)
        """Requests that go past ASGI count as well."""
        if self.direct is not None:
            self.direct.opened, self.direct.closed = self._begin, self._end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        self._begin()
        try:
            await self._app(scope, receive, send)
        finally:
            self._end()

    def _begin(self) -> None:
        self._open += 1

    def _end(self) -> None:
        self._open -= 1
        self._since = self._now()

    async def reached(self, limit: float) -> None:
        """Wait until nobody has asked anything for some seconds."""
        while True:
            left = limit if self._open else self._since + limit - self._now()
            if left <= 0:
                return
            await anyio.sleep(left)


def http_server(app: ASGIApp) -> HttpServer:
    """A server for the app, on the fastest loop and parser there are."""
    return HttpServer(
        uvicorn.Config(
            app,
            http=HttpProtocol,
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            server_header=False,
            proxy_headers=False,  # nothing here goes by the address of a client behind a proxy
            date_header=False,
            timeout_graceful_shutdown=LINGER,
            backlog=BACKLOG,
        )
    )


def bind(host: str, port: int) -> socket.socket:
    """A listening socket; port 0 takes a free one.

    Raises:
        ConfigError: the address cannot be used; says why and what to do.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((host, port))
        sock.listen(BACKLOG)
    except (OSError, OverflowError) as error:
        sock.close()
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        raise ConfigError(
            [
                Problem(
                    "server",
                    f"cannot listen on {host}:{port}: {why}",
                    "is another Manifold running? choose another --port, or 0 for any free one",
                )
            ]
        ) from error
    sock.setblocking(False)
    return sock


def address(sock: socket.socket) -> str:
    """``http://host:port`` of a bound socket."""
    host, port = sock.getsockname()[:2]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
