"""Work without I/O that can be done a step at a time, so that others may have the event loop in between.

A function that works in steps is a generator which yields after each of them, and returns its result.
"""

from collections.abc import Generator
from typing import TypeAlias, TypeVar

T = TypeVar("T")

Steps: TypeAlias = Generator[None, None, T]


def done(steps: Steps[T]) -> T:
    """Do all steps at once; their result."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
