"""``mcp-manifold token``: API tokens for those who connect over HTTP. A running Manifold takes note by itself."""

import json
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter
from pydantic_core import PydanticCustomError

from proxy.cli.acts import acted
from proxy.cli.options import ConfigFiles, load_config, state_dir
from proxy.config.discover import discover
from proxy.config.model import Config
from proxy.config.units import DURATION_HINT, seconds
from proxy.errors import ConfigError, Problem
from proxy.gateway.tokens import Record, TokenFile

Names = Annotated[list[str] | None, Parameter(negative="")]


def create(
    name: Annotated[str, Parameter(help="What the token is called, for people: whose it is, or what for.")],
    *,
    agent: Annotated[Names, Parameter(help="An agent that it is bound to; several intersect. None: the store.")] = None,
    scope: Annotated[Names, Parameter(help="A scope that it has, as `operator`.")] = None,
    expires: Annotated[
        str | None, Parameter(help="The time for which it is good, as 30d; for ever if not given.")
    ] = None,
    config: ConfigFiles = None,
) -> int:
    """Make an API token and print it. It is shown this once: only its digest is kept."""
    chosen = _config(config)
    if unknown := [one for one in agent or () if one not in chosen.agents]:
        known = ", ".join(sorted(chosen.agents)) or "none"
        raise ConfigError([Problem("--agent", f"there is no agent {unknown[0]!r}", f"configured agents: {known}")])
    lifetime = None if expires is None else _seconds(expires)
    file = TokenFile(state_dir(chosen))
    first = not file.exists
    token, record = file.create(name, agents=agent or (), scopes=scope or (), lifetime=lifetime)
    about = {"agents": record.agents, "scopes": sorted(record.scopes), "expires": expires}
    acted(chosen, "token.created", id=record.id, token_name=record.name, **about)
    print(token)
    print(f"{_summary(record)}. It is not shown again.", file=sys.stderr)
    if first:
        print("From now on every HTTP door of Manifold asks for a credential.", file=sys.stderr)
    return 0


def list_(
    *,
    config: ConfigFiles = None,
    as_json: Annotated[bool, Parameter(name="--json", help="Print JSON.", negative="")] = False,
) -> int:
    """List the API tokens: whose they are, and until when they are good. The tokens themselves are not kept."""
    records = TokenFile(state_dir(_config(config))).records()
    if as_json:
        print(json.dumps([_shown(one) for one in records], indent=2))
        return 0
    for one in records:
        print(_summary(one))
    if not records:
        print("There are no API tokens; `mcp-manifold token create NAME` makes one.")
    return 0


def revoke(
    name: Annotated[str, Parameter(help="The token's name or id.")],
    *,
    config: ConfigFiles = None,
) -> int:
    """Let an API token be good no more, at once: what it has open is closed too."""
    chosen = _config(config)
    record = TokenFile(state_dir(chosen)).revoke(name)
    acted(chosen, "token.revoked", id=record.id, token_name=record.name)
    print(_summary(record))
    return 0


def _config(files: list[Path] | None) -> Config:
    """The configuration, if there is one: it says where the state directory is, and which agents there are."""
    return load_config(files).config if files or discover(os.environ, Path.cwd()) else Config()


def _seconds(text: str) -> float:
    try:
        found = seconds(text)
    except PydanticCustomError as error:
        raise ConfigError([Problem("--expires", f"{text!r} {error.message()}", DURATION_HINT)]) from error
    if not found:
        raise ConfigError([Problem("--expires", "is no time at all", DURATION_HINT)])
    return found


def _state(record: Record) -> str:
    if record.revoked is not None:
        return f"revoked {_time(record.revoked)}"
    if record.expires is None:
        return "good for ever"
    return f"{'good until' if time.time() < record.expires else 'expired'} {_time(record.expires)}"


def _summary(record: Record) -> str:
    bound = f"agent {' and '.join(record.agents)}" if record.agents else "the store"
    scopes = f", scope {' '.join(record.scopes)}" if record.scopes else ""
    return f"{record.id}  {record.name}  for {bound}{scopes}, {_state(record)}"


def _shown(record: Record) -> dict[str, Any]:
    times = {"created": record.created, "expires": record.expires, "revoked": record.revoked}
    return {
        "id": record.id,
        "name": record.name,
        "agents": list(record.agents),
        "scopes": list(record.scopes),
        **{key: None if at is None else _time(at) for key, at in times.items()},
    }


def _time(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="seconds")
