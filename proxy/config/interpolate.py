"""References in texts: ``${env:X}``, ``${X:-default}``, ``${file:/run/secrets/x}`` and friends.

Pure; lookups are injected.

A reference is ``${`` up to its ``}``. In a run of dollars before a brace two stand for one, so ``$${X}`` is the text
``${X}``; dollars elsewhere are left alone. What a reference brings in is not read again for references.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Final

from proxy.config.node import Node
from proxy.config.suggest import did_you_mean
from proxy.errors import Problem

_OPENING: Final = re.compile(r"(\$+)\{")
_NAME: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_DEEPEST: Final = 16
_KINDS_HINT: Final = "use ${env:NAME}, ${NAME:-default}, ${file:/path} or ${keyring:service/user}; $${ is a plain ${"


class Unresolved(Exception):
    """A reference has no value. ``absent`` says that a default may take its place."""

    def __init__(self, message: str, hint: str = "", *, absent: bool = False) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.absent = absent


def _no_file(path: str) -> str:
    raise Unresolved(f"refers to the file {path}, but files are not read here")


def _no_keyring(service: str, user: str) -> str:
    raise Unresolved(f"refers to the keyring entry {service}/{user}, but there is no keyring here")


@dataclass(frozen=True, slots=True)
class Sources:
    """Where references are looked up. The callables raise ``Unresolved``."""

    env: Mapping[str, str] = field(default_factory=dict)
    variables: Mapping[str, str] = field(default_factory=dict)
    """Names of our own and of editors: python, workspaceFolder, userHome, ..."""
    file: Callable[[str], str] = _no_file
    keyring: Callable[[str, str], str] = _no_keyring


def interpolate(text: str, sources: Sources, *, depth: int = 0) -> str:
    """Replace all references of a text.

    Raises:
        Unresolved: one of them has no value, or is none.
    """
    if depth > _DEEPEST:
        raise Unresolved("has references nested too deeply")
    out: list[str] = []
    at = 0
    while opening := _OPENING.search(text, at):
        dollars = len(opening[1])
        out.append(text[at : opening.start()] + "$" * (dollars // 2))
        if dollars % 2:
            at = _closing(text, opening.end())
            out.append(_resolve(text[opening.end() : at - 1], sources, depth))
        else:
            out.append("{")
            at = opening.end()
    return "".join(out) + text[at:]


def escape(text: str) -> str:
    """A text which ``interpolate`` turns into ``text``."""
    return _OPENING.sub(lambda opening: opening[1] * 2 + "{", text)


def interpolate_tree(node: Node, sources: Sources, problems: list[Problem]) -> Node:
    """Replace the references in all texts of a tree. What cannot be resolved is a problem and stays as it is."""
    if isinstance(node.value, dict):
        return node.having({key: interpolate_tree(each, sources, problems) for key, each in node.value.items()})
    if isinstance(node.value, list):
        return node.having([interpolate_tree(each, sources, problems) for each in node.value])
    if not isinstance(node.value, str) or "${" not in node.value:
        return node
    try:
        text = interpolate(node.value, sources)
    except Unresolved as error:
        problems.append(node.problem(error.message, error.hint))
        return replace(node, broken=True)
    return replace(node, value=text, text=None, outside=True)


def _closing(text: str, start: int) -> int:
    depth = 1
    for at in range(start, len(text)):
        depth += {"{": 1, "}": -1}.get(text[at], 0)
        if not depth:
            return at + 1
    raise Unresolved("has a ${ without its }", "close the reference, or write $${ for a plain ${")


def _resolve(body: str, sources: Sources, depth: int) -> str:
    head, colon, default = body.partition(":-")
    try:
        value = _look_up(head.strip(), sources)
    except Unresolved as error:
        if not colon or not error.absent:
            raise
        value = ""
    return value or (interpolate(default, sources, depth=depth + 1) if colon else "")


def _look_up(head: str, sources: Sources) -> str:
    kind, colon, name = head.partition(":")
    if not colon:
        return _named(head, sources)
    match kind:
        case "env" if name:
            return _from_env(name, sources)
        case "file" if name:
            return sources.file(name)
        case "keyring" if all(name.rpartition("/")):
            service, _, user = name.rpartition("/")
            return sources.keyring(service, user)
        case "keyring":
            raise Unresolved(f"has the reference ${{{head}}}, which lacks a part", "write ${keyring:service/user}")
        case "input":
            raise Unresolved(
                f"asks for the input {name}, but nobody is there to be asked",
                f"use ${{env:{_env_name(name)}}} and set that variable",
            )
        case _:
            raise Unresolved(f"has the unknown reference ${{{head}}}", _KINDS_HINT)


def _env_name(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]+", "_", name).strip("_").upper() or "NAME"


def _named(name: str, sources: Sources) -> str:
    if name in sources.variables:
        return sources.variables[name]
    if not _NAME.fullmatch(name):
        raise Unresolved(f"has the unknown reference ${{{name}}}", _KINDS_HINT)
    return _from_env(name, sources)


def _from_env(name: str, sources: Sources) -> str:
    if name in sources.env:
        return sources.env[name]
    hint = f"set it, or give a default: ${{{name}:-...}}"
    near = did_you_mean(name, [*sources.env, *sources.variables])
    raise Unresolved(f"needs the environment variable {name}, which is not set", near or hint, absent=True)
