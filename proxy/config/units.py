"""Durations and sizes as people write them. Pure."""

import re
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES: Final = {
    "": 1,
    "b": 1,
    "kb": 1000,
    "mb": 1000**2,
    "gb": 1000**3,
    "kib": 1024,
    "mib": 1024**2,
    "gib": 1024**3,
}
_NUMBER: Final = r"\d+(?:\.\d+)?"
_PLAIN: Final = re.compile(_NUMBER, re.ASCII)
_DURATION_PART: Final = re.compile(rf"({_NUMBER})\s*(ms|s|m|h|d)\s*", re.ASCII)
_DURATION: Final = re.compile(rf"(?:{_NUMBER}\s*(?:ms|s|m|h|d)\s*)+", re.ASCII)
_SIZE: Final = re.compile(rf"({_NUMBER})\s*([kmg]?i?b|)", re.ASCII | re.IGNORECASE)

DURATION_HINT: Final = "write seconds as a number, or a text such as 500ms, 30s, 5m, 2h, 1h30m"
SIZE_HINT: Final = "write bytes as a number, or a text such as 64KiB, 4MiB, 64MB"

MAX_SECONDS: Final = 10 * 365 * 86400.0
MAX_BYTES: Final = 2**40


def seconds(value: Any) -> float:
    """A duration in seconds: a number, or a text such as ``500ms``, ``30s``, ``1h30m``.

    Raises:
        PydanticCustomError: it is none; ``hint`` in its context says what would be.
    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        number = float(value) if abs(value) <= MAX_SECONDS else MAX_SECONDS + 1
    elif isinstance(value, str) and _PLAIN.fullmatch(value.strip()):
        number = float(value)
    elif isinstance(value, str) and _DURATION.fullmatch(value.strip()):
        number = sum(float(count) * _SECONDS[unit] for count, unit in _DURATION_PART.findall(value))
    else:
        raise PydanticCustomError("duration", "is not a duration", {"hint": DURATION_HINT})
    if not 0 <= number <= MAX_SECONDS:
        raise PydanticCustomError("duration", "is not a duration from 0 to 10 years", {"hint": DURATION_HINT})
    return number


def size(value: Any) -> int:
    """A size in bytes: a whole number, or a text such as ``64KiB`` (1024s) or ``64MB`` (1000s).

    Raises:
        PydanticCustomError: it is none; ``hint`` in its context says what would be.
    """
    if isinstance(value, int) and not isinstance(value, bool):
        number: float = value
    elif isinstance(value, str) and (match := _SIZE.fullmatch(value.strip())):
        number = float(match[1]) * _BYTES[match[2].lower()]
    else:
        raise PydanticCustomError("size", "is not a size", {"hint": SIZE_HINT})
    if not 0 <= number <= MAX_BYTES or number != int(number):
        raise PydanticCustomError("size", "is not a whole number of bytes from 0 to 1024GiB", {"hint": SIZE_HINT})
    return int(number)


def number(value: Any) -> Any:
    """A number as it is; true and false are none.

    Raises:
        PydanticCustomError: it is one of these two.
    """
    if isinstance(value, bool):
        raise PydanticCustomError("int_type", "is not a number")
    return value


Whole = Annotated[int, BeforeValidator(number)]
"""A whole number; true and false are none."""

_DURATION_TEXT: Final = {"type": "string", "pattern": rf"^\s*({_NUMBER}\s*(ms|s|m|h|d)?\s*)+$|\$\{{.+\}}"}
_SIZE_TEXT: Final = {"type": "string", "pattern": rf"^\s*{_NUMBER}\s*([kKmMgG]?[iI]?[bB])?\s*$|\$\{{.+\}}"}


def _or_text(number: dict[str, Any], text: dict[str, str], *examples: str) -> WithJsonSchema:
    return WithJsonSchema({"anyOf": [number, text], "examples": list(examples)})


Duration = Annotated[
    float,
    BeforeValidator(seconds),
    Field(gt=0),
    _or_text({"type": "number", "exclusiveMinimum": 0}, _DURATION_TEXT, "500ms", "30s", "1h30m"),
]
"""Seconds, more than none."""

DurationOrZero = Annotated[
    float,
    BeforeValidator(seconds),
    Field(ge=0),
    _or_text({"type": "number", "minimum": 0}, _DURATION_TEXT, "500ms", "30s", "1h30m"),
]
"""Seconds; zero means none."""

Size = Annotated[
    int,
    BeforeValidator(size),
    Field(ge=1024),
    _or_text({"type": "integer", "minimum": 1024}, _SIZE_TEXT, "64KiB", "4MiB"),
]
"""Bytes, at least 1 KiB."""
