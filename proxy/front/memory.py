"""What Manifold answered the last time, so that the next start can answer the same at once.

One small file for each configuration and agent: by protocol revision, the results of ``initialize`` or
``server/discover`` and of the lists. It counts only while everything that they were made from is the same: the files
byte by byte, the environment variables they name, and Manifold's own version.
"""

import contextlib
import hashlib
import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from proxy import __version__
from proxy.front.place import state_root

KEPT: Final = frozenset(
    (
        "initialize",
        "server/discover",
        "tools/list",
        "prompts/list",
        "resources/list",
        "resources/templates/list",
    )
)
"""The methods whose results are kept."""

LARGEST: Final = 32 * 1024 * 1024
"""Bytes; larger files are ignored."""

_VARIABLE: Final = re.compile(rb"\$\{(?:env:)?([A-Za-z_][A-Za-z0-9_]*)")

Answers = dict[str, dict[str, Any]]
"""Protocol revision -> method -> result."""


@dataclass
class Memory:
    """The answers of one configuration, as one agent sees it.

    Args:
        path: the file.
        state: what it is made from, as ``fingerprint`` says; empty if that cannot be read.
    """

    path: Path
    state: str
    answers: Answers = field(default_factory=dict)

    @classmethod
    def of(cls, files: Iterable[Path], agent: str | None, env: Mapping[str, str]) -> "Memory":
        """The memory of a configuration, loaded if it still counts."""
        named = [str(file.resolve()) for file in files]
        key = hashlib.sha256(os.fsencode("\0".join([agent or "", *named]))).hexdigest()[:24]
        path = state_root(env) / "introductions" / f"{key}.json"
        found = _read(path)
        # What else was read (secrets, env files) is known only from the last time.
        also = [str(one) for one in found.get("also", ())]
        memory = cls(path, fingerprint([*named, *also], env))
        if memory.state and found.get("state") == memory.state:
            memory.answers = found["answers"]
        return memory

    def learn(self, version: str, method: str, result: Any) -> bool:
        """Take note of an answer. Returns whether it is news."""
        known = self.answers.setdefault(version, {})
        if known.get(method) == result:
            return False
        known[method] = result
        return True

    def save(self, state: str, also: Iterable[str]) -> None:
        """Keep everything for the next start.

        Args:
            state: what it was made from.
            also: the files in ``state`` that are not named on the command line.

        Raises:
            OSError: it cannot be written.
        """
        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        text = json.dumps({"state": state, "also": list(also), "answers": self.answers}, ensure_ascii=False)
        part = self.path.with_suffix(f".{os.getpid()}.part")
        try:
            with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:  # noqa: PTH123 - a handle, to have the mode from the start
                file.write(text)
            part.replace(self.path)
        except OSError:
            with contextlib.suppress(OSError):
                part.unlink()
            raise


def forget(env: Mapping[str, str] | None = None) -> None:
    """Forget all answers: they may show what must not be shown any more.

    Args:
        env: the environment; by default that of this process.
    """
    for path in (state_root(os.environ if env is None else env) / "introductions").glob("*.json"):
        with contextlib.suppress(OSError):
            path.unlink()


def fingerprint(files: Iterable[str], env: Mapping[str, str]) -> str:
    """A digest of files, of the environment variables that they name, and of Manifold's version.

    Empty if a file cannot be read.
    """
    digest = hashlib.sha256(__version__.encode())
    for file in files:
        try:
            content = Path(file).read_bytes()
        except OSError:
            return ""
        digest.update(b"\0file%d\0" % len(content) + content)
        for name in sorted({one.decode() for one in _VARIABLE.findall(content)}):
            digest.update(os.fsencode(f"\0env\0{name}={env.get(name, '')}"))
    return digest.hexdigest()


def _read(path: Path) -> dict[str, Any]:
    try:
        with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK), "rb") as file:  # noqa: PTH123 - links are not followed
            data = file.read(LARGEST + 1) if os.fstat(file.fileno()).st_uid == os.getuid() else b""
        found = json.loads(data) if len(data) <= LARGEST else None
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and isinstance(found.get("answers"), dict) else {}
