"""A small MCP server over HTTP in a process of its own, so that it can be killed. Run with a label and a port.

It prints its URL. ``who`` (read-only) says its label; ``slow`` (read-only) waits until the process is killed; ``note``
(neither) counts its runs; ``fail`` breaks the connection off; ``keep`` and ``kept`` are state of a session;
``subscribed`` tells the URIs that it is to watch.
"""

import asyncio
import itertools
import json
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))

from tests.support.link_http import Request, Response, serve

READ_ONLY = {"readOnlyHint": True}
TOOLS: dict[str, dict[str, Any]] = {
    **dict.fromkeys(("who", "slow"), READ_ONLY),
    **{name: {} for name in ("fail", "note", "keep", "kept", "subscribed")},
}


class Server:
    """What the server answers."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.runs = 0
        self.kept: dict[str, str] = {}
        self.watched: set[str] = set()
        self.sessions: set[str] = set()
        self._numbers = itertools.count(1)

    async def __call__(self, request: Request, response: Response) -> None:
        if request.method != "POST":
            response.whole(405)
        elif request.rpc == "initialize":
            self.sessions.add(session := f"{self.label}-{next(self._numbers)}")
            response.result(
                {
                    "protocolVersion": "2025-06-18",
                    "capabilities": {"tools": {}, "resources": {"subscribe": True}},
                    "serverInfo": {"name": self.label, "version": "1"},
                },
                Mcp_Session_Id=session,
            )
        elif request.headers.get("mcp-session-id") not in self.sessions:
            response.whole(404)
        elif "id" not in request.message:
            response.whole(202)
        elif request.rpc == "tools/list":
            tools = [
                {"name": name, "inputSchema": {"type": "object"}, "annotations": notes} for name, notes in TOOLS.items()
            ]
            response.result({"tools": tools})
        elif request.rpc == "tools/call":
            await self.call(request, response)
        elif request.rpc in ("ping", "resources/list", "resources/templates/list"):
            response.result({})
        elif request.rpc in ("resources/subscribe", "resources/unsubscribe"):
            change = self.watched.add if request.rpc.endswith("/subscribe") else self.watched.discard
            change(request.message["params"]["uri"])
            response.result({})
        else:
            error = {"code": -32601, "message": "no such method"}
            response.json({"jsonrpc": "2.0", "id": request.message["id"], "error": error})

    async def call(self, request: Request, response: Response) -> None:
        params = request.message["params"]
        session = request.headers.get("mcp-session-id", "")
        text = self.label
        match params["name"]:
            case "slow":
                await asyncio.Event().wait()
            case "fail":
                await response.drop()
                return
            case "note":
                self.runs += 1
                text = f"{self.label} {self.runs}"
            case "keep":
                self.kept[session] = params["arguments"]["value"]
            case "subscribed":
                text = " ".join([self.label, *sorted(self.watched)])
            case "kept":
                text = self.kept.get(session, "nothing")
        response.result({"content": [{"type": "text", "text": text}]})


@dataclass
class Served:
    """Such a server in its process."""

    url: str
    process: Process

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1].split("/")[0])

    async def kill(self) -> None:
        self.process.kill()
        await self.process.wait()


@asynccontextmanager
async def served(label: str, port: int = 0) -> AsyncIterator[Served]:
    """Start one, and kill it when the block is left."""
    async with await anyio.open_process([sys.executable, __file__, label, str(port)], stderr=None) as process:
        assert process.stdout is not None
        with anyio.fail_after(30):
            line = await BufferedByteReceiveStream(process.stdout).receive_until(b"\n", 1000)
        server = Served(json.loads(line)["url"], process)
        try:
            yield server
        finally:
            with anyio.CancelScope(shield=True):
                if process.returncode is None:
                    await server.kill()


async def main(label: str, port: int) -> None:
    async with serve(Server(label), port=port) as site:
        print(json.dumps({"url": site.url}), flush=True)
        await anyio.sleep_forever()


if __name__ == "__main__":
    anyio.run(main, sys.argv[1], int(sys.argv[2]))
