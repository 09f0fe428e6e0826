"""The battlefield: a real Manifold with two agents whose upstreams overlap, and clients that say whatever they like.

``ann`` is the victim, ``eve`` the attacker. Both see ``files``, ``jobs`` and ``old``; only ann sees ``vault`` and may
wipe files, and only eve sees ``den``. ``open`` belongs to nobody in particular: the store's token.
"""

import json
import re
import ssl
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import anyio
import httpx2
from anyio.abc import SocketStream

from tests.support.manifold import PATIENCE, ROOT, Home, Json, Manifold, Wire, serving
from tests.support.scripted import upstream

ANN: Final = "ann-0123456789abcdef"
EVE: Final = "eve-0123456789abcdef"
STORE: Final = "store-0123456789abcdef"
META: Final = "io.modelcontextprotocol/"
MODERN: Final = "2026-07-28"
ACCEPT: Final = "application/json, text/event-stream"
LANES: Final = {"express": True, "fastmcp": False}

HELLO: Final[Json] = {"jsonrpc": "2.0", "id": 0, "method": "initialize", "params": Wire.HELLO}
READY: Final[Json] = {"jsonrpc": "2.0", "method": "notifications/initialized"}
LIST: Final[Json] = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}

ANNS: Final = frozenset({"vault", "wipe", "gold", "confess", "unlock"})
"""Words that are in nothing that eve is told."""

_FILES: Final[Json] = {
    "prompts": ["ask", "confess"],
    "resources": ["file:///open", "file:///wipe-list"],
    "templates": ["file:///{name}", "gold:///{name}"],
}
AGENTS: Final[Json] = {
    "ann": {"servers": ["files", "jobs", "old", "vault"], "tokens": [ANN]},
    "eve": {
        "servers": ["files", "jobs", "old", "den"],
        "tools": {"deny": ["wipe"]},
        "prompts": {"deny": ["confess"]},
        "resources": {"deny": ["file:///wipe*", "gold:*"]},
        "tokens": [EVE],
    },
}


def upstreams() -> Json:
    asking = str(ROOT / "tests" / "support" / "asking_server.py")
    tasks = str(ROOT / "tests" / "conformance" / "tasks_fixture.py")
    return {
        "files": upstream("files", "echo", "wipe", **_FILES),
        "vault": upstream("vault", "unlock", prompts=["gold"], resources=["vault:///gold"]),
        "den": upstream("den", "scratch"),
        "jobs": {"command": sys.executable, "args": [tasks, "--stdio"]},
        "old": {"command": sys.executable, "args": [asking], "era": "handshake"},
    }


@asynccontextmanager
async def battlefield(folder: Path, *, express: bool = True, **sections: Any) -> AsyncIterator[Manifold]:
    """Serve all of it, ready."""
    server = {"express": express, **sections.pop("server", {})}
    settings = {"agents": AGENTS, "auth": {"tokens": [STORE]}, "log": {"format": "json"}, **sections}
    home = Home(folder).write(sections.pop("mcpServers", None) or upstreams(), server=server, **settings)
    async with serving(home) as manifold:
        await manifold.banner()
        yield manifold
    told = manifold.said
    assert "Traceback" not in told, told


_TLS: Final = ssl.create_default_context()
"""Made once: it takes longer than a request."""


def browser(**settings: Any) -> httpx2.AsyncClient:
    """A client that keeps connections open."""
    return httpx2.AsyncClient(timeout=PATIENCE, verify=_TLS, **settings)


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def answer_in(text: str) -> Json:
    """The last message of an answer, be it a stream or not."""
    events = [line.removeprefix("data: ") for line in text.splitlines() if line.startswith("data: {")]
    found: Json = json.loads(events[-1] if events else text)
    return found


def call(number: Any, name: str = "echo", **arguments: Any) -> Json:
    params = {"name": name, "arguments": arguments}
    return {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}


def request(method: str, number: Any = 1, **params: Any) -> Json:
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": params}


class Party:
    """Somebody who speaks by hand, in both eras.

    Args:
        url: the door.
        token: the credential; empty shows none.
        session: a session id to go on with.
    """

    def __init__(self, url: str, token: str, session: str = "") -> None:
        self.url = url
        self.token = token
        self.session = session

    def headers(self, **more: str) -> dict[str, str]:
        own = {"Accept": ACCEPT, "Content-Type": "application/json"}
        session = {"Mcp-Session-Id": self.session} if self.session else {}
        return {**own, **(bearer(self.token) if self.token else {}), **session, **more}

    async def open(self, **capabilities: Any) -> "Party":
        hello = {**HELLO, "params": {**Wire.HELLO, "capabilities": capabilities}}
        self.session = (await self.post(hello)).headers["mcp-session-id"]
        await self.post(READY)
        return self

    def stolen_by(self, token: str, url: str = "") -> "Party":
        """The same session in another's hands."""
        return Party(url or self.url, token, self.session)

    async def post(self, message: Any, method: str = "POST", **headers: str) -> httpx2.Response:
        async with browser() as client:
            return await client.request(method, self.url, json=message, headers=self.headers(**headers))

    async def ask(self, method: str, **params: Any) -> Json:
        return answer_in((await self.post(request(method, **params))).text)

    async def modern(
        self, method: str, params: Mapping[str, Any], *, number: Any = 1, able: Mapping[str, Any] | None = None
    ) -> Json:
        """Send a request of the modern era; the last message of the answer."""
        return answer_in((await self.modern_post(method, params, number=number, able=able)).text)

    async def modern_post(
        self, method: str, params: Mapping[str, Any], *, number: Any = 1, able: Mapping[str, Any] | None = None
    ) -> httpx2.Response:
        message, headers = modern_request(method, params, number=number, able=able)
        async with browser() as client:
            return await client.post(self.url, json=message, headers=self.headers(**headers))


def modern_request(
    method: str, params: Mapping[str, Any], *, number: Any = 1, able: Mapping[str, Any] | None = None
) -> tuple[Json, dict[str, str]]:
    """A request of the modern era and the headers that say the same."""
    about = {
        f"{META}protocolVersion": MODERN,
        f"{META}clientCapabilities": dict(able or {}),
        f"{META}clientInfo": {"name": "t", "version": "1"},
    }
    meta = {**about, **params.get("_meta", {})}
    named = next((str(params[key]) for key in ("name", "uri", "taskId") if key in params), "")
    headers = {"MCP-Protocol-Version": MODERN, "Mcp-Method": method, **({"Mcp-Name": named} if named else {})}
    return {"jsonrpc": "2.0", "id": number, "method": method, "params": {**params, "_meta": meta}}, headers


# -- bytes -------------------------------------------------------------------------------------------------------------


@asynccontextmanager
async def raw(manifold: Manifold) -> AsyncIterator[SocketStream]:
    """A plain connection to the listener."""
    port = int(manifold.base.rpartition(":")[2])
    async with await anyio.connect_tcp("127.0.0.1", port) as stream:
        yield stream


async def spoken(manifold: Manifold, data: bytes, *, enough: int = 1, patience: float = PATIENCE) -> bytes:
    """Say something and hear the answer: until the connection is closed, or so many responses are there."""
    told = b""
    async with raw(manifold) as stream:
        try:
            await stream.send(data)
            with anyio.fail_after(patience):
                while not _complete(told, enough):
                    told += await stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            pass
    return told


def _complete(told: bytes, enough: int) -> bool:
    found = 0
    while told.startswith(b"HTTP/1."):
        head, end, rest = told.partition(b"\r\n\r\n")
        if not end:
            return False
        length = re.search(rb"(?im)^content-length: *(\d+)", head)
        if length is not None:
            if len(rest) < int(length[1]):
                return False
            told = rest[int(length[1]) :]
        elif b"chunked" in head.lower():
            _, end, told = rest.partition(b"0\r\n\r\n")
            if not end:
                return False
        else:
            told = rest
        found += 1
    return found >= enough


def statuses(told: bytes) -> list[int]:
    """The statuses of all responses."""
    return [int(found) for found in re.findall(rb"HTTP/1\.[01] (\d{3}) ", told)]


def head_of(method: str, path: str, *lines: str, host: str = "127.0.0.1", version: str = "1.1") -> bytes:
    """The head of a request."""
    own = [f"{method} {path} HTTP/{version}", *([f"Host: {host}"] if host else []), *lines]
    return "\r\n".join([*own, "", ""]).encode("latin-1")


def post_of(path: str, message: Any, *lines: str, token: str = "", host: str = "127.0.0.1") -> bytes:
    """A whole POST."""
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    own = [f"Content-Length: {len(body)}", f"Accept: {ACCEPT}", "Content-Type: application/json"]
    shown = [f"Authorization: Bearer {token}"] if token else []
    return head_of("POST", path, *own, *shown, *lines, host=host) + body


def rss(pid: int) -> int:
    """Resident memory of a process, in bytes."""
    found = re.search(r"VmRSS:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    assert found is not None
    return int(found[1]) * 1024


async def still_serves(manifold: Manifold, token: str = ANN) -> None:
    """A good request is answered, in each era."""
    party = Party(manifold.url, token)
    with anyio.fail_after(PATIENCE):
        assert "tools" in (await party.modern("tools/list", {}))["result"]
        assert "tools" in (await (await party.open()).ask("tools/list"))["result"]
        assert (await party.post(None, "DELETE")).status_code == 200
