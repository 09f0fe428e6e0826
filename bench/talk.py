"""A small MCP client of the handshake era for what is not measured under load."""

import http.client
import json
import socket
import time
from typing import Any, Final
from urllib.parse import urlsplit

HELLO: Final = {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "bench", "version": "1"}}


class Refused(Exception):
    """An answer that is none."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"HTTP {status}: {text[:120]}")
        self.status = status


def until_listening(port: int, seconds: float) -> None:
    """Wait until somebody listens at a port of this machine. Raises OSError if nobody does."""
    until = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)
        else:
            return


class Session:
    """One session on one connection. Raises OSError, ValueError or Refused."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._path = parts.path
        self._connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
        self._headers = {"Content-Type": "application/json", "Accept": "application/json, text/event-stream"}
        self.request("initialize", HELLO)
        self._headers["Mcp-Protocol-Version"] = HELLO["protocolVersion"]  # type: ignore[assignment]  # a text
        self._post({"method": "notifications/initialized"})

    def request(self, method: str, params: dict[str, Any] | None = None) -> dict[str, Any]:
        """Ask, and return the result."""
        found = self._post({"id": 1, "method": method, "params": params or {}})
        if "result" not in found:
            raise ValueError(f"{method}: {json.dumps(found)[:200]}")
        result: dict[str, Any] = found["result"]
        return result

    def tools(self) -> list[str]:
        """The names of all tools."""
        return [tool["name"] for tool in self.request("tools/list")["tools"]]

    def close(self) -> None:
        """Close the connection; the session stays."""
        self._connection.close()

    def _post(self, message: dict[str, Any]) -> dict[str, Any]:
        self._connection.request("POST", self._path, json.dumps({"jsonrpc": "2.0", **message}), self._headers)
        response = self._connection.getresponse()
        body = response.read()
        if response.status >= 300:
            raise Refused(response.status, body.decode("utf-8", "replace"))
        if session := response.headers.get("Mcp-Session-Id"):
            self._headers["Mcp-Session-Id"] = session
        if "event-stream" in response.headers.get("Content-Type", ""):
            frames = [line[5:] for line in body.splitlines() if line.startswith(b"data:") and b"{" in line]
            body = frames[-1]
        return dict(json.loads(body)) if body.strip() else {}
