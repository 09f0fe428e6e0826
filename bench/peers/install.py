"""Installs the proxies to compare with into ``.tools/``, by name and pinned; what is there is not touched."""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).parent
TOOLS: Final = HERE.parents[1] / ".tools"


@dataclass(frozen=True)
class Part:
    """A folder in ``.tools/``; why it is not there, if it is not."""

    folder: Path
    reason: str = ""

    def command(self, name: str) -> list[str]:
        """How to start one of its programs."""
        return [str(self.folder / name)]


def _npm(folder: Path, pins: Path) -> None:
    npm = shutil.which("npm")
    if npm is None:
        raise OSError("npm is not on PATH")
    shutil.copy(pins, folder / "package.json")
    flags = ("--no-package-lock", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error")
    subprocess.run([npm, "install", *flags], cwd=folder, check=True, capture_output=True, text=True, timeout=600)


def _venv(folder: Path, pins: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(folder)], check=True, timeout=120)
    pip = [sys.executable, "-m", "pip", "--python", str(folder / "bin" / "python"), "--disable-pip-version-check"]
    command = [*pip, "install", "--quiet", "--requirement", str(pins)]
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=600)


def _installed(name: str, pins: Path, fill: Callable[[Path, Path], None]) -> Part:
    mark = hashlib.sha256(pins.read_bytes() + f"{sys.version_info[:2]}{TOOLS}".encode()).hexdigest()[:12]
    folder = TOOLS / f"{name}-{mark}"
    done = folder / ".complete"
    if done.exists():
        return Part(folder)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    try:
        fill(folder, pins)
    except (OSError, subprocess.SubprocessError) as error:
        return Part(folder, f"cannot be installed here: {str(getattr(error, 'stderr', '') or error).strip()[-200:]}")
    done.touch()
    return Part(folder)


@cache
def npm() -> Part:
    """The proxies written in JavaScript."""
    part = _installed("bench-npm", HERE / "package.json", _npm)
    return Part(part.folder / "node_modules" / ".bin", part.reason)


@cache
def python() -> Part:
    """The proxy written in Python."""
    part = _installed("bench-python", HERE / "python.txt", _venv)
    return Part(part.folder / "bin", part.reason)


@cache
def contextforge() -> Part:
    """The gateway written in Python."""
    part = _installed("bench-contextforge", HERE / "contextforge.txt", _venv)
    return Part(part.folder / "bin", part.reason)
