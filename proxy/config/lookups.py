"""Where references find their values on this machine: environment, files, the keyring, and a few names."""

import importlib
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from proxy.config.interpolate import Sources, Unresolved

_LARGEST_FILE: Final = 1024 * 1024
_EDITORS: Final = (".vscode", ".cursor")


def base_of(file: Path) -> Path:
    """Where relative paths of a configuration file start: its folder, or the workspace around an editor's folder."""
    folder = file.absolute().parent
    return folder.parent if folder.name in _EDITORS else folder


class FileReader:
    """Reads the files that references name, and remembers which: a change of one is a change of the configuration."""

    def __init__(self, base: Path, home: Path) -> None:
        self._base = base
        self._home = home
        self.read: list[Path] = []

    def __call__(self, name: str) -> str:
        """The content of a file without its last line break.

        Raises:
            Unresolved: it cannot be read, is too large, or is no text.
        """
        path = self._home / name[2:] if name.startswith("~/") else self._base / name
        try:
            with path.open("rb") as stream:
                content = stream.read(_LARGEST_FILE + 1)
            text = content.decode("utf-8")
        except FileNotFoundError:
            raise Unresolved(f"refers to the file {name}, which does not exist", absent=True) from None
        except UnicodeDecodeError:
            raise Unresolved(f"refers to the file {name}, which is not UTF-8 text") from None
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not a usable path"
            raise Unresolved(f"refers to the file {name}, which cannot be read: {reason}") from None
        if len(content) > _LARGEST_FILE:
            raise Unresolved(f"refers to the file {name}, which is larger than 1 MiB")
        self.read.append(path)
        return text.removesuffix("\n").removesuffix("\r")


def from_keyring(service: str, user: str) -> str:
    """A secret from the system's keyring.

    Raises:
        Unresolved: there is no keyring package, no usable backend, or no such entry.
    """
    entry = f"{service}/{user}"
    try:
        keyring = importlib.import_module("keyring")  # optional, and slow to import for those who do not use it
    except ImportError:
        hint = "install the package keyring, or use ${env:NAME} or ${file:/path}"
        raise Unresolved(f"refers to the keyring entry {entry}, but no keyring is installed", hint) from None
    try:
        secret = keyring.get_password(service, user)
    except Exception as error:  # noqa: BLE001 - backends are plug-ins and raise what they like
        kind = type(error).__name__
        raise Unresolved(f"refers to the keyring entry {entry}, but the keyring failed: {kind}") from None
    if secret is None:
        hint = f"store it with: keyring set {service} {user}"
        raise Unresolved(f"refers to the keyring entry {entry}, which does not exist", hint, absent=True)
    return str(secret)


def local_sources(base: Path, env: Mapping[str, str] | None = None) -> tuple[Sources, FileReader]:
    """Lookups for a configuration file whose relative paths start at ``base``; ``env`` instead of our environment."""
    home = Path.home()
    reader = FileReader(base, home)
    variables = {
        "python": sys.executable,
        "workspaceFolder": str(base),
        "workspaceFolderBasename": base.name,
        "userHome": str(home),
        "pathSeparator": os.sep,
        "/": os.sep,
    }
    sources = Sources(dict(os.environ) if env is None else env, variables, reader, from_keyring)
    return sources, reader
