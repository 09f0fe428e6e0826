"""Process groups: signalling one, and whether anything of it still lives."""

import os
import signal
from contextlib import suppress
from pathlib import Path
from typing import Final

_PROC: Final = Path("/proc")
_DEAD_STATES: Final = ("Z", "X")


def signal_group(group: int, number: signal.Signals) -> None:
    """Send a signal to all members; one that has none left is no error."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def group_lives(group: int) -> bool:
    """Whether the group has a living member. Its leader must have been reaped.

    Zombies are no life: they are orphans that wait for the system's first process to reap them. Where we are that
    process (in a container), we reap them here.
    """
    with suppress(ChildProcessError):
        while os.waitpid(-group, os.WNOHANG)[0]:
            pass
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return False
    if not (_PROC / "self").exists():
        return True
    return any(_is_living_member(stat, str(group)) for stat in _PROC.glob("[0-9]*/stat"))


def _is_living_member(stat: Path, group: str) -> bool:
    try:
        # proc(5): "pid (name) state parent group ..."; the name may hold anything, parentheses included
        state, _, its_group = stat.read_text(errors="replace").rpartition(")")[2].split()[:3]
    except (OSError, ValueError):
        return False
    return its_group == group and state not in _DEAD_STATES
