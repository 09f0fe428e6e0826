"""YAML with the line of every value. Pure."""

from typing import Final

import yaml

from proxy.config.node import DEEPEST, Node, Path, Scalar
from proxy.config.unreadable import Unreadable
from proxy.errors import Problem

_TAG: Final = "tag:yaml.org,2002:"
_MERGE: Final = _TAG + "merge"
_COLLECTIONS: Final = (_TAG + "map", _TAG + "seq")
_MOST_NODES: Final = 100_000
"""Aliases may unfold to far more than was written; no honest file comes near this."""


def parse_yaml(text: str, file: str, problems: list[Problem]) -> Node:
    """Read a YAML document; duplicate keys and unknown tags go to ``problems``.

    Raises:
        Unreadable: it is not YAML.
    """
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        raise _unreadable(error) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, int(error.position)) + 1
        raise Unreadable("is not valid YAML: it has a control character", line) from None
    return Node(None, file=file) if root is None else _Reader(file, problems).node(root, (), None)


def _unreadable(error: yaml.MarkedYAMLError) -> Unreadable:
    mark = error.problem_mark or error.context_mark
    what = error.problem or error.context or "it cannot be read"
    hint = ""
    if "'\\t'" in what:
        hint = "indent with spaces, not with tabs"
    elif "but found another document" in what:
        hint = "one file holds one document"
    elif "mapping values are not allowed" in what:
        hint = "put a text that contains a colon in quotes, and check the indentation"
    return Unreadable(f"is not valid YAML: {what}", mark.line + 1 if mark else None, hint)


class _Reader:
    def __init__(self, file: str, problems: list[Problem]) -> None:
        self._file = file
        self._problems = problems
        self._left = _MOST_NODES
        self._open: set[int] = set()
        self._scalars = yaml.constructor.SafeConstructor()

    def node(self, raw: yaml.Node, path: Path, line: int | None) -> Node:
        line = line or raw.start_mark.line + 1
        if len(path) > DEEPEST:
            raise Unreadable("is nested too deeply", line)
        self._left -= 1
        if self._left < 0 or id(raw) in self._open:
            raise Unreadable("is not usable YAML: its aliases unfold without end", line)
        self._open.add(id(raw))
        if not isinstance(raw, yaml.ScalarNode) and raw.tag not in _COLLECTIONS:
            self._unknown_tag(raw, path, line)
        try:
            if isinstance(raw, yaml.MappingNode):
                return Node(self._members(raw, path), path, line, self._file)
            if isinstance(raw, yaml.SequenceNode):
                items = [self.node(each, (*path, index), None) for index, each in enumerate(raw.value)]
                return Node(items, path, line, self._file)
            return Node(self._scalar(raw, path, line), path, line, self._file, raw.value)
        finally:
            self._open.discard(id(raw))

    def _members(self, raw: yaml.MappingNode, path: Path) -> dict[str, Node]:
        members: dict[str, Node] = {}
        merged: dict[str, Node] = {}
        for key, value in raw.value:
            line = key.start_mark.line + 1
            if key.tag == _MERGE:
                merged |= {name: each for name, each in self._merged(value, path, line).items() if name not in merged}
                continue
            if not isinstance(key, yaml.ScalarNode):
                raise Unreadable("is not usable YAML: a key must be a text", line)
            member = self.node(value, (*path, key.value), line)
            if first := members.get(key.value):
                self._problems.append(member.problem(f"is there twice; first in line {first.line}", "keep one"))
            members[key.value] = member
        return {**members, **{name: each for name, each in merged.items() if name not in members}}

    def _merged(self, raw: yaml.Node, path: Path, line: int) -> dict[str, Node]:
        parts = raw.value if isinstance(raw, yaml.SequenceNode) else [raw]
        merged: dict[str, Node] = {}
        for part in parts:
            if not isinstance(part, yaml.MappingNode):
                raise Unreadable("is not usable YAML: << takes a mapping", line)
            merged = {**self.node(part, path, line).members, **merged}
        return merged

    def _scalar(self, raw: yaml.Node, path: Path, line: int) -> Scalar:
        tag, text = raw.tag.removeprefix(_TAG), str(raw.value)
        if tag in ("null", "bool", "int", "float") and ":" not in text:
            try:
                value: Scalar = self._scalars.construct_object(raw)
            except (ValueError, KeyError):
                self._problems.append(Node(None, path, line, self._file).problem(f"is not of the type {raw.tag}"))
                return None
            return value
        if raw.tag == tag:
            self._unknown_tag(raw, path, line)
        return text  # dates, times and 12:30 stay as written: JSON has no such values

    def _unknown_tag(self, raw: yaml.Node, path: Path, line: int) -> None:
        place = Node(None, path, line, self._file)
        self._problems.append(
            place.problem(f"has the unknown tag {raw.tag}", "remove the tag; use ${...} for references")
        )
