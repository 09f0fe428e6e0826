"""Which agents an HTTP request is for: ``/agents/<name>/mcp`` is ``/mcp`` as that agent sees it.

The agents of its credential and that of the command line apply as well: the intersection counts.
"""

from collections.abc import Callable, Container
from contextvars import ContextVar
from typing import Final

from starlette.responses import JSONResponse
from starlette.types import ASGIApp, Receive, Scope, Send

from proxy.agents.selection import joined
from proxy.model import ANONYMOUS, Principal

AGENT_KEY: Final = "manifold.agent"
"""The key of the ASGI scope under which the names of the agents travel, joined."""

PRINCIPAL_KEY: Final = "manifold.principal"
"""The key under which the principal travels."""

WITNESS_KEY: Final = "manifold.witness"
"""The key of a ``Witness``, where somebody wants to know whom a request turned out to be from."""

PREFIX: Final = "/agents/"

current: ContextVar[tuple[str | None, Principal]] = ContextVar("manifold_current", default=(None, ANONYMOUS))
"""Agent and principal of the HTTP request under way, for callbacks that get no request (``Mcp-Param`` validation)."""


class Witness:
    """Learns whom a request is from. Scopes are copied on their way inwards, so what is outside sees no change."""

    __slots__ = ("principal",)

    def __init__(self) -> None:
        self.principal = ANONYMOUS


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
    """ASGI middleware: takes the agent off the path, and puts all that apply into the scope. An unknown one is a 404.

    Args:
        app: what serves the request then.
        known: the agents that there are.
        flag: the agent that applies to everybody besides, by the command line.
        sees: whether agents, joined, have anything in common.
    """

    def __init__(
        self,
        app: ASGIApp,
        known: Callable[[], Container[str]],
        flag: str | None = None,
        sees: Callable[[str], bool] = lambda _agents: True,
    ) -> None:
        self.app = app
        self._known = known
        self._flag = flag
        self._sees = sees

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request as the agents that apply."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        name, path = split(scope["path"])
        try:
            agents = self.applying(name, scope.get(PRINCIPAL_KEY, ANONYMOUS))
        except LookupError:
            await JSONResponse({"error": "no such agent"}, status_code=404)(scope, receive, send)
            return
        if name is None:
            await self._serve({**scope, AGENT_KEY: agents}, receive, send)
        else:
            # The prefix goes to root_path so that the legacy SSE transport names its message endpoint below it.
            root = scope.get("root_path", "") + PREFIX + name
            inner = {**scope, "path": path, "raw_path": path.encode(), "root_path": root, AGENT_KEY: agents}
            await self._serve(inner, receive, send)

    def applying(self, name: str | None, principal: Principal) -> str | None:
        """All agents that apply to somebody at the door of an agent, or at the one for all; joined.

        Raises:
            LookupError: there is no such agent.
        """
        if name is None and self._flag is None and not principal.agents:
            return None
        agents = joined((name, *principal.agents, self._flag))
        if name is not None and (
            name not in self._known() or (agents != name and agents is not None and not self._sees(agents))
        ):
            raise LookupError(name)  # one that it can see nothing of does not exist for it either
        return agents

    async def _serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        token = current.set((scope.get(AGENT_KEY), scope.get(PRINCIPAL_KEY, ANONYMOUS)))
        try:
            await self.app(scope, receive, send)
        finally:
            current.reset(token)


def split(path: str) -> tuple[str | None, str]:
    """Split ``/agents/<name>/<rest>`` into the name and ``/<rest>``; any other path has no agent."""
    if not path.startswith(PREFIX):
        return None, path
    name, slash, rest = path[len(PREFIX) :].partition("/")
    return name, slash + rest
