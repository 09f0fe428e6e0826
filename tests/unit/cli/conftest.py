"""The command in this process: what it prints, what it returns, and everything as it was afterwards."""

import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import structlog

from proxy.cli.main import main


@dataclass(frozen=True)
class Done:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """What it printed, as JSON."""
        return json.loads(self.out)


Run = Callable[..., Done]


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Run:
    """Run the command in an empty folder; its state goes below that, too."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for variable in ("XDG_CONFIG_HOME", "MCP_MANIFOLD_CONFIG"):
        monkeypatch.delenv(variable, raising=False)

    def command(*arguments: str) -> Done:
        capfd.readouterr()
        try:
            status = main(arguments)
        except SystemExit as error:  # from the parser of the command line
            status = int(error.code or 0)
        out, err = capfd.readouterr()
        return Done(status, out, err)

    return command


@pytest.fixture
def write(tmp_path: Path) -> Callable[..., str]:
    """Write a configuration; returns the path."""

    def file(upstreams: dict[str, Any], **sections: Any) -> str:
        path = tmp_path / "manifold.json"
        path.write_text(json.dumps({"mcpServers": upstreams, **sections}))
        return str(path)

    return file
