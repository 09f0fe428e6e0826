"""Lines that go to a file or a stream, written by a thread of its own so that no call ever waits for a disk.

Theory of operation. ``put`` appends to a queue in memory and wakes the thread if it sleeps; the thread gathers what
comes within a moment and writes it at once. While writing fails (a full disk, a directory that is gone), what is queued
stays, the thread tries again from time to time, and what does not fit into the queue is counted as lost; the log says
so, and the journal itself as soon as it can be written again. A file is opened for appending only, and several
processes may share one: each write is whole lines, and who finds that the file was moved away opens it anew.
"""

import fcntl
import os
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

import structlog

from proxy.masking import masked

log = structlog.get_logger(__name__)

GATHER: Final = 0.02
"""Seconds in which lines are gathered before they are written."""
RETRY: Final = 1.0
"""Seconds between two tries to write."""
LAST: Final = 5.0
"""Seconds that the last lines have to be written when the journal is closed."""
MOST_BYTES: Final = 16 * 1024 * 1024
"""Bytes that wait to be written."""


class Out(Protocol):
    """Where lines end up."""

    def write(self, data: bytes) -> int:
        """Write whole lines, or as much of them as can be; returns how many bytes. Raises OSError."""
        ...

    def close(self) -> None:
        """Write no more."""
        ...


@dataclass(frozen=True, slots=True)
class Rotation:
    """When a file is set aside, and how many of those are kept."""

    size: int = 64 * 1024 * 1024
    """Bytes that it must not exceed; 0 never sets it aside."""
    keep: int = 8


class AppendedFile:
    """A file that is only ever appended to, readable for its owner alone.

    Raises:
        OSError: it cannot be opened.
    """

    def __init__(self, path: Path, rotation: Rotation | None = None) -> None:
        self.path = path
        self._rotation = rotation or Rotation(0)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._descriptor = self._opened()

    def write(self, data: bytes) -> int:
        """Append whole lines, and set the file aside before that if it would grow too large. Raises OSError."""
        self._follow()
        limit = self._rotation.size
        size = os.fstat(self._descriptor).st_size
        if limit and size and size + len(data) > limit:
            self._rotate()
        return os.write(self._descriptor, data)

    def close(self) -> None:
        """Close the file."""
        os.close(self._descriptor)

    def _opened(self) -> int:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        return os.open(self.path, flags, 0o600)

    def _follow(self) -> None:
        """Go over to a new file if ours was moved away or deleted (logrotate, another process of ours)."""
        try:
            there = self.path.stat()
        except FileNotFoundError:
            there = None
        ours = os.fstat(self._descriptor)
        if there is None or (there.st_dev, there.st_ino) != (ours.st_dev, ours.st_ino):
            fresh = self._opened()
            os.close(self._descriptor)
            self._descriptor = fresh

    def _rotate(self) -> None:
        if not self.path.is_file():
            return  # a device or a pipe cannot be set aside
        # Two processes may find at once that it is full: the second one sees that it is done.
        fcntl.flock(self._descriptor, fcntl.LOCK_EX)
        before = os.fstat(self._descriptor)
        there = self.path.stat()
        if (there.st_dev, there.st_ino) == (before.st_dev, before.st_ino):
            for number in range(self._rotation.keep - 1, 0, -1):
                older = self._aside(number)
                if older.exists():
                    older.replace(self._aside(number + 1))
            self.path.replace(self._aside(1))
        self._follow()

    def _aside(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")


class Stream:
    """A descriptor of this process: standard output or standard error. It is not closed."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def write(self, data: bytes) -> int:
        """Write lines. Raises OSError."""
        return os.write(self._descriptor, data)

    def close(self) -> None:
        """Leave it to others."""


class Journal:
    """A queue of lines, and the thread that writes them; from its making until ``close``.

    Args:
        out: where to.
        most: lines that wait to be written.
        lost: the line that tells how many lines were lost.
    """

    def __init__(self, out: Out, most: int, lost: Callable[[int], bytes]) -> None:
        self._out = out
        self._most = most
        self._lost_line = lost
        self._lines: deque[bytes] = deque()
        self._came = 0
        """Bytes that were put in, counted by those who put; ``_went`` is the thread's."""
        self._went = 0
        self._rest = b""
        """What was taken from the queue and is not written."""
        self._awake = False
        self._wake = threading.Event()
        self._closing = threading.Event()
        self.written = 0
        """Lines."""
        self.lost = 0
        """Lines that did not fit into the queue."""
        self._told = 0
        self.failing = ""
        """Why lines cannot be written now; empty if they can."""
        self._thread = threading.Thread(target=self._run, name="journal", daemon=True)
        self._thread.start()

    @property
    def full(self) -> bool:
        """Whether the next line would be lost."""
        return len(self._lines) >= self._most or self._came - self._went >= MOST_BYTES

    def put(self, line: bytes) -> bool:
        """Queue a line, which ends with a line feed; False if it is lost. Never waits."""
        if self.full:
            if self.lost == self._told:
                log.error("journal.full", waiting=len(self._lines), reason=self.failing or "it is written too slowly")
            self.lost += 1
            return False
        self._lines.append(line)
        self._came += len(line)
        if not self._awake:
            self._awake = True
            self._wake.set()
        return True

    def close(self) -> None:
        """Write what is queued, for some seconds at most, and end."""
        self._closing.set()
        self._wake.set()
        self._thread.join(LAST)
        if left := len(self._lines) + self._rest.count(b"\n"):
            log.error("journal.lost", lines=left, reason=self.failing or "there was no time left")
        if not self._thread.is_alive():
            self._out.close()

    def _run(self) -> None:
        while True:
            self._wake.wait(RETRY if self.failing else None)
            self._wake.clear()
            ending = self._closing.is_set() or self._closing.wait(GATHER)
            self._awake = False
            if not self._rest:
                self._take()
            self._write()
            if ending and (self.failing or not (self._rest or self._lines)):
                return

    def _take(self) -> None:
        lines = [self._lines.popleft() for _ in range(len(self._lines))]
        self._went += sum(map(len, lines))
        if self.lost != self._told:
            told, self._told = self._told, self.lost
            lines.append(self._lost_line(self._told - told))
        self._rest = masked(b"".join(lines).decode()).encode()

    def _write(self) -> None:
        try:
            while self._rest:
                count = self._out.write(self._rest)
                self.written += self._rest.count(b"\n", 0, count)
                self._rest = self._rest[count:]
        except OSError as error:
            self._failed(error)
            return
        if self.failing:
            self.failing = ""
            log.warning("journal.recovered", lost=self.lost)
            self._wake.set()  # for what was queued meanwhile

    def _failed(self, error: OSError) -> None:
        if not self.failing:
            log.error("journal.failing", reason=str(error), hint="Lines are kept in memory until they can be written.")
        self.failing = str(error)
