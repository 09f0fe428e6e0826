"""An upstream for tests of the Python API: plain MCP over HTTP in this very process, cheap enough for many of them."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from tests.support.link_http import Request, Response, serve

Json = dict[str, Any]
Tool = Callable[[Json], Awaitable[Json]]


def text(words: str, **more: Any) -> Json:
    """A tool's result."""
    return {"content": [{"type": "text", "text": words}], **more}


class Refusal(Exception):
    """What a tool raises to be answered with a JSON-RPC error."""

    def __init__(self, code: int, message: str, data: Any = None) -> None:
        super().__init__(message)
        self.error = {"code": code, "message": message, "data": data}


@dataclass
class Peer:
    """One upstream: what it offers, and what it was asked."""

    name: str
    tools: dict[str, Tool] = field(default_factory=dict)
    schemas: dict[str, Json] = field(default_factory=dict)
    url: str = ""
    calls: list[Json] = field(default_factory=list)
    """The params of all ``tools/call`` requests."""
    sessions: list[tuple[str, Json]] = field(default_factory=list)
    """The same, each with the session in which it came."""
    numbers: Iterator[int] = field(default_factory=count)
    listed: int = 0
    """How often its tools were listed."""
    at_once: int = 0
    most_at_once: int = 0
    down: bool = False

    def define(self, *names: str, schema: Json | None = None) -> "Peer":
        """Offer tools that answer with their own name, the peer's, and what they were given."""
        for name in names:
            self.tools[name] = self._echo(name)
            self.schemas[name] = schema or {"type": "object"}
        return self

    def _echo(self, name: str) -> Tool:
        async def echo(arguments: Json) -> Json:
            told = {"server": self.name, "tool": name, "arguments": arguments}
            return text(json.dumps(told), structuredContent=told)

        return echo

    async def handle(self, request: Request, response: Response) -> None:
        """Answer one HTTP request."""
        if self.down:
            response.whole(503, b"down")
        elif request.method != "POST":
            response.whole(405, b"")
        elif "id" not in request.message:
            response.whole(202)
        else:
            await self._answer(request, response)

    async def _answer(self, request: Request, response: Response) -> None:
        message = request.message
        params = message.get("params") or {}
        match message["method"]:
            case "initialize":
                capabilities = {"tools": {"listChanged": True}}
                info = {"name": self.name, "version": "1"}
                result = {"protocolVersion": "2025-11-25", "capabilities": capabilities, "serverInfo": info}
                response.result(result, Mcp_Session_Id=f"{self.name}-{next(self.numbers)}")
            case "tools/list":
                self.listed += 1
                response.result({"tools": [{"name": name, "inputSchema": self.schemas[name]} for name in self.tools]})
            case "tools/call":
                self.sessions.append((request.headers.get("mcp-session-id", ""), params))
                await self._call(message["id"], params, response)
            case "ping":
                response.result({})
            case method:
                error = {"code": -32601, "message": f"no {method} here"}
                response.json({"jsonrpc": "2.0", "id": message["id"], "error": error})

    async def _call(self, number: Any, params: Json, response: Response) -> None:
        self.calls.append(params)
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            response.result(await self.tools[params["name"]](params.get("arguments") or {}))
        except Refusal as refusal:
            response.json({"jsonrpc": "2.0", "id": number, "error": refusal.error})
        finally:
            self.at_once -= 1

    def entry(self, **more: Any) -> Mapping[str, Any]:
        """Its entry in a configuration."""
        return {"url": self.url, "era": "handshake", **more}


@asynccontextmanager
async def serving(*peers: Peer) -> AsyncIterator[tuple[Peer, ...]]:
    """Serve peers until the block is left."""
    async with AsyncExitStack() as stack:
        for peer in peers:
            peer.url = (await stack.enter_async_context(serve(peer.handle))).url
        yield peers
