"""``mcp-manifold status``: how a running Manifold and its upstreams are."""

import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from http import HTTPStatus
from pathlib import Path
from typing import Annotated, Any, Final
from urllib.parse import urlsplit

from cyclopts import Parameter

from proxy.cli.options import ConfigFiles, load_config
from proxy.config.model import ServerConfig
from proxy.errors import ConfigError
from proxy.front.credential import HINT, TOKEN, NoToken, authorization
from proxy.gateway.status import PATH

PATIENCE: Final = 5.0
"""Seconds to wait for the answer."""

_MARKS: Final = {"ready": "●", "connecting": "○", "idle": "○"}

Json = dict[str, Any]


def status(
    *,
    url: Annotated[str | None, Parameter(help="Where Manifold serves, as in http://127.0.0.1:8300.")] = None,
    config: ConfigFiles = None,
    token_file: Annotated[Path | None, Parameter(help=f"Where the token is; by default it is in {TOKEN}.")] = None,
    as_json: Annotated[bool, Parameter(name="--json", help="Print JSON.", negative="")] = False,
) -> int:
    """Show the upstreams of a running Manifold with their states and breakers, and what is slow.

    Without a URL it is looked for where the configuration says that it listens. The exit status is 1 when it cannot be
    asked.
    """
    address = _address(url, config)
    try:
        found = _fetch(address, authorization(token_file, os.environ))
    except NoToken as error:
        print(f"mcp-manifold status: {error}", file=sys.stderr)
        return 1
    except (OSError, ValueError) as error:
        print(f"mcp-manifold status: {address} does not answer: {_why(error)}", file=sys.stderr)
        print("Is Manifold running there over HTTP? Say where with --url.", file=sys.stderr)
        return 1
    print(json.dumps(found, indent=2, ensure_ascii=False) if as_json else "\n".join(lines(found)))
    return 0


def lines(found: Json) -> list[str]:
    """The report of a Manifold as lines for people."""
    upstreams: dict[str, Json] = found["upstreams"]
    width = max((len(name) for name in upstreams), default=0)
    catalog = found["catalog"]
    counted = ", ".join(f"{catalog[kind]} {kind}" for kind in ("tools", "resources", "templates", "prompts"))
    out = [f"Manifold {found['version']}: {counted}", ""]
    for name, one in upstreams.items():
        out.append(f"{_MARKS.get(one['state'], '✗')} {name:<{width}}  {one['state']:<13} {_summary(one)}")
        for member, each in one.get("members", {}).items():
            out.append(f"    {member}  {each['state']}  {_breaker(each)}{each['reason']}")
        out += _pinning(one)
    out += [f"✗ {conflict}" for conflict in catalog["conflicts"]]
    if slow := found["slowest"]["tools"]:
        out += ["", f"{'Slowest tools':<44}{'calls':>8}{'mean':>10}{'p95':>10}{'p99':>10}"]
        out += [_slow(one) for one in slow]
    return out


def _pinning(one: Json) -> Iterator[str]:
    found = one.get("pinning", {})
    if found.get("fault"):
        yield f"    ✗ pins: {found['fault']}"
    if found.get("waiting"):
        kept = "held back" if found["policy"] == "hold" else "served, but nobody has agreed to them"
        yield f"    ! {found['waiting']} new or changed definitions are {kept}; `mcp-manifold review` shows them"
    if found.get("suspicious"):
        yield f"    ? {len(found['suspicious'])} suspicious texts; `mcp-manifold review` shows them"


def _summary(one: Json) -> str:
    calls = one["calls"]
    parts = [] if calls is None else [f"{calls['calls']} calls"]
    if calls is not None and calls["failures"]:
        parts.append(", ".join(f"{count} {code}" for code, count in sorted(calls["failures"].items())))
    if (login := one.get("login")) is not None and login["until"] is not None:
        parts.append(f"login until {login['until']}")
    return f"{_breaker(one)}{'; '.join([*parts, one['reason']])}"


def _breaker(one: Json) -> str:
    breaker = one.get("breaker")
    if breaker is None or breaker["state"] == "closed":
        return ""
    return f"[breaker {breaker['state']}, next try in {breaker['retry_in']:.1f} s] "


def _slow(one: Json) -> str:
    name = f"{one['upstream']}: {one['tool']}"
    times = "".join(f"{_span(one[key]):>10}" for key in ("mean", "p95", "p99"))
    return f"{name[:43]:<44}{one['calls']:>8}{times}"


def _span(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1000:.1f} ms"


def _address(url: str | None, config: Any) -> str:
    if url is None:
        try:
            server = load_config(config).config.server
        except ConfigError:
            if config:
                raise
            server = ServerConfig()
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(server.host, server.host)  # noqa: S104 - replaced, not bound
        url = f"http://{f'[{host}]' if ':' in host else host}:{server.port}"
    parts = urlsplit(url if "://" in url else f"http://{url}")
    return f"{parts.scheme}://{parts.netloc}{PATH}"


def _fetch(address: str, headers: dict[str, str]) -> Json:
    if urlsplit(address).scheme not in ("http", "https"):
        raise ValueError("only http and https addresses can be asked")
    request = urllib.request.Request(address, headers=headers)  # noqa: S310 - the scheme was checked
    with urllib.request.urlopen(request, timeout=PATIENCE) as answer:  # noqa: S310 - the same
        found: Json = json.load(answer)
    return found


def _why(error: Exception) -> str:
    if isinstance(error, urllib.error.HTTPError) and error.code == HTTPStatus.UNAUTHORIZED:
        return f"it asks for a credential; {HINT}"
    if isinstance(error, urllib.error.HTTPError):
        try:
            return str(json.load(error)["error"])
        except (ValueError, KeyError, TypeError):
            return f"HTTP {error.code}"
    return str(getattr(error, "reason", error))
