"""Keeps pins on disk, one file for each upstream, readable by the owner only. Synchronous: run it in a thread.

Pins belong to an upstream's name and to the configuration that makes it the server it is. Where that has changed, the
pins that were made last under the same name are what a new look is compared with: a configuration that changed, or a
file that is damaged, never makes anybody trust anew.
"""

import fcntl
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from proxy.catalog.files import prepare, read, write, write_new
from proxy.catalog.pinning import Definition, Definitions, Part, Pins, fingerprint
from proxy.catalog.uris import slug_of
from proxy.errors import ConfigError, Problem

FORMAT: Final = "manifold-pins/1"
"""What a file says about its layout."""

_SLUG_LENGTH: Final = 64
_SUFFIX: Final = ".pins.json"
_WRITABLE_BY_OTHERS: Final = 0o022


class _Pin(msgspec.Struct, forbid_unknown_fields=True):
    kind: str
    name: str
    hash: str
    definition: Any


class _Rejected(msgspec.Struct, forbid_unknown_fields=True):
    kind: str
    name: str
    hashes: list[str]


class _File(msgspec.Struct, forbid_unknown_fields=True):
    format: str
    upstream: str
    saved: float
    pins: list[_Pin] = []
    rejected: list[_Rejected] = []


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose pins they are: an upstream's name, and what makes it the server it is (``identity_of``)."""

    upstream: str
    identity: str

    @property
    def key(self) -> str:
        """A file name's beginning."""
        digest = sha256(f"{len(self.upstream)}:{self.upstream}{self.identity}".encode("utf-8", "surrogatepass"))
        return f"{slug_of(self.upstream)[:_SLUG_LENGTH]}-{digest.hexdigest()[:16]}"


class PinKeeper(Protocol):
    """Where pins are kept. Called in a thread; it may block."""

    def load(self, owner: Owner) -> Pins | None:
        """What was decided about an upstream; None if nobody ever saw it. What cannot be used is a fault in it."""
        ...

    def first(self, owner: Owner, pins: Pins) -> str:
        """Keep the first pins of an upstream, unless there are some; returns why that is not possible."""
        ...

    def save(self, owner: Owner, pins: Pins) -> None:
        """Keep pins in the place of older ones. Raises ConfigError."""
        ...

    def deciding(self) -> AbstractContextManager[None]:
        """While one decides, others wait. Raises ConfigError."""
        ...


class PinStore:
    """The pins of all upstreams.

    Args:
        directory: made when it is first needed, with mode 0700. Nobody else keeps files there.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def path(self, owner: Owner) -> Path:
        """The file for an upstream."""
        return self.directory / f"{owner.key}{_SUFFIX}"

    def load(self, owner: Owner) -> Pins | None:
        """What was decided about an upstream; None if nobody ever saw it. A file that cannot be used is a fault."""
        path = self.path(owner)
        found = self._read(path)
        if found is None:
            return self._inherited(owner)
        return _checked(found, path.name) if isinstance(found, _File) else Pins(fault=found)

    def first(self, owner: Owner, pins: Pins) -> str:
        """Keep the first pins of an upstream, unless somebody else was faster; returns why that is not possible."""
        try:
            prepare(self.directory)
            write_new(self.path(owner), packed(owner, pins))
        except (OSError, ValueError) as error:
            return _words(error)
        return ""

    @contextmanager
    def deciding(self) -> Iterator[None]:
        """While one decides, others wait.

        Raises:
            ConfigError: the directory cannot be used.
        """
        with _told("pins"):
            prepare(self.directory)
        with open(os.open(self.directory / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600), "wb") as lock:  # noqa: PTH123 - a handle, to have the mode from the start
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield

    def save(self, owner: Owner, pins: Pins) -> None:
        """Keep pins in the place of older ones, which stay whole until the new ones are.

        Raises:
            ConfigError: they cannot be kept.
        """
        with _told("pins"):
            prepare(self.directory)
            write(self.path(owner), packed(owner, pins))

    def save_review(self, owner: Owner, offered: Definitions) -> None:
        """Keep what a review has shown.

        Raises:
            ConfigError: it cannot be kept.
        """
        with _told("what was reviewed"):
            prepare(self.directory)
            write(self._review(owner), packed(owner, Pins(offered)))

    def load_review(self, owner: Owner) -> tuple[float, Definitions] | None:
        """What the last review has shown, and when, in seconds since the epoch; None if it is not known."""
        found = self._read(self._review(owner))
        if not isinstance(found, _File):
            return None
        shown = _checked(found, "")
        return None if shown.fault else (found.saved, shown.approved)

    def _review(self, owner: Owner) -> Path:
        return self.directory / f"{owner.key}.review.json"

    def _inherited(self, owner: Owner) -> Pins | None:
        """The last pins under the same name, of another configuration."""
        pattern = f"{slug_of(owner.upstream)[:_SLUG_LENGTH]}-{'?' * 16}{_SUFFIX}"
        found = [(self._read(path), path.name) for path in sorted(self.directory.glob(pattern))]
        faults = [one for one, _ in found if isinstance(one, str)]
        ours = [(one, name) for one, name in found if isinstance(one, _File) and one.upstream == owner.upstream]
        if not ours:
            return Pins(fault=faults[0]) if faults else None
        return _checked(*max(ours, key=lambda one: one[0].saved))

    def _read(self, path: Path) -> "_File | str | None":
        """A file; what is wrong with it; or None if there is none."""
        try:
            return _parsed(read(path, forbidden=_WRITABLE_BY_OTHERS), path.name)
        except FileNotFoundError:
            return None
        except (OSError, ValueError) as error:
            return f"{path.name} cannot be used: {_words(error)}"


def packed(owner: Owner, pins: Pins) -> bytes:
    """Pins as they are kept."""
    approved = [_Pin(*part, *one) for part, one in pins.approved.items()]
    rejected = [_Rejected(*part, sorted(hashes)) for part, hashes in pins.rejected.items()]
    return msgspec.json.format(
        msgspec.json.encode(_File(FORMAT, owner.upstream, time.time(), approved, rejected)), indent=1
    )


def unpacked(data: bytes, name: str) -> Pins:
    """Pins that were kept; what is wrong with them is a fault in them.

    Args:
        data: as ``packed`` gave it.
        name: what a fault calls it.
    """
    found = _parsed(data, name)
    return Pins(fault=found) if isinstance(found, str) else _checked(found, name)


def _parsed(data: bytes, name: str) -> "_File | str":
    try:
        file = msgspec.json.decode(data, type=_File)
    except (ValueError, RecursionError) as error:
        return f"{name} cannot be used: {_words(error)}"
    return file if file.format == FORMAT else f"{name} has another format than {FORMAT}"


def _checked(file: _File, name: str) -> Pins:
    approved: dict[Part, Definition] = {}
    for pin in file.pins:
        if fingerprint(pin.kind, pin.definition) != pin.hash:
            return Pins(fault=f"{name} was changed by hand: the hash of {pin.kind} {pin.name[:100]!r} does not fit")
        approved[Part(pin.kind, pin.name)] = Definition(pin.hash, pin.definition)
    rejected: Mapping[Part, frozenset[str]] = {Part(one.kind, one.name): frozenset(one.hashes) for one in file.rejected}
    return Pins(approved, rejected)


@contextmanager
def _told(what: str) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError) as error:
        hint = "`server.state_dir` says where pins are kept"
        raise ConfigError([Problem("", f"{what} cannot be saved: {_words(error)}", hint)]) from error


def _words(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) and error.strerror else str(error)) or type(error).__name__
