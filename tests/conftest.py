"""What all tests share."""

import pytest


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The conformance tests come last: their stages stay open on the loop until the end of the session.

    Tests that run a loop of their own, as the command does, cannot run beside an open one.
    """
    items.sort(key=lambda item: "conformance" in item.path.parts)
