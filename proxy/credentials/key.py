"""The key that seals kept logins: in the system's keyring where there is one, otherwise in a file beside them."""

import base64
import importlib
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import structlog

from proxy.errors import Unavailable

log = structlog.get_logger(__name__)

FILE: Final = "key"
MARK: Final = "key.keyring"
"""Stands where the key is in the keyring, and names the entry."""
_SERVICE: Final = "mcp-manifold"
_BYTES: Final = 32


class KeyMissing(Unavailable):
    """The key of the kept logins cannot be had."""


def key_of(folder: Path) -> bytes:
    """The key for a folder; made where there is none yet.

    Raises:
        KeyMissing: there is one, but not for us here.
        OSError: it can be neither read nor written.
    """
    if (key := _from_file(folder / FILE)) is not None:
        return key
    with suppress(FileNotFoundError):
        return _from_keyring((folder / MARK).read_text(encoding="ascii").strip())
    return _made(folder)


def _made(folder: Path) -> bytes:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    key = secrets.token_bytes(_BYTES)
    entry = f"logins {secrets.token_hex(8)}"
    if not (_into_keyring(entry, key) and _placed(folder / MARK, entry)):
        _placed(folder / FILE, _text(key))
    # Another process may have been faster: its key is the one that counts.
    return _from_file(folder / FILE) or _from_keyring((folder / MARK).read_text(encoding="ascii").strip())


def _placed(path: Path, text: str) -> bool:
    """Write a file whole or not at all, and only if it is not there. Returns whether it was not."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with os.fdopen(handle, "w", encoding="ascii") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.link(draft, path)
    except FileExistsError:
        return False
    finally:
        draft.unlink()
    return True


def _from_file(path: Path) -> bytes | None:
    try:
        with path.open("rb") as file:
            complain(path, os.fstat(file.fileno()))
            key = _key(file.read(200).decode(errors="replace"))
    except FileNotFoundError:
        return None
    if key is None:
        raise KeyMissing(f"{path} has no key in it", hint="Restore it, or delete it and log in again.")
    return key


def _from_keyring(entry: str) -> bytes:
    keyring = _keyring()
    found = None
    if keyring is not None:
        with suppress(Exception):  # each backend has errors of its own
            found = _key(keyring.get_password(_SERVICE, entry) or "")
    if found is None:
        raise KeyMissing(
            f"the key of the kept logins is in the system's keyring ({_SERVICE}/{entry}), which cannot be read here",
            hint="Unlock the keyring, or delete the folder of the logins and log in again.",
        )
    return found


def _into_keyring(entry: str, key: bytes) -> bool:
    keyring = _keyring()
    if keyring is None:
        return False
    try:
        keyring.set_password(_SERVICE, entry, _text(key))
        return _key(keyring.get_password(_SERVICE, entry) or "") == key
    except Exception:  # noqa: BLE001 - each backend has errors of its own; the file is as good
        log.info("credentials.no_keyring")
        return False


def _keyring() -> Any:
    """The keyring package, if it is installed and has a backend that is worth the name."""
    try:
        keyring = importlib.import_module("keyring")  # optional, and slow to import
        return keyring if keyring.get_keyring().priority >= 1 else None
    except Exception:  # noqa: BLE001 - a keyring that is there but broken is none
        return None


def _text(key: bytes) -> str:
    return base64.b64encode(key).decode()


def _key(text: str) -> bytes | None:
    try:
        key = base64.b64decode(text.strip(), validate=True)
    except ValueError:
        return None
    return key if len(key) == _BYTES else None


_complained: set[Path] = set()


def complain(path: Path, found: os.stat_result) -> None:
    """Say, once, when others than the owner may get at something that is kept."""
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o077 and path not in _complained:
        _complained.add(path)
        right = "700" if stat.S_ISDIR(found.st_mode) else "600"
        log.warning("credentials.open_to_others", path=str(path), mode=oct(mode), hint=f"chmod {right} {path}")
