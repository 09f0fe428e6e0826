"""The suite's ``client`` mode with Manifold's upstream side as the client under test."""

import re
import shlex
import sys
from collections import Counter
from pathlib import Path

import anyio
import pytest

from tests.conformance.client_scenarios import ELSEWHERE, NOT_ASKED, PASSING
from tests.conformance.stage import HERE
from tests.conformance.suite import run
from tests.e2e.peers.published import Peers

RUNS = [(wire, scenario) for wire, scenarios in PASSING.items() for scenario in scenarios]


@pytest.mark.parametrize(("wire", "scenario"), RUNS, ids="-".join)
def test_a_client_scenario_passes(wire: str, scenario: str, peers: Peers, tmp_path: Path) -> None:
    command = shlex.join((sys.executable, str(HERE / "client_under_test.py")))
    arguments = ["client", "--command", command, "--scenario", scenario, "--spec-version", wire, "-o", str(tmp_path)]
    outcome = run(peers, arguments, tmp_path)
    assert outcome.checks.keys() == {scenario}, outcome.said
    statuses = Counter(check["status"] for check in outcome.checks[scenario])
    _, nothing = NOT_ASKED.get(scenario, ("", 0))
    assert statuses["SKIPPED"] == nothing
    assert statuses["SUCCESS"] > 0
    assert statuses["FAILURE"] == statuses["WARNING"] == 0, outcome.failures()


async def test_every_client_scenario_is_run_or_has_a_reason(peers: Peers) -> None:
    listed = await anyio.run_process(peers.conformance("list", "--client", upcoming=True))
    scenarios = set(re.findall(r"- (\S+) \[", listed.stdout.decode()))
    assert scenarios > {"initialize", "auth/basic-cimd"}
    elsewhere = {name for name in scenarios if name.startswith(tuple(ELSEWHERE))}
    assert scenarios - elsewhere == {scenario for _, scenario in RUNS}
