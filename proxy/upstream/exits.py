"""Hearing of the end of a process on the event loop."""

import asyncio
import os
import subprocess
import threading
from collections.abc import Callable
from contextlib import suppress


def watch_exit(
    process: subprocess.Popen[bytes], loop: asyncio.AbstractEventLoop, exited: Callable[[], None]
) -> Callable[[], None]:
    """Call ``exited`` once when the process has ended; returns how to stop watching."""
    if hasattr(os, "pidfd_open"):
        with suppress(OSError):  # a sandbox may forbid it
            watched = os.pidfd_open(process.pid)

            def unwatch() -> None:
                loop.remove_reader(watched)
                with suppress(OSError):
                    os.close(watched)

            def ended() -> None:
                loop.remove_reader(watched)
                exited()

            loop.add_reader(watched, ended)
            return unwatch

    def wait() -> None:
        process.wait()
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(exited)

    threading.Thread(target=wait, name=f"wait-{process.pid}", daemon=True).start()
    return _nothing


def _nothing() -> None:
    """There is nothing to stop: the thread ends with the process."""
