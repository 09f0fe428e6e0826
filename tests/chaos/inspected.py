"""Manifold in a process that can be looked into: after SIGUSR1 it writes to standard error what is alive in it.

After SIGUSR2 it does at once what long use would do in the end, and writes that it has: it fills what is kept for
clients that resume their streams up to its bound, and has the interpreter's table of interned strings grow for the last
time. Run as a program with the arguments of ``mcp-manifold``.
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
INTERNED = 2**17
"""Strings that come and go. The table of interned strings (every part of a ``pathlib`` path is one) does not use the
places of those that went before it is full, and then makes itself once larger than what is in it needs, by 1 MB."""


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
    for number in range(INTERNED):
        sys.intern(f"soak-{number}")
    say("filled")


def say(event: str, **found: int) -> None:
    sys.stderr.write(json.dumps({"event": event, **found}) + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, report)
    signal.signal(signal.SIGUSR2, fill)
    main()
