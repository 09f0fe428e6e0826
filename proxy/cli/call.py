"""``mcp-manifold call``: call one tool, as a client would."""

import json
import sys
from typing import Annotated, Any

from cyclopts import Parameter

from proxy.cli.asking import ask
from proxy.cli.options import AgentName, ConfigFiles
from proxy.model import Caller
from proxy.router import Request
from proxy.runtime import Runtime


def call(
    name: Annotated[str, Parameter(help="A public name, server.tool, or an unambiguous tool name.")],
    arguments: Annotated[str, Parameter(help="The arguments, as a JSON object.")] = "{}",
    *,
    config: ConfigFiles = None,
    agent: AgentName = None,
) -> int:
    """Call a tool and print its result as JSON. The exit status is 1 when the tool reports an error."""
    try:
        parsed = json.loads(arguments)
    except ValueError as error:
        print(f"mcp-manifold call: the arguments are not JSON: {error}", file=sys.stderr)
        return 2
    if not isinstance(parsed, dict):
        print("mcp-manifold call: the arguments must be a JSON object", file=sys.stderr)
        return 2

    async def question(runtime: Runtime) -> Any:
        request = Request("tools/call", {"name": name, "arguments": parsed}, Caller(agent=agent))
        routed = await runtime.router.route(request)
        return (await runtime.router.send(routed)).result

    result = ask(config, agent, question)
    print(json.dumps(result, indent=2, ensure_ascii=False))
    return 1 if isinstance(result, dict) and result.get("isError") else 0
