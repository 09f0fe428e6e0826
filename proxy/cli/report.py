"""What the command shows to people: the banner of ``serve``, the report of ``check``."""

import json
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path

from proxy import __version__
from proxy.app import Serving
from proxy.model import Kind, Listing, UpstreamState
from proxy.upstream.kinds import AnyUpstream

_TOKEN = "Bearer <token>"  # noqa: S105 - the place for one
_FAILED = "failed"
_COMMAND = "mcp-manifold"
_MARKS = {UpstreamState.READY: "●", UpstreamState.CONNECTING: "○", UpstreamState.IDLE: "○"}


def banner(serving: Serving, files: tuple[Path, ...], agent: str | None) -> str:
    """The endpoint, the upstreams with their states, and what to paste into clients."""
    url = serving.url
    agents = serving.runtime.config.agents
    base = url.removesuffix(serving.runtime.config.server.path)
    lines = [
        "",
        f"Manifold {__version__} serves at  {url}",
        *(f"  as agent {name:<12} {base}/agents/{name}/mcp" for name in agents),
        "",
        "Upstreams",
        *(f"  {line}" for line in upstream_lines(serving.runtime.registry)),
        "",
        "Connect",
        *(
            f"  {who}\n    {text}"
            for who, text in snippets(url, files, agent, asks=serving.gateway.identity.asks).items()
        ),
        "",
    ]
    return "\n".join(lines)


def upstream_lines(upstreams: Iterable[AnyUpstream], *, once: bool = False) -> list[str]:
    """One line for each upstream: its state, what it offers, or why it does not.

    Args:
        upstreams: the upstreams.
        once: whether nobody tries again where that failed.
    """
    found = list(upstreams)
    width = max((len(one.name) for one in found), default=0)
    states = [_FAILED if once and one.state is UpstreamState.BACKING_OFF else one.state.value for one in found]
    return [
        f"{_MARKS.get(one.state, '✗')} {one.name:<{width}}  {state:<12} {_what(one)}"
        for one, state in zip(found, states, strict=True)
    ]


def _what(upstream: AnyUpstream) -> str:
    if upstream.error is not None:
        return upstream.error.text()
    if upstream.state is UpstreamState.READY and upstream.listing is not None:
        return offered(upstream.listing)
    return upstream.reason


def offered(listing: Listing) -> str:
    """How much a listing holds."""
    counts = {
        Kind.TOOL: len(listing.tools),
        Kind.RESOURCE: len(listing.resources),
        Kind.TEMPLATE: len(listing.templates),
        Kind.PROMPT: len(listing.prompts),
    }
    shown = [f"{count} {kind.value}{'' if count == 1 else 's'}" for kind, count in counts.items() if count]
    return f"{', '.join(shown) or 'nothing'} ({listing.version})"


def started(*arguments: str) -> list[str]:
    """How another program starts Manifold: by the whole path, for what a desktop starts has a ``PATH`` of its own."""
    command = shutil.which(_COMMAND)
    return [*([sys.executable, "-m", "proxy"] if command is None else [str(Path(command).absolute())]), *arguments]


def snippets(url: str, files: tuple[Path, ...], agent: str | None, *, asks: bool = False) -> dict[str, str]:
    """Client -> what to paste into its configuration; with a place for the token if the doors ask for one."""
    name = "manifold"
    program, *args = started("serve", "--stdio")
    for file in files:
        args += ["--config", str(file.resolve())]
    if agent is not None:
        args += ["--agent", agent]
    headers = {"headers": {"Authorization": _TOKEN}} if asks else {}
    option = f' --header "Authorization: {_TOKEN}"' if asks else ""
    desktop = {"mcpServers": {name: {"command": program, "args": args}}}
    return {
        "Claude Desktop (claude_desktop_config.json)": json.dumps(desktop),
        "Cursor (.cursor/mcp.json)": json.dumps({"mcpServers": {name: {"url": url, **headers}}}),
        "VS Code (.vscode/mcp.json)": json.dumps({"servers": {name: {"type": "http", "url": url, **headers}}}),
        "Claude Code": f"claude mcp add --transport http {name} {url}{option}",
    }
