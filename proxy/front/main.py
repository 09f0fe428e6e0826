"""``mcp-manifold connect``: standard input and output to a Manifold that runs already, or is started for it."""

import argparse
import gc
import os
import signal
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from proxy.config.discover import candidates, discover
from proxy.front.bridge import Bridge
from proxy.front.credential import TOKEN, NoToken, authorization
from proxy.front.place import Place
from proxy.front.start import Finder, Unavailable
from proxy.front.uplink import Find, Uplink
from proxy.front.wording import say

_HELP = """\
Connect a client that speaks over standard input and output to a Manifold which serves over HTTP. Without --url it is
the one that serves the configuration; if none does, one is started in the background and shared by all windows.
"""


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit status."""
    gc.enable()
    chosen = _parser().parse_args(arguments)
    try:
        headers = authorization(chosen.token_file, os.environ) | _headers(chosen.header)
        uplink = Uplink(_find(chosen), chosen.agent, headers)
        uplink.open()
    except (Unavailable, NoToken) as error:
        say(str(error))
        return 1
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, _stop)
    source, sink = _claimed()
    try:
        with open(source, "rb") as lines:  # noqa: PTH123 - a descriptor has no path
            Bridge(uplink, _write_to(sink)).run(lines)
    except SystemExit:
        return 0
    finally:
        uplink.close()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="mcp-manifold connect", description=_HELP, allow_abbrev=False)
    parser.add_argument("--url", help="the endpoint, as in http://127.0.0.1:8300/mcp")
    parser.add_argument("--config", "-c", action="append", type=Path, help="a configuration file; may be given again")
    parser.add_argument("--agent", help="see everything as this agent does")
    parser.add_argument(
        "--header", action="append", default=[], metavar="NAME: VALUE", help="an HTTP header; may be given again"
    )
    parser.add_argument(
        "--token-file", type=Path, metavar="FILE", help=f"where the token is; by default it is in {TOKEN}"
    )
    parser.add_argument(
        "--idle-exit", metavar="TIME", help="what is started here ends after this time without a request"
    )
    return parser


def _find(chosen: argparse.Namespace) -> Find:
    if chosen.url:
        if not chosen.url.startswith(("http://", "https://")):
            raise Unavailable(f"--url {chosen.url}: an address starts with http:// or https://")
        return lambda _start: str(chosen.url)
    files = chosen.config or list(discover(os.environ, Path.cwd()))
    if not files:
        places = ", ".join(str(place) for place in candidates(os.environ, Path.cwd())[:4])
        raise Unavailable(
            f"no configuration found; name one with --config, or a Manifold with --url. Looked for {places}"
        )
    finder = Finder(Place.of(files, os.environ), files, chosen.idle_exit)
    return lambda start: finder.started() if start else finder.running()


def _headers(given: Sequence[str]) -> dict[str, str]:
    found = {}
    for one in given:
        name, colon, value = one.partition(":")
        if not colon or not name.strip():
            raise Unavailable(f"--header {one!r}: write it as NAME: VALUE")
        found[name.strip()] = value.strip()
    return found


def _claimed() -> tuple[int, int]:
    """Private descriptors of the wire; what anybody prints goes to standard error."""
    source, sink = os.dup(0), os.dup(1)
    os.dup2(2, 1)
    return source, sink


def _stop(_number: int, _frame: Any) -> None:
    raise SystemExit(0)


def _write_to(descriptor: int) -> Callable[[bytes], None]:
    """Puts whole frames on a descriptor."""

    def write(frame: bytes) -> None:
        rest = memoryview(frame)
        while rest:
            rest = rest[os.write(descriptor, rest) :]

    return write
