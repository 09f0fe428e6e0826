"""What is measured: an upstream alone, yardsticks, Manifold, and the proxies of the registries."""

import http.client
import json
import shlex
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from bench import talk
from bench.peers import install
from bench.targets import PATIENCE, PEERS, Bench, Target, Unsuitable, free_port, running

SSE_ONLY: Final = "serves its clients over legacy SSE only; measured there"


def program(part: install.Part, name: str) -> list[str]:
    """How to start what was installed. Raises Unsuitable."""
    if part.reason:
        raise Unsuitable(part.reason)
    return part.command(name)


# Served over HTTP


def _direct(bench: Bench, _port: int) -> Sequence[str]:
    bench.one_http()
    return ()


def _bare(bench: Bench, port: int) -> Sequence[str]:
    if bench.upstreams.kind == "stdio":
        return [sys.executable, str(PEERS / "bare_stdio_relay.py"), str(port), *bench.one_child()]
    return [sys.executable, str(PEERS / "bare_relay.py"), str(port), bench.one_http()]


def _bare_child(bench: Bench, port: int) -> Sequence[str]:
    bench.one_child()
    return _bare(bench, port)


def _manifold(bench: Bench, port: int, *, express: bool = True) -> Sequence[str]:
    config = bench.config(f"manifold-{port}", server={"express": express}, log={"level": "warning"})
    return [sys.executable, "-m", "proxy", "serve", "--http", "--port", str(port), "--config", str(config)]


def _lane_off(bench: Bench, port: int) -> Sequence[str]:
    return _manifold(bench, port, express=False)


def _create_proxy(bench: Bench, port: int, *, transport: str = "http") -> Sequence[str]:
    config = bench.config(f"create-proxy-{port}")
    return [sys.executable, str(PEERS / "create_proxy.py"), transport, str(port), str(config)]


def _create_sse_proxy(bench: Bench, port: int) -> Sequence[str]:
    return _create_proxy(bench, port, transport="sse")


def _npm_proxy(bench: Bench, port: int, *, server: str = "stream") -> Sequence[str]:
    options = ["--host", "127.0.0.1", "--port", str(port), "--server", server]
    return [*program(install.npm(), "mcp-proxy"), *options, "--", *bench.one_child()]


def _npm_sse_proxy(bench: Bench, port: int) -> Sequence[str]:
    return _npm_proxy(bench, port, server="sse")


def _supergateway(bench: Bench, port: int, *options: str) -> Sequence[str]:
    chosen = options or ("--outputTransport", "streamableHttp", "--stateful")
    more = [*chosen, "--port", str(port), "--logLevel", "none"]
    return [*program(install.npm(), "supergateway"), "--stdio", shlex.join(bench.one_child()), *more]


def _supergateway_sse(bench: Bench, port: int) -> Sequence[str]:
    return _supergateway(bench, port, "--outputTransport", "sse")


def _hub(bench: Bench, port: int) -> Sequence[str]:
    return [*program(install.npm(), "mcp-hub"), "--port", str(port), "--config", str(bench.config(f"hub-{port}"))]


def _no_hub(_bench: Bench, _port: int) -> Sequence[str]:
    raise Unsuitable(SSE_ONLY)


def _python_proxy(bench: Bench, port: int) -> Sequence[str]:
    options = ["--host", "127.0.0.1", "--port", str(port), "--pass-environment", "--log-level", "ERROR"]
    return [*program(install.python(), "mcp-proxy"), *options, "--", *bench.one_child()]


def _contextforge(bench: Bench, port: int) -> Sequence[str]:
    if bench.upstreams.kind != "http":
        raise Unsuitable("takes HTTP servers only")
    found = program(install.contextforge(), "mcpgateway")
    return [sys.executable, str(PEERS / "contextforge.py"), str(port), *found]


def _register(bench: Bench, port: int) -> None:
    """Tell ContextForge of the upstreams, as soon as it is there."""
    until = time.monotonic() + PATIENCE
    for name, server in bench.servers().items():
        body = json.dumps({"name": name, "url": server["url"], "transport": "STREAMABLEHTTP"})
        while True:
            try:
                status, said = _posted(port, "/gateways", body)
            except OSError as error:
                status, said = 0, str(error)
            if status in (200, 201):
                break
            if status not in (0, 503) or time.monotonic() > until:
                raise Unsuitable(f"did not take {name} as a gateway: {status} {said[:160]}")
            time.sleep(0.2)


def _posted(port: int, path: str, body: str) -> tuple[int, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        connection.request("POST", path, body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        return response.status, response.read().decode("utf-8", "replace")
    finally:
        connection.close()


DIRECT: Final = Target("direct", _direct)
BARE: Final = Target("bare relay", _bare)
MANIFOLD: Final = Target("Manifold", _manifold)
LANE_OFF: Final = Target("Manifold, lane off", _lane_off)
OTHERS: Final = (
    Target("fastmcp create_proxy", _create_proxy),
    Target("npm mcp-proxy", _npm_proxy),
    Target("supergateway", _supergateway),
    Target("mcp-hub", _no_hub),
    Target("PyPI mcp-proxy", _python_proxy),
    Target("mcp-contextforge-gateway", _contextforge, prepare=_register),
)
ALL: Final = (DIRECT, BARE, MANIFOLD, LANE_OFF, *OTHERS)

SSE: Final = (
    Target("bare relay", _bare_child, "/sse", sse=True),
    Target("Manifold", _manifold, "/sse", sse=True),
    Target("fastmcp create_proxy", _create_sse_proxy, "/sse", sse=True),
    Target("npm mcp-proxy", _npm_sse_proxy, "/sse", sse=True),
    Target("supergateway", _supergateway_sse, "/sse", sse=True),
    Target("mcp-hub", _hub, "/mcp", sse=True),
    Target("PyPI mcp-proxy", _python_proxy, "/sse", sse=True),
)
"""Served over the legacy transport."""


# Served over standard input and output


@dataclass(frozen=True)
class Starter:
    """A command that serves over standard input and output."""

    name: str
    command: Callable[[Bench], Sequence[str]]
    rehearsed: bool = False
    """Whether it is run once before, so that it has something to remember."""
    peer: bool = False
    """Whether it comes from a registry."""
    joins: bool = False
    """Whether it is the front of a Manifold that runs already."""


def _start(bench: Bench) -> Sequence[str]:
    config = bench.config("manifold", log={"level": "error"})
    return [sys.executable, "-m", "proxy", "serve", "--stdio", "--config", str(config)]


def _connect(bench: Bench) -> Sequence[str]:
    return [sys.executable, "-m", "proxy", "connect", "--config", str(bench.config("manifold", log={"level": "error"}))]


def _start_create_proxy(bench: Bench) -> Sequence[str]:
    return _create_proxy(bench, 0, transport="stdio")


def _start_python_proxy(bench: Bench) -> Sequence[str]:
    return [*program(install.python(), "mcp-proxy"), "--transport", "streamablehttp", bench.one_http()]


def _start_supergateway(bench: Bench) -> Sequence[str]:
    return [*program(install.npm(), "supergateway"), "--streamableHttp", bench.one_http(), "--logLevel", "none"]


def _child(bench: Bench) -> Sequence[str]:
    return bench.one_child()


def _bare_pipe(bench: Bench) -> Sequence[str]:
    kind = bench.upstreams.kind
    place = [bench.one_http()] if kind == "http" else bench.one_child()
    return [sys.executable, str(PEERS / "bare_pipe_relay.py"), kind, *place]


_PEERS: Final = (
    Starter("fastmcp create_proxy", _start_create_proxy),
    Starter("PyPI mcp-proxy", _start_python_proxy, peer=True),
    Starter("supergateway", _start_supergateway, peer=True),
)
STARTERS: Final = (
    Starter("Manifold, first time", _start),
    Starter("Manifold, again", _start, rehearsed=True),
    Starter("connect to a running Manifold", _connect, joins=True),
    *_PEERS,
)
PIPED: Final = (
    Starter("direct", _child),
    Starter("bare relay", _bare_pipe),
    Starter("Manifold", _start),
    Starter("Manifold, connect", _connect, joins=True),
    *_PEERS,
)


@contextmanager
def joined(bench: Bench) -> Iterator[int]:
    """A Manifold that runs, with everything listed that can be; its process. Raises OSError, ValueError."""
    port = free_port()
    config = bench.config("manifold", log={"level": "error"})
    command = [sys.executable, "-m", "proxy", "serve", "--http", "--port", str(port), "--config", str(config)]
    with running(command, bench.folder) as process:
        talk.until_listening(port, PATIENCE)
        session = talk.Session(f"http://127.0.0.1:{port}/mcp")
        until = time.monotonic() + PATIENCE
        while len(session.tools()) < bench.offered() and time.monotonic() < until:
            time.sleep(0.1)
        yield process.pid
