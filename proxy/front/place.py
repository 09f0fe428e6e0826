"""Where a running Manifold is noted, so that a front finds it: one small file for each configuration.

The file says ``{pid, url, config, version}``. It stands in the user's own state folder, whatever ``server.state_dir``
says, because a front does not read configurations.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlsplit

from proxy import __version__

_DIRECTORY_MODE: Final = 0o700
_FILE_MODE: Final = 0o600


def state_root(env: Mapping[str, str]) -> Path:
    """The folder for what Manifold keeps between runs (XDG base directories)."""
    base = env.get("XDG_STATE_HOME", "")
    root = Path(base) if Path(base).is_absolute() else Path(env.get("HOME") or "~").expanduser() / ".local" / "state"
    return root / "mcp-manifold"


@dataclass(frozen=True)
class Running:
    """A Manifold that said it runs."""

    pid: int
    url: str


@dataclass(frozen=True)
class Place:
    """Everything about one configuration that fronts and servers share."""

    folder: Path
    key: str
    """Which configuration: a digest of where its files are. Their content may change; the server reloads it."""

    @classmethod
    def of(cls, files: Iterable[Path], env: Mapping[str, str]) -> "Place":
        """The place of a configuration by its files, in order."""
        text = "\0".join(str(file.resolve()) for file in files)
        return cls(state_root(env) / "running", hashlib.sha256(os.fsencode(text)).hexdigest()[:24])

    @property
    def note(self) -> Path:
        """Who serves it."""
        return self.folder / f"{self.key}.json"

    @property
    def lock(self) -> Path:
        """Held by the front that is starting a server."""
        return self.folder / f"{self.key}.lock"

    @property
    def log(self) -> Path:
        """What a server started in the background says."""
        return self.folder / f"{self.key}.log"

    def prepare(self) -> None:
        """Make the folder, for its owner only."""
        self.folder.mkdir(mode=_DIRECTORY_MODE, parents=True, exist_ok=True)
        self.folder.chmod(_DIRECTORY_MODE)

    def read(self) -> Running | None:
        """Who serves it, if somebody noted that and its process is there."""
        try:
            found = json.loads(self.note.read_bytes())
            running = Running(int(found["pid"]), str(found["url"]))
            os.kill(running.pid, 0)
        except PermissionError:
            return None  # the file or the process belongs to somebody else
        except (OSError, ValueError, KeyError, TypeError):
            return None
        return running if found.get("config") == self.key else None

    @contextmanager
    def announced(self, url: str) -> Iterator[None]:
        """Note that this process serves at a URL, until the block ends.

        Raises:
            OSError: the note cannot be written.
        """
        self.prepare()
        text = json.dumps({"pid": os.getpid(), "url": url, "config": self.key, "version": __version__})
        part = self.note.with_suffix(f".{os.getpid()}.part")
        with open(os.open(part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, _FILE_MODE), "w") as file:  # noqa: PTH123 - a handle, to have the mode from the start
            file.write(text)
        part.replace(self.note)
        try:
            yield
        finally:
            mine = self.read()
            if mine is not None and mine.pid == os.getpid():
                with contextlib.suppress(OSError):
                    self.note.unlink()


def for_agent(url: str, agent: str | None) -> str:
    """The endpoint of an agent beside the endpoint of the store."""
    if agent is None:
        return url
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}/agents/{quote(agent, safe='')}{parts.path}"
