"""A parsed document that knows where everything stands. Pure."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from proxy.config.unreadable import Unreadable
from proxy.errors import Problem

Scalar = str | int | float | bool | None
Path = tuple[str | int, ...]

DEEPEST: Final = 64
"""How many levels a document may have; no honest file comes near this."""

_PLAIN_KEY: Final = re.compile(r"[A-Za-z0-9_$@/-]+")


@dataclass(frozen=True, slots=True)
class Node:
    """A value with its place in a file. ``path`` keeps the words of the file when the tree is rearranged."""

    value: "Scalar | dict[str, Node] | list[Node]"
    path: Path = ()
    line: int | None = None
    file: str = ""
    text: str | None = None
    """A scalar as it was written, where the format tells."""
    outside: bool = False
    """Whether part of the value came from outside the file: it may be secret and is never shown."""
    broken: bool = False
    """Whether a problem was already reported for it."""

    @property
    def members(self) -> "dict[str, Node]":
        """The members of a mapping; empty for everything else."""
        return self.value if isinstance(self.value, dict) else {}

    @property
    def items(self) -> "list[Node]":
        """The items of a list; empty for everything else."""
        return self.value if isinstance(self.value, list) else []

    def child(self, part: str | int) -> "Node | None":
        """The member or item under ``part``, if there is one."""
        if isinstance(part, int):
            return self.items[part] if 0 <= part < len(self.items) else None
        return self.members.get(part)

    def having(self, value: "Scalar | dict[str, Node] | list[Node]") -> "Node":
        """The same place with another value."""
        return replace(self, value=value)

    def problem(self, message: str, hint: str = "", *, below: Sequence[str | int] = ()) -> Problem:
        """A problem at this place, or at the path ``below`` it."""
        return Problem(path_text((*self.path, *below)), message, hint, self.file, self.line)


def path_text(path: Sequence[str | int]) -> str:
    """A path as people read it: ``mcpServers.files.args[0]``, with quotes around unusual keys."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            shown = part if _PLAIN_KEY.fullmatch(part) else '"' + part.replace('"', '\\"') + '"'
            text += f".{shown}" if text else shown
    return text


def node_of(data: Any, *, path: Path = (), file: str = "", lines: Mapping[Path, int] | None = None) -> Node:
    """A tree made of plain data; ``lines`` has the line of each path that is known.

    Raises:
        Unreadable: it is nested too deeply.
    """
    line = next((lines[path[:end]] for end in range(len(path), -1, -1) if path[:end] in lines), None) if lines else None
    if len(path) > DEEPEST:
        raise Unreadable("is nested too deeply", line)
    if isinstance(data, Mapping):
        members = {
            str(key): node_of(each, path=(*path, str(key)), file=file, lines=lines) for key, each in data.items()
        }
        return Node(members, path, line, file)
    if isinstance(data, (list, tuple)):
        items = [node_of(each, path=(*path, index), file=file, lines=lines) for index, each in enumerate(data)]
        return Node(items, path, line, file)
    return Node(data if isinstance(data, (str, int, float)) or data is None else str(data), path, line, file)


def plain(node: Node) -> Any:
    """The bare data of a tree."""
    if isinstance(node.value, dict):
        return {key: plain(each) for key, each in node.value.items()}
    if isinstance(node.value, list):
        return [plain(each) for each in node.value]
    return node.value


def kind_of(node: Node) -> str:
    """What a value is, in a word for people."""
    value = node.value
    kinds = (
        (bool, "true or false"),
        (dict, "a mapping"),
        (list, "a list"),
        (str, "a text"),
        ((int, float), "a number"),
    )
    return "nothing" if value is None else next(word for kind, word in kinds if isinstance(value, kind))


def walk(node: Node) -> Iterator[Node]:
    """The node and all below it, in file order."""
    yield node
    for each in node.members.values():
        yield from walk(each)
    for each in node.items:
        yield from walk(each)
