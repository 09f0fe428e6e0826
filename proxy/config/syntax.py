"""Text to tree, for every format. Pure."""

import re
import tomllib
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import PurePath
from typing import Final

from proxy.config.node import Node, node_of
from proxy.config.node import Path as NodePath
from proxy.config.syntax_json import parse_json
from proxy.config.syntax_yaml import parse_yaml
from proxy.config.unreadable import Unreadable
from proxy.errors import ConfigError, Problem

_SUFFIXES: Final = {
    ".yaml": "yaml",
    ".yml": "yaml",
    ".toml": "toml",
    ".json": "json",
    ".jsonc": "json",
    ".json5": "json",
}
_TOML_AT: Final = re.compile(r"\s*\(at (?:line (\d+), column \d+|end of document)\)")
_TOML_PART: Final = r"""(?:"(?:[^"\\]|\\.)*"|'[^']*'|[A-Za-z0-9_-]+)"""
_TOML_PARTS: Final = re.compile(_TOML_PART)
_TOML_KEY: Final = rf"{_TOML_PART}(?:\s*\.\s*{_TOML_PART})*"
_TOML_HEAD: Final = re.compile(rf"\s*\[(\[?)\s*({_TOML_KEY})\s*\]")
_TOML_PAIR: Final = re.compile(rf"\s*({_TOML_KEY})\s*=")


class Format(StrEnum):
    """The syntaxes of configuration files."""

    YAML = "yaml"
    TOML = "toml"
    JSON = "json"


@dataclass(frozen=True, slots=True)
class Parsed:
    """A tree, and what is wrong with the document although it could be read (duplicate keys)."""

    root: Node
    problems: tuple[Problem, ...] = field(default=())


def format_of(file: str, text: str) -> Format:
    """The format of a file by its suffix; by its first character when the suffix says nothing."""
    known = _SUFFIXES.get(PurePath(file).suffix.lower())
    if known:
        return Format(known)
    return Format.JSON if text.lstrip().startswith(("{", "//", "/*")) else Format.YAML


def parse(text: str, syntax: Format, file: str) -> Parsed:
    """Read a document.

    Raises:
        ConfigError: with one problem, when the text is empty, not of that format, or not a mapping.
    """
    readers: dict[Format, Callable[[str, str, list[Problem]], Node]] = {
        Format.YAML: parse_yaml,
        Format.JSON: parse_json,
        Format.TOML: _parse_toml,
    }
    problems: list[Problem] = []
    if not text.strip():
        raise ConfigError([_empty(file)])
    try:
        root = readers[syntax](text, file, problems)
    except Unreadable as error:
        raise ConfigError([Problem("", error.message, error.hint, file, error.line)]) from None
    except RecursionError:
        raise ConfigError([Problem("", "is nested too deeply", file=file)]) from None
    if root.value is None:
        raise ConfigError([_empty(file)])
    if not isinstance(root.value, dict):
        raise ConfigError([Problem("", "must be a mapping with the key mcpServers", _EXAMPLE, file, root.line)])
    return Parsed(root, tuple(problems))


_EXAMPLE: Final = 'a small one: {"mcpServers": {"files": {"command": "npx", "args": ["-y", "some-server"]}}}'


def _empty(file: str) -> Problem:
    return Problem("", "is empty", _EXAMPLE, file)


def _parse_toml(text: str, file: str, _: list[Problem]) -> Node:
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = _TOML_AT.search(str(error))
        line = int(found[1]) if found and found[1] else text.count("\n") + 1
        raise Unreadable(f"is not valid TOML: {_TOML_AT.sub('', str(error))}", line) from None
    except ValueError:
        raise Unreadable("is not valid TOML: it has a number that is too long") from None
    return node_of(data, file=file, lines={(): 1, **_toml_lines(text)})


def _toml_lines(text: str) -> dict[NodePath, int]:
    """The line of each table and key, found by looking at line beginnings; good enough for messages."""
    lines: dict[NodePath, int] = {}
    table: NodePath = ()
    counts: dict[NodePath, int] = {}
    for number, line in enumerate(text.splitlines(), start=1):
        if head := _TOML_HEAD.match(line):
            table = _toml_parts(head[2])
            if head[1]:
                counts[table] = counts.get(table, -1) + 1
                table = (*table, counts[table])
            path = table
        elif pair := _TOML_PAIR.match(line):
            path = (*table, *_toml_parts(pair[1]))
        else:
            continue
        for end in range(1, len(path) + 1):
            lines.setdefault(path[:end], number)
    return lines


def _toml_parts(key: str) -> NodePath:
    return tuple(part[1:-1] if part[0] in "\"'" else part for part in _TOML_PARTS.findall(key))
