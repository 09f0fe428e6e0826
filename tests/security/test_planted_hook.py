"""The search for planted secrets (tests/support/planted.py) fails a run in which one leaks, wherever it leaks."""

import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Final

import pytest

from tests.support.manifold import ROOT

LEAKS: Final = {
    "nothing": "pass",
    "what a test prints": "print('x', SECRET)",
    "standard error": "print('x', SECRET, file=sys.stderr)",
    "the log": "logging.getLogger('x').warning('x %s', SECRET)",
    "a file": "(tmp_path / 'deep').mkdir(); (tmp_path / 'deep' / 'file').write_bytes(b'x' + SECRET.encode())",
    "a child's standard output": "subprocess.run([sys.executable, '-c', f'print({SECRET!r})'], check=True)",
}
TEST: Final = """
import logging, subprocess, sys
from tests.support.planted import SECRET

def test_leaks(tmp_path):
    LEAK
"""


@pytest.mark.parametrize("where", LEAKS)
def test_a_leak_fails_the_run(where: str) -> None:
    # Outside the folder of this run, which is searched as well.
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "test_leaks.py"
        file.write_text(TEST.replace("LEAK", LEAKS[where]))
        options = ["-p", "tests.conftest", "-p", "no:cacheprovider", "-c", str(ROOT / "pyproject.toml"), "-q"]
        done = subprocess.run(
            [sys.executable, "-m", "pytest", *options, "--basetemp", str(Path(folder) / "base"), str(file)],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=False,
            timeout=50,
        )
    assert "1 passed" in done.stdout
    assert (done.returncode == 0) == (where == "nothing"), done.stdout
