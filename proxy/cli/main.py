"""The command's entry: which subcommands there are."""

import sys
from collections.abc import Sequence

from cyclopts import App

from proxy import __version__
from proxy.cli.call import call
from proxy.cli.check import check
from proxy.cli.explain import explain
from proxy.cli.listing import list_
from proxy.cli.schema import schema
from proxy.cli.serve import serve
from proxy.errors import ManifoldError

app = App(
    name="mcp-manifold",
    help="One MCP endpoint in front of many MCP servers.",
    version=__version__,
    default_parameter=None,
)
app.command(serve)
app.command(check)
app.command(list_, name="list")
app.command(call)
app.command(explain)
app.command(schema)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0 well, 1 a failure that was reported, 2 a wrong command line."""
    try:
        result = app(argv, exit_on_error=True, print_error=True)
    except ManifoldError as error:
        print(f"mcp-manifold: {error.text()}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return result if isinstance(result, int) else 0
