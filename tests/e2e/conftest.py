"""The published servers and clients of the end-to-end tests, installed before the first test that asks for them."""

import pytest

from tests.e2e.peers import rig
from tests.e2e.peers.published import Peers

PROBLEM = pytest.StashKey[str]()


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark every test that asks for the peers, so that ``-m "not published"`` leaves them all out."""
    for item in items:
        if "peers" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.published)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Install the peers here and not in a fixture, where the first test's timeout would count."""
    wanted = any(item.get_closest_marker("published") for item in session.items)
    if not wanted or session.config.option.collectonly:
        return
    try:
        rig.install()
    except rig.PeersError as error:
        session.config.stash[PROBLEM] = str(error)


@pytest.fixture(scope="session")
def peers(pytestconfig: pytest.Config) -> Peers:
    """The published servers and clients. A test that asks for them fails where they cannot be installed."""
    problem = pytestconfig.stash.get(PROBLEM, "")
    if problem:
        pytest.fail(f"The published peers are missing.\n{problem}", pytrace=False)
    return Peers(node=rig.node())
