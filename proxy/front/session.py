"""What the front remembers of its client, so that a Manifold that was restarted can take it over."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from proxy.wire import headers as names

META_VERSION: Final = "io.modelcontextprotocol/protocolVersion"

Json = dict[str, Any]

_CHANGED: Final = {
    "tools": "notifications/tools/list_changed",
    "resources": "notifications/resources/list_changed",
    "prompts": "notifications/prompts/list_changed",
}


def modern_version(message: Mapping[str, Any]) -> str | None:
    """The revision that a message of the modern era names in its envelope; None in the handshake era."""
    params = message.get("params")
    meta = params.get("_meta") if isinstance(params, dict) else None
    version = meta.get(META_VERSION) if isinstance(meta, dict) else None
    return version if isinstance(version, str) else None


@dataclass
class Session:
    """A handshake session, or the lack of one."""

    hello: Json | None = None
    """The params of ``initialize`` as the client sent them."""
    id: str | None = None
    version: str = ""
    capabilities: Mapping[str, Any] = field(default_factory=dict)
    ready: bool = False
    """Whether the client has said ``notifications/initialized``."""
    _level: Json | None = None
    _subscribed: dict[str, Json] = field(default_factory=dict)

    @property
    def headers(self) -> dict[str, str]:
        """What every request of the session bears."""
        found = {names.VERSION: self.version} if self.version else {}
        return found | ({names.SESSION: self.id} if self.id else {})

    def opened(self, result: Mapping[str, Any], session_id: str | None) -> None:
        """Manifold answered ``initialize``."""
        self.id, self.version = session_id, str(result.get("protocolVersion", ""))
        self.capabilities = result.get("capabilities") or {}

    def note(self, method: str, params: Any) -> None:
        """Remember a request that changes what the session hears."""
        if not isinstance(params, dict):
            return
        if method == "logging/setLevel":
            self._level = params
        elif method == "resources/subscribe":
            self._subscribed[str(params.get("uri"))] = params
        elif method == "resources/unsubscribe":
            self._subscribed.pop(str(params.get("uri")), None)

    def again(self) -> Iterator[bytes]:
        """The messages that bring a new session to where this one was, after ``initialize``."""
        if self.ready:
            yield b'{"jsonrpc":"2.0","method":"notifications/initialized"}'
        if self._level is not None:
            yield request("front-level", "logging/setLevel", self._level)
        for number, params in enumerate(self._subscribed.values()):
            yield request(f"front-subscribe-{number}", "resources/subscribe", params)

    def changed(self) -> Iterator[bytes]:
        """What the client is told after the takeover: any list may be another now."""
        for kind, method in _CHANGED.items():
            offered = self.capabilities.get(kind)
            if isinstance(offered, dict) and offered.get("listChanged"):
                yield json.dumps({"jsonrpc": "2.0", "method": method}).encode()


_LISTENED: Final = {f"{kind}ListChanged": method for kind, method in _CHANGED.items()}


def missed(acknowledged: Mapping[str, Any]) -> Iterator[bytes]:
    """What the listener of a stream that was opened again is told: anything it listens for may have changed."""
    params = acknowledged.get("params") or {}
    honoured, meta = params.get("notifications") or {}, params.get("_meta")
    for name, method in _LISTENED.items():
        if honoured.get(name):
            about = {} if meta is None else {"params": {"_meta": meta}}
            yield json.dumps({"jsonrpc": "2.0", "method": method, **about}).encode()


class ParamHeaders:
    """Which arguments of which tools travel in ``Mcp-Param-*`` headers, learned from the lists that pass by."""

    def __init__(self) -> None:
        self._maps: dict[str, names.ParamMap] = {}

    def learn(self, frame: bytes) -> None:
        """Look at the answer to ``tools/list``."""
        if names.ANNOTATION.encode() not in frame:
            return
        try:
            tools = json.loads(frame)["result"]["tools"]
            found = {tool["name"]: names.param_map(tool.get("inputSchema")) for tool in tools}
        except (ValueError, KeyError, TypeError):
            return
        self._maps |= {name: one for name, one in found.items() if one}

    def headers(self, version: str, method: str, params: Any) -> dict[str, str]:
        """The headers of a request of the modern era (spec 2026-07-28, transports)."""
        found = {names.VERSION: version, names.METHOD: method}
        name = names.name_value(method, params)
        if name is not None:
            found[names.NAME] = name
        if method == "tools/call" and params.get("name") in self._maps:
            arguments = params.get("arguments")
            if isinstance(arguments, dict):
                found |= names.param_headers(self._maps[params["name"]], arguments)
        return found


def request(number: str | int, method: str, params: Json) -> bytes:
    """A request as bytes."""
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}).encode()


def one_line(frame: bytes) -> bytes:
    """A JSON text on one line: a line break in it can only be a blank between two of its parts."""
    return frame.replace(b"\n", b" ").replace(b"\r", b" ").strip()
