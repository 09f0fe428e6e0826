"""The Dockerfile, as far as it can be judged without a container engine."""

import json

import anyio
import pytest

from tests.e2e.peers.published import Peers
from tests.e2e.peers.rig import ROOT


async def lint(peers: Peers, dockerfile: bytes) -> list[str]:
    command = [str(peers.python_tool("hadolint")), "--no-fail", "--format", "json", "-"]
    done = await anyio.run_process(command, input=dockerfile)
    return [finding["code"] for finding in json.loads(done.stdout)]


async def test_the_dockerfile_has_no_findings(peers: Peers) -> None:
    assert await lint(peers, (ROOT / "Dockerfile").read_bytes()) == []


async def test_the_linter_finds_what_is_wrong(peers: Peers) -> None:
    assert "DL3006" in await lint(peers, b"FROM python\n")


def test_the_health_check_is_a_python_program() -> None:
    line = next(line for line in (ROOT / "Dockerfile").read_text().splitlines() if '"import urllib' in line)
    program = json.loads(line.strip().removeprefix("CMD "))
    compile(program[2], "HEALTHCHECK", "exec")


@pytest.mark.parametrize("needed", ["USER 10001:10001", "STOPSIGNAL SIGTERM", "EXPOSE 8300", "/etc/mcp-manifold"])
def test_the_image_keeps_its_promises_to_operators(needed: str) -> None:
    assert needed in (ROOT / "Dockerfile").read_text()
