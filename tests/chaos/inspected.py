"""Manifold in a process that can be looked into: after SIGUSR1 it writes to standard error what is alive in it.

After SIGUSR2 it fills what is kept for clients that resume their streams up to its bound, as long use would, and
writes that it has. Run as a program with the arguments of ``mcp-manifold``.
"""

import asyncio
import gc
import json
import os
import signal
import sys
from pathlib import Path

from proxy.cli import main
from proxy.gateway.resume import MAX_EVENTS, Events

SIZE = 400
"""Bytes of an answer, about."""


def report(*_: object) -> None:
    gc.collect()
    tasks = sum(
        isinstance(one, asyncio.Future) and hasattr(one, "get_coro") and not one.done() for one in gc.get_objects()
    )
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    say(
        "inspected",
        tasks=tasks,
        files=len([*Path("/proc/self/fd").iterdir()]),
        memory=pages * os.sysconf("SC_PAGE_SIZE"),
        blocks=sys.getallocatedblocks(),
    )


def fill(*_: object) -> None:
    for events in [one for one in gc.get_objects() if isinstance(one, Events)]:
        for number in range(MAX_EVENTS):
            events.keep(f"soak-{number}", bytes(SIZE) if number % 2 else None)
    say("filled")


def say(event: str, **found: int) -> None:
    sys.stderr.write(json.dumps({"event": event, **found}) + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, report)
    signal.signal(signal.SIGUSR2, fill)
    main()
