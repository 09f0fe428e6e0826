"""What exactly is started for a stdio upstream: program, environment, directory. Checked before anything runs."""

import os
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from proxy.config.model import UpstreamConfig
from proxy.errors import ConnectFailed

INHERITED: Final = ("HOME", "LOGNAME", "PATH", "SHELL", "TERM", "USER", "LANG", "LC_ALL", "TMPDIR")
"""What a child gets of our environment: enough to find its programs and files, none of our secrets."""

_REMEDIES: Final = {
    "npx": "Install Node.js, which brings npx",
    "npm": "Install Node.js, which brings npm",
    "node": "Install Node.js",
    "uvx": "Install uv, which brings uvx",
    "uv": "Install uv",
    "docker": "Install Docker",
    "podman": "Install Podman",
    "python": "Install Python, or use python3",
    "bunx": "Install Bun, which brings bunx",
    "deno": "Install Deno",
}


@dataclass(frozen=True, slots=True)
class Command:
    """A program with everything it needs to start."""

    program: str
    args: tuple[str, ...]
    env: Mapping[str, str]
    cwd: str | None


def prepare(name: str, config: UpstreamConfig, environ: Mapping[str, str] | None = None) -> Command:
    """Find the command and compose its environment; ``environ`` is ours by default.

    Raises:
        ConnectFailed: there is no such command or directory. Nothing was started.
    """
    environ = os.environ if environ is None else environ
    command = config.command or ""
    cwd = _directory(name, config.cwd)
    env = environment(config, environ)
    program = _find(command, env.get("PATH", os.defpath), cwd)
    if program is None:
        raise _not_found(name, command, env.get("PATH", os.defpath), cwd)
    return Command(program, config.args, env, cwd)


def environment(config: UpstreamConfig, environ: Mapping[str, str]) -> dict[str, str]:
    """The child's environment: the minimal set, what the operator lets through, what the operator sets."""
    env = {key: environ[key] for key in (*INHERITED, *config.inherit_env) if key in environ}
    env.update((key, secret.get_secret_value()) for key, secret in config.env.items())
    return env


def _directory(name: str, cwd: str | None) -> str | None:
    if cwd is None:
        return None
    path = Path(cwd).expanduser()
    if not path.is_dir():
        what = "is not a directory" if path.exists() else "does not exist"
        raise ConnectFailed(f"its directory {cwd} {what}", upstream=name, hint="Create it, or correct cwd.")
    return str(path)


def _find(command: str, path: str, cwd: str | None) -> str | None:
    if os.sep not in command:
        return shutil.which(command, path=path)
    # A relative path counts from the directory in which the child runs, as it would in a shell there.
    return shutil.which(str(Path(cwd or ".").absolute() / Path(command).expanduser()))


def _not_found(name: str, command: str, path: str, cwd: str | None) -> ConnectFailed:
    if os.sep in command and (Path(cwd or ".") / Path(command).expanduser()).exists():
        return ConnectFailed(
            f"the command {command} cannot be executed",
            upstream=name,
            hint=f"Make {command} an executable file (chmod +x), or start it with its interpreter.",
        )
    if len(words := command.split()) > 1 and _find(words[0], path, cwd):
        hint = f"Put {words[0]} alone into command, and the rest into args."
    else:
        remedy = _REMEDIES.get(re.sub(r".*/", "", command), f"Install {command}")
        hint = f"{remedy}, or give its full path as command; it was looked for in PATH={path}"
    return ConnectFailed(f"the command {command} was not found", upstream=name, hint=hint)
