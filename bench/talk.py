"""A small MCP client of the handshake era for what is not measured under load."""

import http.client
import json
import socket
import time
from typing import Any
from urllib.parse import urljoin, urlsplit

from bench.speaking import HANDSHAKE, HELLO


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
        self._headers["Mcp-Protocol-Version"] = HANDSHAKE
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


class LegacySession:
    """One session of the legacy SSE transport: a stream that is read, and POSTs. Raises what ``Session`` raises."""

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port
        self._stream = http.client.HTTPConnection(self._host, self._port, timeout=30)
        self._stream.request("GET", parts.path, headers={"Accept": "text/event-stream"})
        self._events = self._stream.getresponse()
        if self._events.status != 200:
            raise Refused(self._events.status, self._events.read().decode("utf-8", "replace"))
        self._place = urljoin(url, self._next())
        self._request("initialize", HELLO)
        self._post({"method": "notifications/initialized"})

    def tools(self) -> list[str]:
        """The names of all tools."""
        return [tool["name"] for tool in self._request("tools/list", {})["tools"]]

    def close(self) -> None:
        """Close the stream, and so the session."""
        self._events.close()
        self._stream.close()

    def _request(self, method: str, params: dict[str, Any]) -> dict[str, Any]:
        self._post({"id": 1, "method": method, "params": params})
        while "method" in (found := json.loads(self._next())):
            pass
        if "result" not in found:
            raise ValueError(f"{method}: {json.dumps(found)[:200]}")
        result: dict[str, Any] = found["result"]
        return result

    def _post(self, message: dict[str, Any]) -> None:
        parts = urlsplit(self._place)
        posting = http.client.HTTPConnection(self._host, self._port, timeout=30)
        body = json.dumps({"jsonrpc": "2.0", **message})
        posting.request("POST", f"{parts.path}?{parts.query}", body, {"Content-Type": "application/json"})
        response = posting.getresponse()
        said = response.read()
        posting.close()
        if response.status >= 300:
            raise Refused(response.status, said.decode("utf-8", "replace"))

    def _next(self) -> str:
        """The data of the next event that is a message, or says where to write."""
        kind, data = "message", ""
        while line := self._events.readline():
            text = line.decode().rstrip("\r\n")
            if text.startswith("event:"):
                kind = text[6:].strip()
            elif text.startswith("data:"):
                data += text[5:].strip()
            elif not text:
                if data and kind in ("message", "endpoint"):
                    return data
                kind, data = "message", ""
        raise ValueError("the stream ended")
