"""The command's entry: which subcommands there are. Each is imported when it is asked for."""

import gc
import sys
from collections.abc import Sequence

from cyclopts import App

from proxy import __version__
from proxy.errors import ManifoldError

app = App(
    name="mcp-manifold",
    help="One MCP endpoint in front of many MCP servers.",
    version=__version__,
    default_parameter=None,
)
app.command("proxy.cli.serve:serve")
app.command("proxy.cli.connect:connect")
app.command("proxy.cli.check:check")
app.command("proxy.cli.listing:list_", name="list")
app.command("proxy.cli.call:call")
app.command("proxy.cli.explain:explain")
app.command("proxy.cli.schema:schema")
app.command("proxy.cli.status:status")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status: 0 well, 1 a failure that was reported, 2 a wrong command line."""
    try:
        command, bound, _ = app.parse_args(argv, exit_on_error=True, print_error=True)
        _settle()
        result = command(*bound.args, **bound.kwargs)
    except ManifoldError as error:
        print(f"mcp-manifold: {error.text()}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return result if isinstance(result, int) else 0


def _settle() -> None:
    """Everything is imported: the collector need not look at it again, and may work (``proxy.cli`` put it to rest)."""
    gc.freeze()
    gc.enable()
