"""API tokens: made, listed and revoked by command, known to a running Manifold by their file alone.

The file is in the state directory and has no token, only digests: a token is 256 random bits, so that SHA-256 is
enough. It is read again whenever it was replaced; asking whether it was takes one ``stat``.
"""

import contextlib
import fcntl
import hashlib
import hmac
import os
import secrets
import stat
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import msgspec
import structlog

from proxy.errors import ConfigError, Problem
from proxy.model import Principal

log = structlog.get_logger(__name__)

FILE: Final = "tokens.json"
PREFIX: Final = "mcpm_"
"""How every API token starts: scanners find one that was lost, and no other kind is looked for."""
_ID_BYTES: Final = 5
_SECRET_BYTES: Final = 32
_FILE_MODE: Final = 0o600
_DIRECTORY_MODE: Final = 0o700


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """What is known of one token. Times are seconds since the epoch."""

    id: str
    name: str
    sha256: str
    """Of the whole token, in hexadecimal."""
    created: float
    agents: tuple[str, ...] = ()
    scopes: tuple[str, ...] = ()
    expires: float | None = None
    revoked: float | None = None

    def principal(self) -> Principal:
        """Who presents it."""
        return Principal(f"token:{self.id}", self.agents, frozenset(self.scopes), self.name)


class _File(msgspec.Struct, frozen=True):
    tokens: tuple[Record, ...] = ()
    version: int = 1


class TokenFile:
    """The tokens of one state directory.

    Args:
        folder: the state directory.
        now: seconds since the epoch.
    """

    def __init__(self, folder: Path, now: Callable[[], float] = time.time) -> None:
        self.path = folder / FILE
        self._name = str(self.path)
        self._now = now
        self._stamp: tuple[int, int, int] | None = None
        self._records: Mapping[str, Record] = {}
        self._broken = False

    @property
    def exists(self) -> bool:
        """Whether any token was ever made here, revoked ones included: then doors ask for credentials."""
        self.refresh()
        return bool(self._records) or self._broken

    def refresh(self) -> bool:
        """Read the file if it was replaced; returns whether it was. A file that cannot be read lets nobody in."""
        try:
            found = os.stat(self._name)  # noqa: PTH116 - a third of the time, and it is asked for each request
            stamp = (found.st_mtime_ns, found.st_ino, found.st_size)
        except FileNotFoundError:
            found, stamp = None, None
        except OSError as error:
            self._break(error.strerror or str(error))
            return False
        if stamp == self._stamp:
            return False
        self._stamp, self._broken = stamp, False
        if found is not None and (reason := _distrust(found)):
            self._break(reason)
            return True
        try:
            self._records = {} if stamp is None else {one.id: one for one in _read(self.path).tokens}
        except (OSError, msgspec.MsgspecError) as error:
            self._break(str(error))
        return True

    def find(self, token: bytes) -> Record | None:
        """The record of a token that is good now."""
        number = token[len(PREFIX) :].partition(b"_")[0].decode("latin-1")
        record = self._records.get(number)
        digest = hashlib.sha256(token).hexdigest()
        # Compared in constant time even where there is nothing to compare with.
        same = hmac.compare_digest(digest, record.sha256 if record is not None else digest[::-1])
        if record is None or not same or not self.stands(number):
            return None
        return record if record.expires is None or self._now() < record.expires else None

    def stands(self, number: str) -> bool:
        """Whether a token is known and not revoked."""
        record = self._records.get(number)
        return record is not None and record.revoked is None

    # -- what the command does -----------------------------------------------------------------------------------------

    def records(self) -> list[Record]:
        """All of them, oldest first.

        Raises:
            ConfigError: the file cannot be read.
        """
        return sorted(self._load().tokens, key=lambda one: one.created)

    def create(
        self, name: str, *, agents: Sequence[str] = (), scopes: Sequence[str] = (), lifetime: float | None = None
    ) -> tuple[str, Record]:
        """Make a token: it, which nobody can tell again, and its record.

        Raises:
            ConfigError: the file cannot be read or written, or there is a good token of this name.
        """
        number = secrets.token_hex(_ID_BYTES)
        token = f"{PREFIX}{number}_{secrets.token_urlsafe(_SECRET_BYTES)}"
        now = self._now()
        record = Record(
            id=number,
            name=name,
            sha256=hashlib.sha256(token.encode()).hexdigest(),
            created=now,
            agents=tuple(agents),
            scopes=tuple(scopes),
            expires=None if lifetime is None else now + lifetime,
        )
        with self._changing() as records:
            if any(one.name == name and one.revoked is None for one in records):
                hint = "revoke it, or choose another name"
                raise ConfigError([Problem("", f"there is a token {name!r} already", hint)])
            self._save((*records, record))
        return token, record

    def revoke(self, name: str) -> Record:
        """Let a token be good no more, by its name or id. It stays in the list.

        Raises:
            ConfigError: there is none, or the file cannot be read or written.
        """
        with self._changing() as records:
            found = next((one for one in records if one.revoked is None and name in (one.name, one.id)), None)
            if found is None:
                known = ", ".join(sorted(one.name for one in records if one.revoked is None)) or "none"
                raise ConfigError([Problem("", f"there is no token {name!r} to revoke", f"tokens: {known}")])
            revoked = msgspec.structs.replace(found, revoked=self._now())
            self._save(tuple(revoked if one is found else one for one in records))
        return revoked

    @contextmanager
    def _changing(self) -> Iterator[tuple[Record, ...]]:
        """The records, which nobody else changes until the block ends."""
        lock = self.path.with_suffix(".lock")
        try:
            self.path.parent.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
            handle = os.open(lock, os.O_WRONLY | os.O_CREAT, _FILE_MODE)
        except OSError as error:
            raise self._problem("cannot be written", error) from error
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
            yield self._load().tokens
        finally:
            os.close(handle)

    def _load(self) -> _File:
        try:
            return _read(self.path)
        except FileNotFoundError:
            return _File()
        except (OSError, msgspec.MsgspecError) as error:
            raise self._problem("cannot be read", error) from error

    def _save(self, records: tuple[Record, ...]) -> None:
        part = self.path.with_suffix(f".{os.getpid()}.part")
        try:
            part.unlink(missing_ok=True)
            handle = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL, _FILE_MODE)
            with open(handle, "wb") as file:  # noqa: PTH123 - a handle, to have the mode from the start
                file.write(msgspec.json.format(msgspec.json.encode(_File(records)), indent=1) + b"\n")
                file.flush()
                os.fsync(file.fileno())
            part.replace(self.path)
        except OSError as error:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)
            raise self._problem("cannot be written", error) from error

    def _break(self, reason: str) -> None:
        if not self._broken:
            log.error("tokens.unreadable", path=str(self.path), reason=reason, hint="No API token is taken until then.")
        self._broken, self._records = True, {}

    def _problem(self, what: str, error: Exception) -> ConfigError:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return ConfigError([Problem("", f"{what}: {why}", "is it yours, and whole?", str(self.path))])


def _distrust(found: os.stat_result) -> str:
    """Why a file may not be ours: whoever can write it lets in whom he likes."""
    if os.name != "posix":
        return ""
    if found.st_uid not in (os.geteuid(), 0):
        return "it belongs to another user"
    writers = stat.S_IWGRP | stat.S_IWOTH
    return "others may write it; take it from them with chmod 600" if found.st_mode & writers else ""


def _read(path: Path) -> _File:
    return msgspec.json.decode(path.read_bytes(), type=_File)
