"""The demo servers as the processes that they are for Manifold."""

import json
import subprocess
import sys
from pathlib import Path

import anyio
import pytest

ROOT = Path(__file__).parents[3]
OPEN = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": {"name": "test", "version": "1"}},
}


@pytest.mark.parametrize("name", ["notes", "clock", "library"])
async def test_a_demo_server_says_nothing_but_the_protocol_and_ends_with_its_input(name: str) -> None:
    with anyio.fail_after(30):
        done = await anyio.run_process(
            [sys.executable, "-m", f"proxy.demo.{name}"], input=json.dumps(OPEN).encode() + b"\n", cwd=ROOT
        )
    messages = [json.loads(line) for line in done.stdout.splitlines()]
    assert [message["result"]["serverInfo"]["name"] for message in messages] == [name]
    assert done.stderr == b""


async def test_a_demo_server_refuses_two_doors_at_once() -> None:
    command = [sys.executable, "-m", "proxy.demo.clock", "--http", "0", "--http-fd", "0"]
    done = await anyio.run_process(command, cwd=ROOT, check=False, stderr=subprocess.PIPE)
    assert done.returncode == 2
    assert b"not allowed with" in done.stderr
