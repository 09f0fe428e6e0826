"""The command ``mcp-manifold``: one small file per command."""

import gc
import os
import sys
from collections.abc import Sequence


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command and return its exit status.

    What has to start at once is chosen before anything heavy is imported.
    """
    arguments = sys.argv[1:] if argv is None else list(argv)
    # Nothing that an import makes is garbage; looking for some takes a fifth of the start.
    gc.disable()
    if arguments[:1] == ["connect"]:
        from proxy.front.main import main as connect  # noqa: PLC0415 - the standard library only

        return connect(arguments[1:])
    if arguments[:1] == ["serve"] and "--stdio" in arguments:
        from proxy.front import early  # noqa: PLC0415 - the standard library only

        unknown = early.begin(arguments[1:], os.environ)
        if unknown is not None:
            from proxy.cli.first import introduce  # noqa: PLC0415 - the configuration, and not yet FastMCP

            introduce(unknown)
    from proxy.cli.main import main as command  # noqa: PLC0415 - everything else

    return command(arguments)


__all__ = ["main"]
