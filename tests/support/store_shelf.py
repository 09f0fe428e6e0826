"""A FastMCP server of resources and prompts on standard input and output, for the tests of the Python API."""

import sys

from fastmcp import FastMCP

NAME = sys.argv[1] if len(sys.argv) > 1 else "shelf"
server = FastMCP(NAME)


@server.resource("shelf://index", mime_type="text/plain")
def index() -> str:
    return f"the index of {NAME}"


@server.resource("shelf://cover", mime_type="image/png")
def cover() -> bytes:
    return b"\x89PNG" + NAME.encode()


@server.resource("shelf://books/{title}/{page}", mime_type="text/plain")
def page(title: str, page: str) -> str:
    return f"{NAME}: page {page} of {title}"


@server.resource("shelf://torn")
def torn() -> str:
    raise RuntimeError("the page is torn out")


@server.prompt
def praise(title: str, tone: str = "dry") -> str:
    return f"{NAME}: praise {title}, {tone}"


if __name__ == "__main__":
    server.run(show_banner=False)
