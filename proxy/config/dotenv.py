"""Files of environment variables (``.env``). Pure."""

import re
from typing import Final

_LINE: Final = re.compile(r"\s*(?:export\s+)?([A-Za-z_][\w.-]*)\s*=\s*(.*)", re.ASCII | re.DOTALL)
_DOUBLE: Final = re.compile(r'"((?:[^"\\]|\\.)*)"\s*(?:#.*)?', re.DOTALL)
_SINGLE: Final = re.compile(r"'([^']*)'\s*(?:#.*)?", re.DOTALL)
_COMMENT: Final = re.compile(r"(?:^|\s)#.*")
_ESCAPE: Final = re.compile(r"\\(.)", re.DOTALL)
_ESCAPES: Final = {"n": "\n", "r": "\r", "t": "\t"}


def parse_dotenv(text: str) -> dict[str, str]:
    """The variables of a dotenv file: ``NAME=value`` lines, quotes, comments, ``export``; nothing is expanded.

    Raises:
        ValueError: a line is something else; the message names the line and not its content.
    """
    variables: dict[str, str] = {}
    for number, line in enumerate(text.removeprefix("\ufeff").splitlines(), start=1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        found = _LINE.fullmatch(line)
        if not found:
            raise ValueError(f"line {number} is not NAME=value")
        variables[found[1]] = _value(found[2].strip(), number)
    return variables


def _value(written: str, number: int) -> str:
    if written.startswith('"'):
        if not (double := _DOUBLE.fullmatch(written)):
            raise ValueError(f"line {number} has an unclosed quote")
        return _ESCAPE.sub(lambda escape: _ESCAPES.get(escape[1], escape[1]), double[1])
    if written.startswith("'"):
        if not (single := _SINGLE.fullmatch(written)):
            raise ValueError(f"line {number} has an unclosed quote")
        return single[1]
    return _COMMENT.sub("", written).strip()
