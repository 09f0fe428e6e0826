"""``mcp-manifold who-can``: which agents may call a tool, as what, and which line of the configuration decides."""

import json
import time
from collections.abc import Iterator
from dataclasses import asdict
from typing import Annotated, Any

from cyclopts import Parameter

from proxy.agents.whocan import Verdict, WhoCan
from proxy.agents.whocan import who_can as decided
from proxy.cli.asking import ask
from proxy.cli.options import ConfigFiles, load_config, state_dir
from proxy.config.model import Config
from proxy.gateway.tokens import Record, TokenFile
from proxy.runtime import Runtime

Credentials = dict[str | None, list[str]]


def who_can(
    name: Annotated[str, Parameter(help="A public name, server.tool, a tool's own name, or one that an agent sees.")],
    *,
    config: ConfigFiles = None,
    as_json: Annotated[bool, Parameter(name="--json", help="Print JSON.", negative="")] = False,
) -> int:
    """Say for every agent, and for the store, whether it may call a tool, under which name, and by which rule."""

    async def question(runtime: Runtime) -> tuple[WhoCan, ...]:
        return decided(runtime.holder.current, runtime.config.agents, runtime.view, name)

    found = ask(config, None, question)
    loaded = load_config(config).config
    records = TokenFile(state_dir(loaded)).records()
    credentials = _credentials(loaded, [one for one in records if _good(one)])
    if as_json:
        print(json.dumps([_plain(one, credentials) for one in found], indent=2, ensure_ascii=False))
    else:
        print("\n\n".join("\n".join(_lines(one, credentials)) for one in found))
    return 0


def _good(record: Record) -> bool:
    return record.revoked is None and (record.expires is None or time.time() < record.expires)


def _credentials(config: Config, records: list[Record]) -> Credentials:
    """Agent -> what one may come in with, in words; no secret is among them. None is the store."""
    found: Credentials = {None: [], **{name: [] for name in config.agents}}
    for name, tokens in ((None, config.auth.tokens), *((name, one.tokens) for name, one in config.agents.items())):
        if tokens:
            found[name].append(f"{len(tokens)} of the configuration")
    for record in records:
        if not record.agents:
            found[None].append(f"token {record.name}")
        for agent in record.agents:
            bound = [other for other in record.agents if other != agent]
            found.setdefault(agent, []).append(f"token {record.name}{' with ' + '+'.join(bound) if bound else ''}")
    return found


def _plain(one: WhoCan, credentials: Credentials) -> dict[str, Any]:
    return {
        **asdict(one),
        "verdicts": [
            {**asdict(it), "sees": bool(it.shown), "credentials": credentials[it.agent]} for it in one.verdicts
        ],
    }


def _lines(one: WhoCan, credentials: Credentials) -> Iterator[str]:
    yield f"{one.upstream}.{one.own}" + (f" ({one.public})" if one.public else "")
    if one.nobody:
        yield f"  nobody: {one.nobody}"
    width = max((len(_who(it)) for it in one.verdicts), default=0)
    for verdict in one.verdicts:
        yield from _about(verdict, width, credentials[verdict.agent])


def _about(verdict: Verdict, width: int, credentials: list[str]) -> Iterator[str]:
    sees = f"✓ as {verdict.shown}" if verdict.shown else "✗"
    yield f"  {_who(verdict):{width}}  {sees}  {verdict.rule}"
    parts = {
        "overrides": [f'"{line}"' for line in verdict.overrides],
        "fixed": verdict.fixed,
        "hidden": verdict.hidden,
        "renamed": [f"{own} → {name}" for own, name in verdict.renamed.items()],
        "credentials": credentials if verdict.shown else (),
    }
    for word, values in parts.items():
        if values:
            yield f"  {'':{width}}    {word}: {', '.join(values)}"


def _who(verdict: Verdict) -> str:
    return "the store" if verdict.agent is None else verdict.agent
