"""The table of requirements is complete, and what it names exists."""

import subprocess
import sys

from tests.conformance.requirements import FEATURES, HERE, gaps, named
from tests.e2e.peers.rig import ROOT


def test_every_feature_of_the_protocol_has_a_row() -> None:
    assert [feature.number for feature in FEATURES] == list(range(1, 32))


def test_every_cell_has_a_test_or_a_reason() -> None:
    assert list(gaps()) == []


def test_every_named_test_exists() -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-q", "-o", "addopts=-p anyio", HERE],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=50,
    )
    assert named() - set(listed.stdout.splitlines()) == set()
