"""The stream of what belongs to no request: notifications and questions, in the handshake era."""

import threading
from collections.abc import Callable
from typing import Final

from proxy.front.session import one_line
from proxy.front.threads import Threads
from proxy.front.uplink import Uplink
from proxy.front.wire import Exchange, Lost, NotSent

LISTENING: Final = 2.0
"""Seconds until the stream is there, at most; it is not waited for any longer."""
PAUSE: Final = 0.5
"""Seconds before a stream that ended is opened again, where Manifold does not say."""
SLOWEST: Final = 30.0
"""Seconds between two looks for a Manifold that is gone, at most."""


class Hearing:
    """Hears for one client.

    Args:
        uplink: Manifold.
        threads: where to wait.
        write: puts a message on standard output.
    """

    def __init__(self, uplink: Uplink, threads: Threads, write: Callable[[bytes], None]) -> None:
        self._uplink = uplink
        self._threads = threads
        self._write = write

    def begin(self) -> None:
        """Open the stream for the session as it is now, if it is one.

        Returns when it is open: what the client's next request causes must not be told to nobody.
        """
        generation, is_open = self._uplink.generation, threading.Event()
        if self._uplink.session.id:
            self._threads.start(lambda: self._hear(generation, is_open))
            is_open.wait(LISTENING)

    def _hear(self, generation: int, is_open: threading.Event) -> None:
        last, pause = "", PAUSE
        while generation == self._uplink.generation:
            try:
                exchange = self._uplink.listen(last)
                exchange.begin()
                is_open.set()
                if not exchange.streams:
                    exchange.body()
                    return  # Manifold has no such stream, or no such session; the next request finds out
                last, pause = self._carried(exchange, last)
            except (NotSent, Lost):
                is_open.set()
                # It is gone. Whoever ended it may want that, so it is looked for, but not started.
                pause = min(2 * pause, SLOWEST)
                if self._uplink.recover(generation, start=False):
                    return
            if self._uplink.wait(pause):
                return

    def _carried(self, exchange: Exchange, last: str) -> tuple[str, float]:
        """Carry events until the stream ends; returns the last one's id, and the pause that Manifold wishes."""
        pause = PAUSE
        for event in exchange.events():
            last, pause = event.id or last, pause if event.retry is None else event.retry / 1000
            if event.data:
                self._write(one_line(event.data))
        return last, pause
