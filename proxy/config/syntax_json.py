"""JSON as people and editors write it: comments and trailing commas, with the line of every value. Pure."""

import json
import re
from typing import Final

from proxy.config.node import DEEPEST, Node, Path
from proxy.config.unreadable import Unreadable
from proxy.errors import Problem

_SPACE: Final = re.compile(r"(?:[ \t\r\n]+|//[^\n]*|/\*.*?\*/)*", re.DOTALL)
_STRING: Final = re.compile(r'"(?:[^"\\\x00-\x1f]|\\.)*"')
_NUMBER: Final = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?", re.ASCII)
_WORD: Final = re.compile(r"[A-Za-z_$][\w$]*")
_WORDS: Final = {"true": True, "false": False, "null": None}
_LARGEST_NUMBER: Final = 300
_TELLING: Final = frozenset({"True", "False", "None", "undefined", "NaN", "Infinity"})
"""Words worth showing in a message; any other may be part of a secret."""


def parse_json(text: str, file: str, problems: list[Problem]) -> Node:
    """Read a JSON document; duplicate keys go to ``problems``.

    Raises:
        Unreadable: it is not JSON.
    """
    return _Reader(text, file, problems).document()


class _Reader:
    def __init__(self, text: str, file: str, problems: list[Problem]) -> None:
        self._text = text
        self._file = file
        self._problems = problems
        self._at = 0
        self._line = 1
        self._counted = 0

    def document(self) -> Node:
        self._skip()
        root = self._value((), self._line_here())
        self._skip()
        if self._at < len(self._text):
            raise self._wrong("goes on after its end", "one file holds one object")
        return root

    def _value(self, path: Path, line: int) -> Node:
        if len(path) > DEEPEST:
            raise self._wrong("is nested too deeply")
        if self._peek() == "{":
            return self._object(path, line)
        if self._peek() == "[":
            return self._array(path, line)
        if self._peek() == '"':
            return Node(self._string(), path, line, self._file)
        if number := _NUMBER.match(self._text, self._at):
            self._at = number.end()
            return Node(self._number(number[0]), path, line, self._file, number[0])
        word = _WORD.match(self._text, self._at)
        if word and word[0] in _WORDS:
            self._at = word.end()
            return Node(_WORDS[word[0]], path, line, self._file, word[0])
        raise self._wrong("lacks a value here" if self._peek() in ",]}" else "has something that is no value")

    def _object(self, path: Path, line: int) -> Node:
        members: dict[str, Node] = {}
        start = self._line_here()
        self._at += 1
        while not self._ends("}", start):
            key_line = self._line_here()
            if self._peek() != '"':
                raise self._wrong("lacks a key in double quotes here")
            key = self._string()
            self._skip()
            if self._peek() != ":":
                raise self._wrong(f'lacks a colon after "{key}"')
            self._at += 1
            self._skip()
            member = self._value((*path, key), key_line)
            if key in members:
                self._problems.append(member.problem(f"is there twice; first in line {members[key].line}", "keep one"))
            members[key] = member
            self._comma("}")
        return Node(members, path, line, self._file)

    def _array(self, path: Path, line: int) -> Node:
        items: list[Node] = []
        start = self._line_here()
        self._at += 1
        while not self._ends("]", start):
            items.append(self._value((*path, len(items)), self._line_here()))
            self._comma("]")
        return Node(items, path, line, self._file)

    def _ends(self, bracket: str, start: int) -> bool:
        self._skip()
        if self._at >= len(self._text):
            raise self._wrong(f"ends before the {bracket} for the bracket opened in line {start}")
        if self._peek() != bracket:
            return False
        self._at += 1
        return True

    def _comma(self, bracket: str) -> None:
        self._skip()
        if self._peek() == ",":
            self._at += 1
        elif self._at < len(self._text) and self._peek() != bracket:
            raise self._wrong(f"lacks a comma or {bracket} before this")

    def _string(self) -> str:
        found = _STRING.match(self._text, self._at)
        if not found:
            raise self._wrong("has a text without its closing quote", "a text stays on one line; write \\n for a break")
        try:
            text = json.loads(found[0])
        except json.JSONDecodeError:
            hint = "write a backslash as \\\\, as in C:\\\\Users"
            raise self._wrong("has a text with an unknown escape", hint) from None
        self._at = found.end()
        return str(text)

    def _number(self, text: str) -> int | float:
        if len(text) > _LARGEST_NUMBER:
            raise self._wrong("has a number that is too long")
        return int(text) if text.lstrip("-").isdigit() else float(text)

    def _skip(self) -> None:
        if space := _SPACE.match(self._text, self._at):
            self._at = space.end()

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _line_here(self) -> int:
        self._line += self._text.count("\n", self._counted, self._at)
        self._counted = self._at
        return self._line

    def _wrong(self, message: str, hint: str = "") -> Unreadable:
        first = self._peek().strip()
        word = _WORD.match(self._text, self._at)
        if not hint and first == "'":
            hint = "use double quotes"
        elif not hint and word:
            hint = "put texts in double quotes; the bare words are true, false and null"
        shown = word[0] if word and word[0] in _TELLING else first
        return Unreadable(
            f"is not valid JSON: {message}" + (f" (at {shown})" if shown else ""), self._line_here(), hint
        )
