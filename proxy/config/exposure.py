"""Files with secrets that others may read: a complaint, and what to do about it. It stops nothing."""

import contextlib
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from proxy.config.node import Node
from proxy.config.secrets import masked_args
from proxy.errors import Problem
from proxy.masking import sounds_secret

OTHERS_READ: Final = stat.S_IRGRP | stat.S_IROTH
_OPEN: Final = stat.S_IRWXG | stat.S_IRWXO

_NAMED: Final = frozenset({"token", "tokens", "client_secret", "secret", "secrets", "password", "state_keys"})
"""Members whose values are secrets by what they mean."""
_BY_NAME: Final = frozenset({"env", "headers"})
"""Members that hold values of any name: those count whose name sounds secret."""


def exposed_file(mode: int) -> bool:
    """Whether others than its owner may read a file of this mode."""
    return os.name == "posix" and bool(mode & OTHERS_READ)


def open_to_all(file: str, mode: int) -> list[Problem]:
    """A warning for a configuration that anybody may write: it names the commands that are run."""
    if os.name != "posix" or not mode & stat.S_IWOTH:
        return []
    what = "every user of this machine may write it, and so choose which commands are run as you"
    return [Problem("", what, f"chmod go-w {file}", file)]


def exposed_secrets(root: Node) -> list[Problem]:
    """A warning for a configuration that others may read and that holds secrets in plain text: at the first of them."""
    found = next(_secrets(root), None)
    if found is None:
        return []
    hint = "use ${env:NAME} or ${file:/path}, or take the file from others with chmod 600"
    return [found.problem("looks like a secret in a file that other users may read", hint)]


def make_private(directory: Path) -> None:
    """Make a directory of Manifold's own for its owner alone, there or not there yet. What fails is told later."""
    with contextlib.suppress(OSError):
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.name == "posix" and directory.stat().st_mode & _OPEN:
            directory.chmod(0o700)


def exposed_state(directory: Path) -> list[Problem]:
    """A warning for a state directory into which others may look."""
    try:
        found = directory.stat()
    except OSError:
        return []
    if os.name != "posix" or not found.st_mode & _OPEN:
        return []
    what = f"{directory} is open to other users ({stat.filemode(found.st_mode)})"
    return [Problem("server.state_dir", what, f"chmod 700 {directory}")]


def _secrets(node: Node, name: str = "", *, secret: bool = False, free: bool = False) -> Iterator[Node]:
    """Every literal secret below a node, in the order of the file."""
    for key, each in node.members.items():
        named = key in _NAMED or (free and sounds_secret(key))
        yield from _secrets(each, key, secret=secret or named, free=key in _BY_NAME)
    for each in node.items:
        yield from _secrets(each, name, secret=secret)
    if name == "args":
        yield from _secret_args(node)
    elif isinstance(node.value, str) and _literal(node) and (secret or (name in ("url", "urls") and _password(node))):
        yield node


def _literal(node: Node) -> bool:
    return bool(node.value) and "${" not in str(node.value) and not node.outside


def _password(node: Node) -> bool:
    try:
        return bool(urlsplit(str(node.value)).password)
    except ValueError:
        return False


def _secret_args(node: Node) -> Iterator[Node]:
    texts = [str(each.value) for each in node.items]
    for each, text, shown in zip(node.items, texts, masked_args(texts), strict=True):
        if text != shown and _literal(each):
            yield each
