"""Secrets that are planted into the configurations of tests, and the search for them in all that a run leaves behind.

``plant`` gives every upstream a secret: a variable of its environment, or a header. Files hold a reference only, so the
secret itself must be nowhere: not in a log, a report of a command, a file of the state directory, nor in what pytest
captured. ``tests/conftest.py`` looks through everything and fails the run.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

VARIABLE: Final = "MANIFOLD_TEST_PLANTED"
"""The variable of Manifold's environment that has the secret."""
CHILD_VARIABLE: Final = "PLANTED_TOKEN"
HEADER: Final = "X-Planted-Key"

SECRET: Final = "planted-7f3e-b21c-secret"  # noqa: S105 - it is there to be looked for
REFERENCE: Final = f"${{{VARIABLE}:-nothing-is-planted}}"

LARGEST: Final = 64 * 1024 * 1024
"""Bytes of a file that are looked through."""


def plant(upstreams: Mapping[str, Any], value: str = REFERENCE) -> dict[str, Any]:
    """Upstreams with a secret in each; what is no upstream stays as it is."""
    return {name: _planted(entry, value) for name, entry in upstreams.items()}


def _planted(entry: Any, value: str) -> Any:
    if not isinstance(entry, Mapping):
        return entry
    if "command" in entry and isinstance(entry.get("env", {}), Mapping):
        return {**entry, "env": {**entry.get("env", {}), CHILD_VARIABLE: value}}
    if ("url" in entry or "urls" in entry) and isinstance(entry.get("headers", {}), Mapping):
        return {**entry, "headers": {**entry.get("headers", {}), HEADER: f"Bearer {value}"}}
    return entry


class Search:
    """Looks for the secret, and remembers where it was."""

    def __init__(self, secret: str = SECRET) -> None:
        self._secret = secret
        self._bytes = secret.encode()
        self.found: list[str] = []

    def look(self, text: str, where: str) -> None:
        """Look through a text."""
        if self._secret in text:
            line = next(line for line in text.splitlines() if self._secret in line)
            self.found.append(f"{where}: {line.replace(self._secret, '<SECRET>')[:300]}")

    def look_at(self, folder: Path) -> None:
        """Look through all files below a folder."""
        for path in sorted(folder.rglob("*")):
            try:
                if not path.is_file() or path.is_symlink() or path.stat().st_size > LARGEST:
                    continue
                data = path.read_bytes()
            except OSError:
                continue
            if self._bytes in data:
                self.found.append(str(path))


SEARCH: Final = Search()
"""The search of this run."""
