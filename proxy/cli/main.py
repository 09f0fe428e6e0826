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
app.command("proxy.cli.serve:serve", help="Serve the configured upstreams as one MCP server.")
app.command("proxy.cli.connect:connect", help="Connect a stdio client to a Manifold over HTTP, started if need be.")
app.command("proxy.cli.check:check", help="Check the configuration and connect to every upstream once.")
app.command("proxy.cli.listing:list_", name="list", help="List everything on offer with its routes.")
app.command("proxy.cli.call:call", help="Call a tool and print its result.")
app.command("proxy.cli.explain:explain", help="Say where a name leads to, and why it is called that.")
app.command("proxy.cli.whocan:who_can", name="who-can", help="Say which agents may call a tool, and by which rule.")
app.command("proxy.cli.review:review", help="Show which definitions of upstreams are new or have changed.")
app.command("proxy.cli.decide:approve", help="Agree to definitions that were reviewed.")
app.command("proxy.cli.decide:reject", help="Refuse definitions that were reviewed.")
app.command("proxy.cli.decide:pin", help="Agree to everything that an upstream offers now.")
app.command("proxy.cli.schema:schema", help="Print the JSON Schema of the configuration.")
tokens = App(name="token", help="Make, list and revoke API tokens for those who connect over HTTP.")
tokens.command("proxy.cli.token:create", help="Make an API token and print it, this once.")
tokens.command("proxy.cli.token:list_", name="list", help="List the API tokens.")
tokens.command("proxy.cli.token:revoke", help="Let an API token be good no more.")
app.command(tokens)
app.command("proxy.cli.login:login", help="Log in to an upstream that takes logins, or show who is logged in.")
app.command("proxy.cli.logout:logout", help="Give a login to an upstream back.")
app.command("proxy.cli.status:status", help="Show a running Manifold and its upstreams.")


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
