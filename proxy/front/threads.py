"""Threads that are kept for the next piece of work; ``concurrent.futures`` takes 10 ms to import."""

import queue
import threading
from collections.abc import Callable


class Threads:
    """Runs pieces of work, each at once and in a thread of its own; threads are used again and end with the process."""

    def __init__(self) -> None:
        self._work: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._idle = 0
        self._lock = threading.Lock()

    def start(self, work: Callable[[], None]) -> None:
        """Start a piece of work."""
        with self._lock:
            fresh = self._idle == 0
            if not fresh:
                self._idle -= 1
        self._work.put(work)
        if fresh:
            threading.Thread(target=self._run, daemon=True).start()

    def _run(self) -> None:
        while True:
            self._work.get()()
            with self._lock:
                self._idle += 1
