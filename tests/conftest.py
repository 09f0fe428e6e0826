"""What all tests share."""

from collections.abc import Iterator

import pytest

from tests.support.planted import SEARCH


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The conformance tests come last: their stages stay open on the loop until the end of the session.

    Tests that run a loop of their own, as the command does, cannot run beside an open one.
    """
    items.sort(key=lambda item: "conformance" in item.path.parts)


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Look for planted secrets in what a test wrote."""
    for title, text in report.sections:
        SEARCH.look(text, f"{report.nodeid}: {title}")


@pytest.fixture(scope="session", autouse=True)
def _no_secret_is_left_behind(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """At the end of the run: no planted secret is in any output, log or file of it (tests/support/planted.py)."""
    yield
    SEARCH.look_at(tmp_path_factory.getbasetemp())
    assert SEARCH.found == []
