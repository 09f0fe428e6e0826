"""The front's side of Manifold: one endpoint, one session at most, taken up again when Manifold was restarted."""

import json
import threading
from collections.abc import Callable, Mapping
from typing import Any, Final

from proxy.front.place import for_agent
from proxy.front.session import Session, request
from proxy.front.start import Unavailable
from proxy.front.wire import Exchange, Lost, NotSent, Wire

BACKOFF: Final = (0.0, 0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2)
"""Seconds before each attempt to reach a Manifold that does not answer."""
ANSWER_TIMEOUT: Final = 60.0
"""Seconds for the answers of a takeover."""

Find = Callable[[bool], str | None]
"""The endpoint of the store, if Manifold runs; told whether to start it."""


class Uplink:
    """Sends to Manifold.

    Args:
        find: where Manifold is.
        agent: whose endpoint is used; None is the store's.
        headers: sent with every request.
    """

    def __init__(self, find: Find, agent: str | None, headers: Mapping[str, str]) -> None:
        self._find = find
        self._agent = agent
        self._headers = headers
        self._wire: Wire | None = None
        self._lock = threading.RLock()
        self._closing = threading.Event()
        self.session = Session()
        self.generation = 0
        """Counts the sessions that were opened again."""
        self.on_reopened: Callable[[], None] = lambda: None

    def open(self) -> None:
        """Find Manifold, or start it.

        Raises:
            Unavailable: it cannot be had.
        """
        self._wire = self._new(start=True)

    def send(self, body: bytes, headers: Callable[[], Mapping[str, str]]) -> tuple[Exchange, int]:
        """Send a message, to a Manifold that is started again if need be; returns the session's generation as well.

        Raises:
            Unavailable: it was not sent.
        """
        fault = NotSent()
        for _ in BACKOFF:
            generation, wire = self.generation, self._wire
            try:
                if wire is not None:
                    return wire.send(body, headers()), generation
            except NotSent as error:
                fault = error
            self.recover(generation)
        raise Unavailable(f"Manifold cannot be reached: {fault}")

    def listen(self, last_event: str) -> Exchange:
        """Open the stream of what belongs to no request.

        Raises:
            NotSent: Manifold is gone.
        """
        wire = self._wire
        if wire is None:
            raise NotSent
        again = {"Last-Event-ID": last_event} if last_event else {}
        return wire.send(None, self.session.headers | again, method="GET")

    def recover(self, generation: int, *, start: bool = True) -> bool:
        """Open the session again, unless somebody has done so since ``generation``. Returns whether one is open.

        Raises:
            Unavailable: it cannot be had.
        """
        with self._lock:
            if self.generation != generation:
                return True
            for wait in BACKOFF if start else (0.0,):
                if self._closing.wait(wait):
                    break
                if self._reopened(start=start):
                    self.generation += 1
                    self.on_reopened()
                    return True
        if start:
            raise Unavailable("Manifold does not answer. Is it running? `mcp-manifold status` tells.")
        return False

    def wait(self, seconds: float) -> bool:
        """Wait; returns whether the front is about to end."""
        return self._closing.wait(seconds)

    def close(self) -> None:
        """End the session, if there is one."""
        self._closing.set()
        if self._wire is not None and self.session.id:
            try:
                self._wire.send(None, self.session.headers, method="DELETE", timeout=1.0).body()
            except (NotSent, Lost):
                return  # it is gone, and the session with it

    def _new(self, *, start: bool) -> Wire | None:
        url = self._find(start)
        return None if url is None else Wire(for_agent(url, self._agent), self._headers)

    def _reopened(self, *, start: bool) -> bool:
        wire = self._new(start=start)
        if wire is None:
            return False
        try:
            if self.session.hello is not None:
                self._introduce(wire)
        except (NotSent, Lost, ValueError, KeyError, TypeError):
            return False
        self._wire = wire
        return True

    def _introduce(self, wire: Wire) -> None:
        """Shake hands for the client, as it did, and bring the session to where it was."""
        exchange = wire.send(request("front-hello", "initialize", self.session.hello or {}), {}, timeout=ANSWER_TIMEOUT)
        response = exchange.begin()
        result = _answer(exchange)["result"]
        self.session.opened(result, response.headers.get("Mcp-Session-Id"))
        for body in self.session.again():
            wire.send(body, self.session.headers, timeout=ANSWER_TIMEOUT).body()


def _answer(exchange: Exchange) -> dict[str, Any]:
    """The answer to a request that nobody is asked anything for."""
    if not exchange.streams:
        return dict(json.loads(exchange.body()))
    messages = [json.loads(event.data) for event in exchange.events() if event.data]
    return dict(next(message for message in messages if "method" not in message))
