"""What the command prints to be pasted."""

import json
import sys
from pathlib import Path

import pytest

from proxy.cli.report import snippets


def desktop() -> dict[str, object]:
    found = snippets("http://127.0.0.1:1/mcp", (), None)
    entry: dict[str, object] = json.loads(found["Claude Desktop (claude_desktop_config.json)"])["mcpServers"][
        "manifold"
    ]
    return entry


def test_the_command_is_named_by_its_whole_path_if_there_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = tmp_path / "mcp-manifold"
    command.write_text("#!/bin/sh\n")
    command.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert desktop() == {"command": str(command), "args": ["serve", "--stdio"]}


def test_without_the_command_python_runs_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert desktop() == {"command": sys.executable, "args": ["-m", "proxy", "serve", "--stdio"]}
