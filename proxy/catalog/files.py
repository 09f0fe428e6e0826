"""Files that only their owner may read, replaced as a whole. Synchronous: use them in a thread."""

import contextlib
import os
import stat
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final

MAX_FILE: Final = 64 * 1024 * 1024
"""Larger files, in bytes, are not read."""

_DIRECTORY_MODE = 0o700


def prepare(directory: Path) -> None:
    """Make a directory that only its owner may use.

    Raises:
        OSError, ValueError: it cannot be made, or others use it.
    """
    directory.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
    mode = stat.S_IMODE(directory.stat().st_mode)
    if mode & stat.S_ISVTX:
        raise ValueError("its directory is shared with others")
    if mode != _DIRECTORY_MODE:
        directory.chmod(_DIRECTORY_MODE)


def read(path: Path, *, forbidden: int = 0) -> bytes:
    """Read a regular file of our own. Links are not followed.

    Args:
        path: the file.
        forbidden: permissions with which it is not read, as the bits of a mode.

    Raises:
        OSError, ValueError: it cannot be read, or should not be.
    """
    handle = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(handle, "rb") as file:  # noqa: PTH123 - a handle opened without following links, not a path
        status = os.fstat(handle)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("it is not a regular file")
        if status.st_uid != os.getuid():
            raise ValueError("it belongs to somebody else")
        if status.st_mode & forbidden:
            raise ValueError("others may write it")
        if status.st_size > MAX_FILE:
            raise ValueError(f"it is larger than {MAX_FILE} bytes")
        return file.read()


def write(path: Path, data: bytes) -> None:
    """Put a file in the place of another one, which stays whole until the new one is. Raises OSError."""
    _written(path, data, lambda name: os.replace(name, path))  # noqa: PTH105 - mkstemp gives a name


def write_new(path: Path, data: bytes) -> None:
    """Make a file, unless there is one. Raises OSError."""
    with contextlib.suppress(FileExistsError):
        _written(path, data, partial(_placed, path))


def _placed(path: Path, name: str) -> None:
    os.link(name, path)
    os.unlink(name)  # noqa: PTH108 - same


def _written(path: Path, data: bytes, place: Callable[[str], None]) -> None:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".", suffix=".part")  # mode 0600
    try:
        with open(handle, "wb") as file:  # noqa: PTH123 - mkstemp gives a handle
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        place(name)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)  # noqa: PTH108 - same
        raise
