"""Which agent an HTTP request is for: ``/agents/<name>/mcp`` is ``/mcp`` as that agent sees it."""

from collections.abc import Callable, Container
from contextvars import ContextVar
from typing import Final

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

AGENT_KEY: Final = "manifold.agent"
"""The key of the ASGI scope under which the agent's name travels."""

PREFIX: Final = "/agents/"

current_agent: ContextVar[str | None] = ContextVar("manifold_agent", default=None)
"""The agent of the HTTP request under way, for callbacks that get no request (``Mcp-Param`` validation)."""


class TrimmedHeaders:
    """ASGI middleware: takes the blanks off the ends of ``Mcp-*`` header values.

    They are no part of a value (RFC 9110, 5.5), but not every HTTP parser removes them, and such a header would then
    not match the body of its request.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] == "http" and any(_padded(name, value) for name, value in scope["headers"]):
            scope = {**scope, "headers": [(name, _trimmed(name, value)) for name, value in scope["headers"]]}
        await self.app(scope, receive, send)


def _trimmed(name: bytes, value: bytes) -> bytes:
    return value.strip(b" \t") if name.startswith(b"mcp-") else value


def _padded(name: bytes, value: bytes) -> bool:
    return _trimmed(name, value) != value


class AgentPath:
    """ASGI middleware: takes the agent off the path and puts it into the scope. An unknown agent is a 404.

    Args:
        app: what serves the request then.
        known: the agents that there are.
        default: the agent of a path that names none; None is the store.
    """

    def __init__(self, app: ASGIApp, known: Callable[[], Container[str]], default: str | None = None) -> None:
        self.app = app
        self._known = known
        self._default = default

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request as the agent that its path names."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        name, path = split(scope["path"])
        if name is None:
            await self._serve({**scope, AGENT_KEY: self._default}, receive, send)
        elif name not in self._known():
            await JSONResponse({"error": "no such agent"}, status_code=404)(scope, receive, send)
        else:
            # The prefix goes to root_path so that the legacy SSE transport names its message endpoint below it.
            root = scope.get("root_path", "") + PREFIX + name
            inner = {**scope, "path": path, "raw_path": path.encode(), "root_path": root, AGENT_KEY: name}
            await self._serve(inner, receive, send)

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        token = current_agent.set(scope.get(AGENT_KEY))
        try:
            await self.app(scope, receive, send)
        finally:
            current_agent.reset(token)


def split(path: str) -> tuple[str | None, str]:
    """Split ``/agents/<name>/<rest>`` into the name and ``/<rest>``; any other path has no agent."""
    if not path.startswith(PREFIX):
        return None, path
    name, slash, rest = path[len(PREFIX) :].partition("/")
    return name, slash + rest
