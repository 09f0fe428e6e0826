"""Logins of upstreams in a program's storage: sealed before they get there, and bound to the login that they are.

A directory is kept by ``credentials.vault`` itself, which also keeps other processes from renewing the same login at
the same time. Other storages know no locks: there, only the threads of one process take turns.
"""

import base64
import os
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import anyio.from_thread
import msgspec
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from proxy.credentials.grant import Entry
from proxy.credentials.vault import FOLDER, LOCK_PATIENCE, Sealed, Slot, Stamp, Vault
from proxy.store.storage import TOKENS, Storage, keep

_NONCE: Final = 12
_MEMORY: Final = "memory"


def vault_for(where: str | Path | Storage, storage: Storage, keys: Path) -> Vault:
    """Where the logins are kept for a storage.

    Args:
        where: the storage as the program named it.
        storage: the storage.
        keys: a directory of this machine: for the key by which logins are sealed that are kept elsewhere.
    """
    if isinstance(where, Path) or (isinstance(where, str) and urlsplit(where).scheme in ("", "file")):
        return Vault(Path(urlsplit(str(where)).path) / FOLDER)
    forgetful = isinstance(where, str) and urlsplit(where).scheme == _MEMORY
    return StoredVault(storage, keys / FOLDER, key=os.urandom(32) if forgetful else None)


class StoredVault(Vault):
    """Logins in a storage. Everything here but ``stamp`` is called in a worker thread of anyio.

    Args:
        storage: where.
        folder: where the key is; made when the first login is kept.
        key: the key itself, for logins that nobody needs when the process is over.
    """

    def __init__(self, storage: Storage, folder: Path, *, key: bytes | None = None) -> None:
        super().__init__(folder)
        self._storage = storage
        self._key = key
        self._stamps: dict[str, Stamp] = {}
        self._locks: dict[str, threading.Lock] = {}

    def load(self, slot: Slot) -> Entry | None:
        """What is kept for a login; None if nothing is. Raises Sealed."""
        kept = anyio.from_thread.run(partial(self._storage.get, slot.digest, collection=TOKENS))
        self._note(slot, kept)
        return None if kept is None else self._opened(slot, str(kept.get("sealed", "")))

    def entries(self) -> Iterator[Entry]:
        """Nothing: a storage cannot say what is in it."""
        return iter(())

    def save(self, slot: Slot, entry: Entry) -> None:
        """Keep a login, instead of what was kept before. Raises Sealed."""
        nonce = os.urandom(_NONCE)
        body = AESGCM(self._opener()).encrypt(nonce, msgspec.json.encode(entry), slot.digest.encode())
        kept = {"sealed": base64.b64encode(nonce + body).decode()}
        try:
            anyio.from_thread.run(partial(keep, self._storage, slot.digest, kept, collection=TOKENS))
        except Exception as error:
            text = f"the login cannot be kept: {type(error).__name__}"
            raise Sealed(text, upstream=slot.upstream) from error
        self._note(slot, kept)

    def delete(self, slot: Slot) -> bool:
        """Forget a login. Returns whether there was one."""
        self._note(slot, None)
        return anyio.from_thread.run(partial(self._storage.delete, slot.digest, collection=TOKENS))

    def stamp(self, slot: Slot) -> Stamp | None:
        """What changes whenever this process sees another login; None if it has seen none."""
        return self._stamps.get(slot.digest)

    @contextmanager
    def locked(self, slot: Slot) -> Iterator[None]:
        """Keep other threads from renewing the same login for as long as the block runs. Raises Sealed."""
        lock = self._locks.setdefault(slot.digest, threading.Lock())
        if not lock.acquire(timeout=LOCK_PATIENCE):
            raise Sealed("another thread is still renewing the login", upstream=slot.upstream)
        try:
            yield
        finally:
            lock.release()

    def _opened(self, slot: Slot, sealed: str) -> Entry:
        try:
            content = base64.b64decode(sealed, validate=True)
            plain = AESGCM(self._opener()).decrypt(content[:_NONCE], content[_NONCE:], slot.digest.encode())
            return msgspec.json.decode(plain, type=Entry)
        except (InvalidTag, ValueError):
            text = "the kept login cannot be opened with the key that is here"
            raise Sealed(text, upstream=slot.upstream, hint="Log in again.") from None

    def _note(self, slot: Slot, kept: Mapping[str, Any] | None) -> None:
        if kept is None:
            self._stamps.pop(slot.digest, None)
        else:
            digest = sha256(str(kept.get("sealed")).encode()).digest()
            self._stamps[slot.digest] = (int.from_bytes(digest[:8], "big"), len(digest), 0)
