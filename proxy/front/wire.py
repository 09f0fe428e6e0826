"""HTTP for the front: connections that are kept, requests that are certainly sent or certainly not, event streams."""

import contextlib
import select
import ssl
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException, HTTPResponse, HTTPSConnection
from typing import Final
from urllib.parse import urlsplit

CONNECT_TIMEOUT: Final = 5.0
"""Seconds to open a connection."""


class NotSent(Exception):
    """A request did not reach Manifold, for certain; it may be sent again."""


class Lost(Exception):
    """The connection broke after a request was sent; what it did is not known."""


@dataclass(frozen=True)
class Event:
    """One event of a stream."""

    data: bytes
    id: str = ""
    retry: int | None = None
    """Milliseconds."""


class Exchange:
    """A request that was sent, and its answer as it comes in."""

    def __init__(self, wire: "Wire", connection: HTTPConnection) -> None:
        self._wire = wire
        self._connection = connection
        self.response: HTTPResponse | None = None
        """The status and the headers, once they are there."""
        self._closed = False

    def begin(self) -> HTTPResponse:
        """Wait for the status and the headers.

        Raises:
            Lost: there is no answer.
        """
        try:
            self.response = self._connection.getresponse()
        except (OSError, HTTPException, ValueError) as error:
            raise self._lost(error) from error
        return self.response

    def body(self) -> bytes:
        """The rest of the answer; the connection is free for others afterwards.

        Raises:
            Lost: it does not come to its end.
        """
        response = self._answer
        try:
            data = response.read()
        except (OSError, HTTPException, ValueError) as error:
            raise self._lost(error) from error
        self._wire.give_back(self._connection)
        return data

    def events(self) -> Iterator[Event]:
        """The events of a stream, until it ends. A broken stream ends like any other."""
        response = self._answer
        data: list[bytes] = []
        number, retry = "", None
        try:
            while line := response.readline():
                line = line.rstrip(b"\r\n")
                field, _, value = line.partition(b":")
                value = value.removeprefix(b" ")
                if not line:
                    if data or number or retry is not None:
                        yield Event(b"\n".join(data), number, retry)
                    data, number, retry = [], "", None
                elif field == b"data":
                    data.append(value)
                elif field == b"id":
                    number = value.decode("utf-8", "replace")
                elif field == b"retry" and value.isdigit():
                    retry = int(value)
        except (OSError, HTTPException, ValueError):
            self.close()
            return
        self._wire.give_back(self._connection)

    def drain(self) -> None:
        """Read a stream to its end, after everything of interest has come."""
        for _ in self.events():
            pass

    def close(self) -> None:
        """Break off. Whoever waits in another thread for this answer finds it lost."""
        self._closed = True
        if self._connection.sock is not None:
            with contextlib.suppress(OSError):
                self._connection.sock.shutdown(2)

    @property
    def streams(self) -> bool:
        """Whether the answer is a stream of events."""
        return "event-stream" in self._answer.headers.get("Content-Type", "")

    @property
    def closed(self) -> bool:
        """Whether ``close`` was called."""
        return self._closed

    @property
    def _answer(self) -> HTTPResponse:
        return self.response if self.response is not None else self.begin()

    def _lost(self, error: Exception) -> Lost:
        self._connection.close()
        return Lost(str(error) or type(error).__name__)


class Wire:
    """The connections to one endpoint.

    Args:
        url: the endpoint.
        headers: sent with every request.
    """

    def __init__(self, url: str, headers: Mapping[str, str]) -> None:
        parts = urlsplit(url)
        self.url = url
        self._headers = dict(headers)
        self._path = parts.path or "/"
        if parts.query:
            self._path += f"?{parts.query}"
        self._host, self._tls = parts.hostname or "127.0.0.1", parts.scheme == "https"
        self._port = parts.port or (443 if self._tls else 80)
        self._idle: list[HTTPConnection] = []
        self._lock = threading.Lock()

    def send(
        self, body: bytes | None, headers: Mapping[str, str], *, method: str = "POST", timeout: float | None = None
    ) -> Exchange:
        """Send a request; the answer is waited for elsewhere.

        Raises:
            NotSent: Manifold cannot have got all of it.
        """
        connection = self._taken()
        every = {"Accept": "application/json, text/event-stream", **self._headers, **headers}
        if body is not None:
            every["Content-Type"] = "application/json"
        try:
            if connection.sock is None:
                connection.connect()
            connection.sock.settimeout(timeout)
            connection.request(method, self._path, body, every)
        except (OSError, HTTPException) as error:
            connection.close()
            raise NotSent(f"{self.url}: {getattr(error, 'strerror', None) or error}") from error
        return Exchange(self, connection)

    def give_back(self, connection: HTTPConnection) -> None:
        """Keep a connection for the next request."""
        if connection.sock is not None:
            with self._lock:
                self._idle.append(connection)

    def _taken(self) -> HTTPConnection:
        while True:
            with self._lock:
                connection = self._idle.pop() if self._idle else None
            if connection is None:
                return self._new()
            # An idle connection that can be read from was closed by the other side.
            if connection.sock is not None and not select.select([connection.sock], [], [], 0)[0]:
                return connection
            connection.close()

    def _new(self) -> HTTPConnection:
        if self._tls:
            context = ssl.create_default_context()
            return HTTPSConnection(self._host, self._port, timeout=CONNECT_TIMEOUT, context=context)
        return HTTPConnection(self._host, self._port, timeout=CONNECT_TIMEOUT)
