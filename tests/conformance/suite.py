"""Runs the official suite and reads the results it writes, not what it prints."""

import json
import re
import subprocess
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.e2e.peers.published import Peers

TIMEOUT: Final = 120
"""Seconds for one run of the whole suite."""

_FOLDER = re.compile(r"(?:server-)?(?P<scenario>.+)-\d{4}-\d\d-\d\dT[\d-]+Z")


@dataclass(frozen=True)
class Version:
    """A version of the suite, on one wire."""

    name: str
    upcoming: bool
    """Whether it is the 0.2 line."""
    wire: str
    scenarios: int
    """How many server scenarios it has on that wire."""

    def __str__(self) -> str:
        return self.name


VERSIONS: Final = (
    Version("0.1.16", upcoming=False, wire="2025-11-25", scenarios=32),
    Version("0.2-2025-11-25", upcoming=True, wire="2025-11-25", scenarios=33),
    Version("0.2-2026-07-28", upcoming=True, wire="2026-07-28", scenarios=40),
)


@dataclass(frozen=True)
class Outcome:
    """What the suite found out, by scenario."""

    checks: Mapping[str, tuple[Mapping[str, Any], ...]]
    said: str

    def failures(self) -> list[str]:
        """Every check that failed, or was not made."""
        return [
            f"{scenario}: {check['id']} {check['status']}: {check.get('errorMessage', check['description'])}"
            for scenario, checks in self.checks.items()
            for check in checks
            if check["status"] not in ("SUCCESS", "INFO", "WARNING")
        ]

    def warnings(self) -> set[str]:
        """What the suite would have liked better."""
        return {str(check["id"]) for checks in self.checks.values() for check in checks if check["status"] == "WARNING"}

    def empty(self) -> list[str]:
        """Scenarios in which nothing passed: they have shown nothing."""
        return [
            name for name, checks in self.checks.items() if not Counter(check["status"] for check in checks)["SUCCESS"]
        ]


def run_server(peers: Peers, version: Version, url: str, folder: Path) -> Outcome:
    """Run every server scenario of a version against a URL."""
    # The rebinding scenario is only run against this host.
    url = url.replace("127.0.0.1", "localhost")
    arguments = ["server", "--url", url, "--suite", "all", "-o", str(folder)]
    if version.upcoming:
        arguments += ["--spec-version", version.wire]
    return run(peers, arguments, folder, upcoming=version.upcoming)


def run(peers: Peers, arguments: list[str], folder: Path, *, upcoming: bool = True) -> Outcome:
    """Run the suite and read what it wrote."""
    done = subprocess.run(
        peers.conformance(*arguments, upcoming=upcoming), capture_output=True, text=True, check=False, timeout=TIMEOUT
    )
    found = {}
    for path in sorted(folder.glob("**/checks.json")):
        matched = _FOLDER.fullmatch(str(path.parent.relative_to(folder)))
        assert matched, path
        found[matched["scenario"]] = tuple(json.loads(path.read_text()))
    return Outcome(found, done.stdout + done.stderr)
