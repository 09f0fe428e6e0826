"""Keeps the last-known listings on disk, so that a restart answers at once. Synchronous: run it in a thread.

A listing comes back only for the very configuration it was saved under. Nothing here raises because of a file: what
cannot be read or written is reported as a reason and otherwise as if it were not there.
"""

import contextlib
import hashlib
import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Final, Protocol

import msgspec

from proxy.catalog.files import prepare, read, write
from proxy.catalog.uris import slug_of
from proxy.model import Listing

FORMAT: Final = "manifold-listing/1"
"""What a file says about its layout; any other is ignored."""

_SUFFIX = ".listing.json"
_SLUG_LENGTH = 64


class _Stored(msgspec.Struct, forbid_unknown_fields=True):
    """A listing as it stands in a file. Entries are ``Any``: checking them is the catalog's work."""

    tools: tuple[Any, ...] = ()
    resources: tuple[Any, ...] = ()
    templates: tuple[Any, ...] = ()
    prompts: tuple[Any, ...] = ()
    capabilities: dict[str, Any] = {}
    server_info: dict[str, Any] = {}
    instructions: str | None = None
    version: str = ""
    ttl_ms: int | None = None
    private: bool = False


class _File(msgspec.Struct):
    format: str
    identity: str
    saved: float
    listing: _Stored


@dataclass(frozen=True, slots=True)
class Loaded:
    """What the store has: a listing and when it was saved (seconds since the epoch), or why there is none."""

    listing: Listing | None = None
    saved: float = 0.0
    reason: str = ""
    """Why a file that is there was ignored; empty if there is no file."""


class ListingKeeper(Protocol):
    """Where last-known listings are kept. Called in a thread; it may block."""

    def load(self, upstream: str, identity: str) -> Loaded:
        """The last-known listing of an upstream, if it was saved under the same identity."""
        ...

    def save(self, upstream: str, identity: str, listing: Listing, *, at: float) -> str:
        """Save a listing; returns why it could not be saved, empty if it was."""
        ...


class ListingStore:
    """One file per upstream in a directory of its own, readable by the owner only.

    Args:
        directory: made on the first save, with mode 0700. Nobody else keeps files there.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def path(self, upstream: str, identity: str) -> Path:
        """The file for an upstream under one configuration.

        Args:
            upstream: its name.
            identity: everything about its configuration that a listing depends on; only its hash is kept.
        """
        slug = slug_of(upstream)[:_SLUG_LENGTH]
        return self._directory / f"{slug}-{_digest(upstream, identity)[:16]}{_SUFFIX}"

    def load(self, upstream: str, identity: str) -> Loaded:
        """The last-known listing of an upstream, if it was saved under the same identity."""
        path = self.path(upstream, identity)
        try:
            found = unpacked(read(path), upstream, identity)
        except FileNotFoundError:
            return Loaded()
        except (OSError, ValueError, RecursionError, msgspec.MsgspecError) as error:
            return Loaded(reason=f"{path.name} cannot be used: {_words(error)}")
        with contextlib.suppress(OSError):
            os.utime(path)  # it is in use; see ``prune``
        return found

    def save(self, upstream: str, identity: str, listing: Listing, *, at: float) -> str:
        """Save a listing in place of an older one, which stays whole until the new one is.

        Args:
            upstream: its name.
            identity: the same as for ``load``.
            listing: what to keep.
            at: the time, in seconds since the epoch.

        Returns:
            Why it could not be saved; empty if it was.
        """
        path = self.path(upstream, identity)
        try:
            data = packed(upstream, identity, listing, at=at)
            prepare(self._directory)
            write(path, data)
        except (OSError, ValueError, TypeError, RecursionError, msgspec.MsgspecError) as error:
            return f"{path.name} cannot be saved: {_words(error)}"
        return ""

    def prune(self, *, before: float) -> tuple[str, ...]:
        """Remove what was neither loaded nor saved since a time. Returns the names of the files.

        Several configurations may share the directory, so that a listing of another one is not known to be in use.

        Args:
            before: the time, in seconds since the epoch.
        """
        removed: list[str] = []
        with contextlib.suppress(OSError):
            for path in sorted(self._directory.glob(f"*{_SUFFIX}")):
                if path.stat().st_mtime < before:
                    path.unlink(missing_ok=True)
                    removed.append(path.name)
        return tuple(removed)


def packed(upstream: str, identity: str, listing: Listing, *, at: float) -> bytes:
    """A listing as it is kept.

    Raises:
        TypeError, ValueError, RecursionError: something in it cannot be written as JSON.
    """
    stored = _Stored(**{field.name: getattr(listing, field.name) for field in fields(listing)})
    return msgspec.json.encode(_File(FORMAT, _digest(upstream, identity), at, stored))


def unpacked(data: bytes, upstream: str, identity: str) -> Loaded:
    """A listing that was kept.

    Raises:
        ValueError, RecursionError: it is damaged, of another format, or belongs to another configuration.
    """
    file = msgspec.json.decode(data, type=_File)
    if file.format != FORMAT:
        raise ValueError(f"it has another format than {FORMAT}")
    if file.identity != _digest(upstream, identity):
        raise ValueError("it belongs to another configuration")
    return Loaded(Listing(**msgspec.structs.asdict(file.listing)), file.saved)


def _digest(upstream: str, identity: str) -> str:
    text = f"{len(upstream)}:{upstream}{identity}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _words(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else str(error)) or type(error).__name__
