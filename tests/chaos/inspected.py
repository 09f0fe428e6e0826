"""Manifold in a process that can be looked into: after SIGUSR1 it writes to standard error what is alive in it.

Run as a program with the arguments of ``mcp-manifold``.
"""

import asyncio
import gc
import json
import os
import signal
import sys
from pathlib import Path

from proxy.cli import main


def report(*_: object) -> None:
    gc.collect()
    tasks = sum(
        isinstance(one, asyncio.Future) and hasattr(one, "get_coro") and not one.done() for one in gc.get_objects()
    )
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    files = len([*Path("/proc/self/fd").iterdir()])
    found = {"event": "inspected", "tasks": tasks, "files": files, "memory": pages * os.sysconf("SC_PAGE_SIZE")}
    sys.stderr.write(json.dumps(found) + "\n")
    sys.stderr.flush()


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, report)
    main()
