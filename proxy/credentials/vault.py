"""Where logins are kept: one sealed file each, readable for their owner only, replaced whole, locked while renewed.

Sealed with AES-256-GCM; the name of the file is part of what is authenticated, so no file can stand in for another.
Everything here blocks; whoever is on the event loop calls it in a thread.
"""

import fcntl
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Final

import msgspec
import structlog
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from proxy.credentials.grant import Entry
from proxy.credentials.key import complain, key_of
from proxy.errors import Unavailable

log = structlog.get_logger(__name__)

_MAGIC: Final = b"MFV1"
_NONCE: Final = 12
_LARGEST: Final = 1 << 20
LOCK_PATIENCE: Final = 15.0
"""Seconds to wait for another process that renews the same login; longer than one exchange may take."""
_LOCK_PAUSE: Final = 0.02

Stamp = tuple[int, int, int]
"""What changes whenever a file does."""


@dataclass(frozen=True, slots=True)
class Slot:
    """Which login: of which upstream at which URL, and whose."""

    upstream: str
    url: str
    whose: str = ""

    @property
    def digest(self) -> str:
        """The name of its files."""
        text = f"{self.upstream}\0{self.url}\0{self.whose}"
        return hashlib.sha256(text.encode()).hexdigest()[:32]


class Sealed(Unavailable):
    """A kept login cannot be read or written here."""


FOLDER: Final = "credentials"
"""Where logins are in a state directory."""


class Vault:
    """The store of logins.

    Args:
        folder: where it is; made when the first login is kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._key: bytes | None = None

    def load(self, slot: Slot) -> Entry | None:
        """What is kept for a login; None if nothing is.

        Raises:
            Sealed: it cannot be read.
        """
        return self._read(self._file(slot.digest))

    def entries(self) -> Iterator[Entry]:
        """Everything that is kept. Raises Sealed."""
        for path in sorted(self.folder.glob("*.login")):
            if (entry := self._read(path)) is not None:
                yield entry

    def save(self, slot: Slot, entry: Entry) -> None:
        """Keep a login, instead of what was kept before.

        Raises:
            Sealed: it cannot be written.
        """
        path = self._file(slot.digest)
        try:
            self._prepare()
            nonce = os.urandom(_NONCE)
            body = AESGCM(self._opener()).encrypt(nonce, msgspec.json.encode(entry), _MAGIC + path.name.encode())
            with NamedTemporaryFile(dir=self.folder, prefix=".", delete=False) as file:  # made with mode 0600
                try:
                    file.write(_MAGIC + nonce + body)
                    file.flush()
                    os.fsync(file.fileno())
                    Path(file.name).replace(path)
                except BaseException:
                    Path(file.name).unlink(missing_ok=True)
                    raise
        except OSError as error:
            text = f"the login cannot be kept in {self.folder}: {error.strerror}"
            raise Sealed(text, upstream=slot.upstream) from None

    def delete(self, slot: Slot) -> bool:
        """Forget a login. Returns whether there was one."""
        try:
            self._file(slot.digest).unlink()
        except FileNotFoundError:
            return False
        return True

    def stamp(self, slot: Slot) -> Stamp | None:
        """What changes whenever the kept login does; None if none is kept."""
        try:
            found = self._file(slot.digest).stat()
        except OSError:
            return None
        return found.st_mtime_ns, found.st_size, found.st_ino

    @contextmanager
    def locked(self, slot: Slot) -> Iterator[None]:
        """Keep other processes from renewing the same login for as long as the block runs.

        Raises:
            Sealed: another one holds it for too long, or there is no place for a lock.
        """
        try:
            self._prepare()
            handle = os.open(self.folder / f"{slot.digest}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise Sealed(f"{self.folder} cannot be used: {error.strerror}", upstream=slot.upstream) from None
        try:
            until = time.monotonic() + LOCK_PATIENCE
            while not _lock(handle):
                if time.monotonic() > until:
                    raise Sealed("another process is still renewing the login", upstream=slot.upstream)
                time.sleep(_LOCK_PAUSE)  # in a thread of its own: there is no lock that can be waited for with a limit
            yield
        finally:
            os.close(handle)

    def _file(self, digest: str) -> Path:
        return self.folder / f"{digest}.login"

    def _prepare(self) -> None:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def _read(self, path: Path) -> Entry | None:
        try:
            with path.open("rb") as file:
                complain(self.folder, self.folder.stat())
                complain(path, os.fstat(file.fileno()))
                content = file.read(_LARGEST)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise Sealed(f"{path} cannot be read: {error.strerror}") from None
        magic, rest = content[: len(_MAGIC)], content[len(_MAGIC) :]
        nonce, body = rest[:_NONCE], rest[_NONCE:]
        try:
            plain = AESGCM(self._opener()).decrypt(nonce, body, magic + path.name.encode())
            return msgspec.json.decode(plain, type=Entry)
        except (InvalidTag, ValueError):
            hint = "Was its key replaced? Log in again, or delete the file."
            raise Sealed(f"{path} cannot be opened with the key that is here", hint=hint) from None

    def _opener(self) -> bytes:
        if self._key is None:
            try:
                self._key = key_of(self.folder)
            except OSError as error:
                raise Sealed(f"the key in {self.folder} cannot be used: {error.strerror}") from None
        return self._key


def vault_in(state: object) -> Vault | None:
    """The vault of a state directory; None for everything else."""
    return Vault(state / FOLDER) if isinstance(state, Path) else None


def _lock(handle: int) -> bool:
    with suppress(BlockingIOError):
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return True
    return False
