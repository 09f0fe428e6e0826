"""``mcp-manifold login``: let Manifold act for somebody at an upstream."""

import socket
import sys
import time
import webbrowser
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Annotated
from urllib.parse import urlsplit

import anyio
import anyio.to_thread
from cyclopts import Parameter

from proxy.cli.acts import acted
from proxy.cli.options import ConfigFiles, load_config, state_dir
from proxy.config.model import Config, UpstreamConfig
from proxy.config.outbound import AuthConfig, AuthKind, Per
from proxy.config.suggest import did_you_mean
from proxy.credentials.callback import PATH, door
from proxy.credentials.grant import Entry, Grant
from proxy.credentials.kept import command
from proxy.credentials.login import Ways, log_in
from proxy.credentials.vault import Slot, Vault, vault_in
from proxy.credentials.wallet import auth_of, slot_of
from proxy.errors import ConfigError, Problem, UnknownServer
from proxy.telemetry import logging

ForAgent = Annotated[str | None, Parameter(name="--agent", help="The login of this agent instead of everybody's.")]
ForPrincipal = Annotated[str | None, Parameter(name="--principal", help="The login of the principal with this id.")]


def login(  # noqa: PLR0913 - each is an option of the command line
    upstream: str | None = None,
    /,
    *,
    agent: ForAgent = None,
    principal: ForPrincipal = None,
    browser: Annotated[
        bool, Parameter(help="Open a browser here; without one, open the page elsewhere and paste what comes back.")
    ] = True,
    status: Annotated[bool, Parameter(help="Show who is logged in where, and until when.", negative="")] = False,
    config: ConfigFiles = None,
) -> int:
    """Log in to an upstream that has ``auth: oauth``. A Manifold that runs notices and connects."""
    logging.configure(level="warning")
    loaded = load_config(config).config
    vault = the_vault(loaded)
    if status or upstream is None:
        print("\n".join(overview(loaded, vault)))
        return 0
    slot, auth = the_login(loaded, upstream, agent, principal)
    try:
        grant = anyio.run(_run, slot, auth, vault, browser)
    except OSError as error:
        where, text = f"mcpServers.{slot.upstream}.auth.redirect_port", f"cannot be used: {error.strerror}"
        raise ConfigError([Problem(where, text, "choose another port, or leave it out")]) from error
    acted(loaded, "upstream.login", upstream=slot.upstream, issuer=grant.server.issuer, agent=agent, owner=principal)
    print(f"Logged in to {slot.upstream} at {grant.server.issuer}{_until(grant)}.")
    return 0


def the_vault(config: Config) -> Vault:
    """Where the logins of a configuration are kept."""
    vault = vault_in(state_dir(config))
    assert vault is not None  # noqa: S101 - a state directory is a path
    return vault


def the_login(config: Config, name: str, agent: str | None, principal: str | None) -> tuple[Slot, AuthConfig]:
    """Which login is meant, and how it is made.

    Raises:
        UnknownServer: there is no such upstream.
        ConfigError: it takes no such login.
    """
    upstream = config.upstreams.get(name)
    if upstream is None:
        near = [one for one in config.upstreams if did_you_mean(name, [one])] or list(config.upstreams)[:8]
        raise UnknownServer(f"There is no upstream {name!r}.", name=name, suggestions=near)
    if agent is not None and principal is not None:
        raise ConfigError([Problem("", "--agent and --principal are two different logins", "give one of them")])
    whose = f"agent {agent}" if agent else f"principal {principal}" if principal else ""
    auth = auth_of(upstream, whose)
    where = f"mcpServers.{name}.auth"
    if auth is None or auth.type is not AuthKind.OAUTH:
        raise ConfigError([Problem(where, "is not oauth: there is nothing to log in to", "set `auth: oauth`")])
    if whose and auth is upstream.auth and auth.per.value != whose.partition(" ")[0]:
        hint = f"set `auth: {{type: oauth, per: {whose.partition(' ')[0]}}}`, or log in without that option"
        raise ConfigError([Problem(f"{where}.per", f"is {auth.per.value}: no {whose} has a login of its own", hint)])
    return slot_of(name, upstream, whose), auth


def overview(config: Config, vault: Vault) -> list[str]:
    """Who is logged in where, as lines for people; never a token."""
    found = {(entry.upstream, entry.whose, entry.url): entry for entry in vault.entries()}
    lines = []
    for name, upstream in config.upstreams.items():
        for slot in _slots(name, upstream, found.values()):
            entry = found.get((slot.upstream, slot.whose, slot.url))
            lines.append(f"{_mark(entry)} {name}{f' ({slot.whose})' if slot.whose else ''}: {_standing(entry, slot)}")
    return lines or ["No upstream has `auth: oauth`."]


def _slots(name: str, upstream: UpstreamConfig, entries: Iterable[Entry]) -> list[Slot]:
    named = upstream.credentials
    own = {f"agent {agent}": one.auth for agent, one in named.agents.items()}
    own |= {f"principal {principal}": one.auth for principal, one in named.principals.items()}
    owners = [whose for whose, auth in own.items() if auth is not None and auth.type is AuthKind.OAUTH]
    if upstream.auth is not None and upstream.auth.type is AuthKind.OAUTH:
        kept = [one.whose for one in entries if one.upstream == name]
        owners = ["", *owners, *(kept if upstream.auth.per is not Per.SHARED else [])]
    return [slot_of(name, upstream, whose) for whose in dict.fromkeys(owners)]


def _mark(entry: Entry | None) -> str:
    return "●" if entry is not None and entry.grant is not None else "✗"


def _standing(entry: Entry | None, slot: Slot) -> str:
    if entry is None or entry.grant is None:
        why = f"logged out: {entry.refused}" if entry is not None and entry.refused else "not logged in"
        return f"{why}; run `{command(slot)}`"
    scopes = f", scopes {entry.grant.scope}" if entry.grant.scope else ""
    return f"logged in at {entry.grant.server.issuer}{_until(entry.grant)}{scopes}"


def _until(grant: Grant) -> str:
    if grant.expires_at is None:
        return ""
    at = datetime.fromtimestamp(grant.expires_at, tz=UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")
    ended = "until" if grant.expires_at > time.time() else "ended"
    return f", {ended} {at}{', renewed by itself' if grant.refresh_token else ''}"


async def _run(slot: Slot, auth: AuthConfig, vault: Vault, browser: bool) -> Grant:
    entry = await anyio.to_thread.run_sync(vault.load, slot)
    known = [urlsplit(one.redirect_uri).port or 0 for one in entry.clients.values()] if entry is not None else []
    port = auth.redirect_port or next(iter(known), 0)
    if not browser:
        return await log_in(slot, auth, vault, Ways(f"http://127.0.0.1:{port or _free()}{PATH}", _pasted, _confirm))
    async with door(port, strict=auth.redirect_port is not None) as callback:

        async def answered(page: str) -> str:
            callback.expect(page)
            print(f"Opening a browser; if none comes up, open this page:\n  {page}", file=sys.stderr, flush=True)
            await anyio.to_thread.run_sync(webbrowser.open, page, abandon_on_cancel=True)
            return await callback.url()

        return await log_in(slot, auth, vault, Ways(callback.uri, answered))


async def _pasted(page: str) -> str:
    print(f"Open this page in any browser and log in:\n  {page}", file=sys.stderr)
    print("It then fails to open an address that begins with http://127.0.0.1; paste that here:", file=sys.stderr)
    line: str = await anyio.to_thread.run_sync(sys.stdin.readline, abandon_on_cancel=True)
    return line.strip()


async def _confirm(page: str, code: str) -> None:
    print(f"Open {page} in any browser and confirm the code {code}.", file=sys.stderr, flush=True)


def _free() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port
