"""``mcp-manifold connect``, as the help shows it. It is run by ``proxy.front``, before any of this is imported."""

from typing import Annotated

from cyclopts import Parameter

from proxy.front.main import main


def connect(
    *arguments: Annotated[str, Parameter(allow_leading_hyphen=True, help="See mcp-manifold connect --help.")],
) -> int:
    """Connect a client over standard input and output to a Manifold that runs over HTTP, and start it if need be."""
    return main(arguments)
