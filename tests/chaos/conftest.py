"""Fixtures of the chaos tests."""

from collections.abc import Iterator

import pytest

from tests.support import faulty


@pytest.fixture
def first_core() -> Iterator[None]:
    """What is measured has a core of its own, where there are two, and what is faulty runs on another one."""
    with faulty.first_core():
        yield
