"""Finding the Manifold that serves a configuration, and starting it in the background if there is none."""

import fcntl
import io
import json
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from proxy.front.place import Place

LIVE_TIMEOUT: Final = 2.0
"""Seconds for a running Manifold to say that it lives."""
LARGEST_LOG: Final = 4 * 1024 * 1024
"""Bytes of a log that is put aside before the next start."""
_TAIL: Final = 2000


class Unavailable(Exception):
    """There is no Manifold to talk to; the message says why and what to do."""


@dataclass(frozen=True)
class Finder:
    """Finds the Manifold of one configuration.

    Args:
        place: where it notes that it runs.
        files: the configuration as it was named; empty if none was.
        idle_exit: after how long without a request a Manifold that is started here ends by itself, as ``serve
            --idle-exit`` takes it; None is never.
    """

    place: Place
    files: Sequence[Path] = ()
    idle_exit: str | None = None

    def running(self) -> str | None:
        """The endpoint of the one that runs; None if none answers."""
        found = self.place.read()
        return found.url if found is not None and _lives(found.url) else None

    def started(self) -> str:
        """The endpoint of the one that runs, after starting it if need be. Of many who ask at once one starts it.

        Raises:
            Unavailable: it cannot be started.
        """
        if url := self.running():
            return url
        try:
            with self._locked():
                return self.running() or self._start()
        except OSError as error:
            raise Unavailable(f"{error.filename or self.place.folder}: {error.strerror or error}") from error

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.place.prepare()
        with self.place.lock.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _start(self) -> str:
        import subprocess  # noqa: PLC0415 - 10 ms that only the first window needs

        told, tell = os.pipe()
        with open(told, "rb") as answers, self._log() as log:  # noqa: PTH123 - a pipe has no path
            before = log.tell()
            try:
                child = subprocess.Popen(  # noqa: S603 - ourselves
                    self._command(tell),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    env=_environment(),
                    pass_fds=(tell,),
                    start_new_session=True,
                )
            finally:
                os.close(tell)
            line = answers.readline()
        if not line:
            status = child.wait()
            raise Unavailable(
                f"Manifold could not be started (exit status {status}); it said:\n{_tail(self.place.log, before)}"
            )
        threading.Thread(target=child.wait, daemon=True).start()  # or it would stay as a zombie when it ends before us
        return str(json.loads(line)["url"])

    def _command(self, tell: int) -> list[str]:
        # Loopback and any free port, whatever the configuration says: nobody but the fronts needs to find it.
        command = [sys.executable, "-P", "-m", "proxy", "serve", "--http", "--host", "127.0.0.1", "--port", "0"]
        command += ["--ready-fd", str(tell)]
        if self.idle_exit is not None:
            command += ["--idle-exit", self.idle_exit]
        for file in self.files:
            command += ["--config", str(file)]
        return command

    def _log(self) -> io.BufferedWriter:
        log = self.place.log
        if log.exists() and log.stat().st_size > LARGEST_LOG:
            log.replace(log.with_suffix(".old.log"))
        return open(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")  # noqa: PTH123 - a handle, to have the mode from the start


def _lives(url: str) -> bool:
    parts = urlsplit(url)
    connection = HTTPConnection(parts.hostname or "", parts.port, timeout=LIVE_TIMEOUT)
    try:
        connection.request("GET", "/livez")
        answer = connection.getresponse()
        return answer.status == 200 and b"alive" in answer.read(1000)  # noqa: PLR2004 - the status of all that is well
    except (OSError, HTTPException):
        return False
    finally:
        connection.close()


def _environment() -> dict[str, str]:
    """Ours, in which the package is found from any working directory."""
    root = str(Path(__file__).resolve().parents[2])
    others = [part for part in os.environ.get("PYTHONPATH", "").split(os.pathsep) if part and part != root]
    return {**os.environ, "PYTHONPATH": os.pathsep.join([root, *others])}


def _tail(log: Path, start: int) -> str:
    try:
        said = log.read_bytes()[start:]
    except OSError as error:
        return f"({log.name} cannot be read: {error.strerror})"
    return said[-_TAIL:].decode("utf-8", "replace").strip() or "(nothing)"
