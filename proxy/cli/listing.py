"""``mcp-manifold list``: what is on offer, and where each name leads."""

import json
from typing import Annotated, Any

from cyclopts import Parameter

from proxy.cli.asking import ask
from proxy.cli.options import AgentName, ConfigFiles
from proxy.model import Kind
from proxy.runtime import Runtime


def list_(
    *,
    config: ConfigFiles = None,
    agent: AgentName = None,
    as_json: Annotated[bool, Parameter(name="--json", help="Print JSON.", negative="")] = False,
) -> int:
    """List tools, resources, templates and prompts with their routes."""

    async def question(runtime: Runtime) -> list[dict[str, Any]]:
        view = runtime.view(agent)
        return [
            {"kind": kind.value, "name": shown, "upstream": entry.route.upstream, "own": entry.route.name}
            for kind in Kind
            for shown, entry in view.entries(kind).items()
        ]

    rows = ask(config, agent, question)
    if as_json:
        print(json.dumps(rows, indent=2))
        return 0
    width = max((len(row["name"]) for row in rows), default=0)
    for row in rows:
        print(f"{row['kind']:<8}  {row['name']:<{width}}  → {row['upstream']}: {row['own']}")
    print(f"{len(rows)} entries" if rows else "Nothing is on offer; `mcp-manifold check` says why.")
    return 0
