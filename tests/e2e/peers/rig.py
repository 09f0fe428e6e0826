"""Installs the published servers, clients and tools which the end-to-end tests run against.

Everything lands in ``.tools/`` at the root of the repository, one folder a part, keyed by the pins of that part. A part
which is there is not touched, so that the second run costs nothing. ``python tests/e2e/peers/rig.py`` warms it.
"""

import fcntl
import hashlib
import platform
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

PINS: Final = Path(__file__).parent
ROOT: Final = PINS.parents[2]
TOOLS: Final = ROOT / ".tools"
NODE_AT_LEAST: Final = 20
INSTALL_TIMEOUT: Final = 600.0
"""Seconds for one part."""
COMPLETE: Final = ".complete"


class PeersError(Exception):
    """The published peers cannot be installed; the message says what is missing and what to do."""


@dataclass(frozen=True)
class Part:
    """A folder of ``.tools/`` and what fills it."""

    name: str
    pins: str
    """The file of pinned versions, beside this module."""
    fill: Callable[[Path, Path], None]
    """Gets the new folder and the file of pins."""

    @property
    def folder(self) -> Path:
        """Where this part is, or will be."""
        text = (PINS / self.pins).read_bytes()
        marks = f"{sys.version_info[:2]} {platform.system()} {platform.machine()} {ROOT}"
        return TOOLS / f"{self.name}-{hashlib.sha256(text + marks.encode()).hexdigest()[:12]}"


def _npm(folder: Path, pins: Path) -> None:
    npm = shutil.which("npm")
    if not npm:
        raise PeersError("npm is not on PATH: the tests against published servers need node 20 or newer with npm.")
    shutil.copy(pins, folder / "package.json")
    flags = ("--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error")
    _run([npm, "install", *flags], folder)


def _venv(folder: Path, pins: Path) -> None:
    _run([sys.executable, "-m", "venv", "--without-pip", str(folder)], folder)
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "--disable-pip-version-check"]
    _run([*pip, "install", "--quiet", "--requirement", str(pins)], folder)


NPM: Final = Part("npm", "package.json", _npm)
NODE22: Final = Part("node22", "node22/package.json", _npm)
CONFORMANCE: Final = Part("conformance-0.1", "conformance-0.1/package.json", _npm)
CONFORMANCE_NEXT: Final = Part("conformance-0.2", "conformance-0.2/package.json", _npm)
PYTHON_SERVERS: Final = Part("python-servers", "python-servers.txt", _venv)
PYTHON_MCP1: Final = Part("python-mcp1", "python-mcp1.txt", _venv)
PARTS: Final = (PYTHON_SERVERS, NPM, PYTHON_MCP1, NODE22, CONFORMANCE, CONFORMANCE_NEXT)


def node() -> Path:
    """The machine's own node. Raises PeersError if there is none, or one that is too old."""
    found = shutil.which("node")
    if not found:
        raise PeersError("node is not on PATH: the tests against published servers need node 20 or newer with npm.")
    version = _run([found, "--version"], ROOT).strip()
    major = re.match(r"v(\d+)\.", version)
    if not major or int(major[1]) < NODE_AT_LEAST:
        raise PeersError(f"node is {version}: the tests against published servers need node {NODE_AT_LEAST} or newer.")
    return Path(found)


def install(parts: Sequence[Part] = PARTS) -> None:
    """Install what is missing, several parts at once. Raises PeersError with everything that went wrong."""
    node()
    with ThreadPoolExecutor(max_workers=len(parts)) as pool:
        failures = [failure for failure in pool.map(_try_install, parts) if failure]
    if failures:
        raise PeersError("\n".join(failures))


def _try_install(part: Part) -> str:
    try:
        _install(part)
    except (PeersError, OSError) as error:
        return f"{part.name}: {error}"
    return ""


def _install(part: Part) -> None:
    folder = part.folder
    if (folder / COMPLETE).exists():
        return
    TOOLS.mkdir(exist_ok=True)
    with _locked(TOOLS / f"{part.name}.lock"):
        if (folder / COMPLETE).exists():
            return
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        part.fill(folder, PINS / part.pins)
        (folder / COMPLETE).touch()


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold a lock among processes; the system lets go of it when a process dies."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _run(command: Sequence[str], folder: Path) -> str:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=INSTALL_TIMEOUT)
    except subprocess.TimeoutExpired as error:
        raise PeersError(f"`{' '.join(command)}` took longer than {INSTALL_TIMEOUT:.0f} s.") from error
    if done.returncode:
        raise PeersError(f"`{' '.join(command)}` failed:\n{done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def main() -> int:
    """Warm ``.tools/`` and say how long it took."""
    started = time.monotonic()
    try:
        install()
    except PeersError as error:
        print(f"tools: {error}", file=sys.stderr)
        return 1
    print(f"tools: ready in {TOOLS.name}/ ({time.monotonic() - started:.1f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
