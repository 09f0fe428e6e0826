"""How streams of bytes are cut in tests."""

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import TypeVar

from hypothesis import strategies as st

T = TypeVar("T")


def cut(data: bytes, places: Sequence[int]) -> list[bytes]:
    """Cut data at some places (taken modulo its length)."""
    size = len(data) + 1
    edges = [0, *sorted(place % size for place in places), len(data)]
    return [data[start:end] for start, end in pairwise(edges)]


def fed(feed: Callable[[bytes], list[T]], chunks: Sequence[bytes]) -> list[T]:
    """All that comes out when the chunks go in one after the other."""
    return [item for chunk in chunks for item in feed(chunk)]


places = st.lists(st.integers(0, 10_000), max_size=12)
