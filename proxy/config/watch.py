"""Tells when the content of configuration files changes, in whatever way they are replaced.

Theory of operation. A path leads to its content over directory entries: symbolic links, and at last the file. Editors
rename a new file over the old one, Kubernetes swaps a link some steps before it, deployments swap a link to a folder:
each of them replaces an entry. So not files are watched but the folders that hold these entries. An event says only
that it is time to look; what counts is whether the content differs, and it must have been the same twice before it is
believed, because a file may be half written. A file that is mounted alone, or changed over the network, causes no
event: hence a look from time to time in any case.
"""

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import aclosing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import anyio
import anyio.lowlevel
import anyio.to_thread
import structlog
from watchfiles import awatch

log = structlog.get_logger(__name__)

INTERVAL: Final = 5.0
"""Seconds between two looks when nothing happens."""
SETTLE: Final = 0.1
"""Seconds in which the content must stay the same to be believed."""

_DEBOUNCE: Final = 400
_STEP: Final = 50
"""Milliseconds, as watchfiles wants them: how long events are gathered, and how quickly it stops."""
_UNSETTLED: Final = 50
"""Looks after which something that keeps changing is believed as it is."""
_LINKS: Final = 40
"""Symbolic links after which a path is taken to lead in a circle, as Linux does."""
_LARGEST: Final = 8 * 1024 * 1024 + 1
_UNREADABLE: Final = "unreadable"


@dataclass(frozen=True, slots=True)
class _Places:
    """Where to watch: folders, each with its device and inode, and the entries in them that matter."""

    folders: Mapping[str, tuple[int, int]]
    entries: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Look:
    places: _Places
    digests: Mapping[Path, str]


class Watch:
    """Watches the content of files. ``run`` it in a task group.

    Args:
        files: the files; they need not exist.
        changed: called after the content of some of them has changed. Also called once when a file comes under watch,
            because nobody knows whether it changed since it was read.
        interval: seconds between two looks when nothing happens.
    """

    def __init__(self, files: Iterable[Path], changed: Callable[[], None], *, interval: float = INTERVAL) -> None:
        self._files = _absolute(files)
        self._changed = changed
        self._interval = interval
        self._stirred = anyio.Event()
        self._seen: dict[Path, str] = {}

    def follow(self, files: Iterable[Path]) -> None:
        """Watch these files from now on, and no others."""
        self._files = _absolute(files)
        self._stirred.set()

    async def run(self) -> None:
        """Watch until cancelled; then no thread of it is left."""
        while True:
            look = await self._look()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._listen, look.places)
                await anyio.lowlevel.checkpoint()  # it watches as soon as it has run for the first time
                await self._until_moved(look.places)
                tasks.cancel_scope.cancel()

    async def _until_moved(self, places: _Places) -> None:
        """Report changes for as long as there is nothing else to watch."""
        while True:
            self._stirred = anyio.Event()
            look = await self._settled()
            if self._is_news(look):
                self._seen = dict(look.digests)
                self._changed()
            if look.places != places:
                return
            with anyio.move_on_after(self._interval):
                await self._stirred.wait()

    async def _settled(self) -> _Look:
        look = await self._look()
        for _ in range(_UNSETTLED):
            if not self._is_news(look):
                break
            await anyio.sleep(SETTLE)
            before, look = look, await self._look()
            if look == before:
                break
        return look

    def _is_news(self, look: _Look) -> bool:
        return any(self._seen.get(file) != digest for file, digest in look.digests.items())

    async def _look(self) -> _Look:
        # Abandoned when cancelled: a file system that hangs must not keep us from stopping.
        return await anyio.to_thread.run_sync(_look_at, self._files, abandon_on_cancel=True)

    async def _listen(self, places: _Places) -> None:
        """Look whenever something happens to one of the entries."""
        async with anyio.create_task_group() as tasks:
            stop = anyio.Event()
            tasks.start_soon(_set_at_end, stop)
            try:
                await self._hear(places, stop)
            except (OSError, RuntimeError) as error:
                # No such folder any more, or the system has no watches left.
                log.warning("config.watch.polling", reason=str(error), seconds=self._interval)
            tasks.cancel_scope.cancel()

    async def _hear(self, places: _Places, stop: anyio.Event) -> None:
        if not places.folders:
            return
        events = awatch(
            *places.folders,
            watch_filter=lambda _change, path: path in places.entries,
            debounce=_DEBOUNCE,
            step=_STEP,
            stop_event=stop,
            recursive=False,
            ignore_permission_denied=True,
        )
        async with aclosing(events):
            async for _ in events:
                self._stirred.set()


async def _set_at_end(stop: anyio.Event) -> None:
    """Watchfiles waits in a thread, which hears of an event and not of a cancellation."""
    try:
        await anyio.sleep_forever()
    finally:
        stop.set()


def _absolute(files: Iterable[Path]) -> tuple[Path, ...]:
    return tuple(dict.fromkeys(file.absolute() for file in files))


def _look_at(files: Iterable[Path]) -> _Look:
    entries = {entry for file in files for entry in trail(file)}
    folders = {}
    for folder in sorted({entry.parent for entry in entries}):
        with suppress(OSError):
            status = folder.stat()
            folders[str(folder)] = (status.st_dev, status.st_ino)
    return _Look(_Places(folders, frozenset(map(str, entries))), {file: _digest(file) for file in files})


def trail(file: Path) -> Iterator[Path]:
    """The directory entries that lead from an absolute path to its content, each in its real folder."""
    root, *parts = file.parts
    at, left, links = Path(root), parts[::-1], 0
    while left:
        part = left.pop()
        if part == "..":
            at = at.parent
            continue
        entry = at / part
        target = _link(entry)
        if target is None or links == _LINKS:
            at = entry
            continue
        yield entry
        links += 1
        if target.is_absolute():
            at = Path(target.anchor)
            target = target.relative_to(at)
        left += target.parts[::-1]
    yield at


def _link(entry: Path) -> Path | None:
    try:
        return entry.readlink()
    except OSError:  # no link, or not there
        return None


def _digest(file: Path) -> str:
    """What tells one content from another; the reason if there is none."""
    try:
        handle = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe must not make us wait
        with open(handle, "rb") as stream:  # noqa: PTH123 - a handle, not a path
            if not stat.S_ISREG(os.fstat(handle).st_mode):
                return _UNREADABLE
            return hashlib.sha256(stream.read(_LARGEST)).hexdigest()
    except OSError as error:
        return error.strerror or _UNREADABLE
