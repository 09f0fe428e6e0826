"""The published reference server of the handshake era behind Manifold: what it offers depends on what it is told."""

from pathlib import Path

import pytest

from tests.conformance.scripts import FULL, person
from tests.conformance.stage import configured, manifold_command
from tests.conformance.wire import HANDSHAKE, MODERN, over_stdio
from tests.e2e.peers.published import Peers

ASKING = {
    "get-roots-list": ("roots/list", "file:///srv/code"),
    "trigger-elicitation-request": ("elicitation/create", "User provided the requested information"),
    "trigger-sampling-request": ("sampling/createMessage", "Paris"),
}


@pytest.mark.parametrize("version", [MODERN, HANDSHAKE])
async def test_every_tool_is_listed_and_every_question_answered(version: str, peers: Peers, tmp_path: Path) -> None:
    program, *arguments = peers.npm_server("everything", "stdio")
    config = configured(tmp_path, {"everything": {"command": program, "args": arguments}})
    env = {"XDG_STATE_HOME": str(tmp_path / "state")}
    async with over_stdio(manifold_command(config, "--stdio"), version=version, capabilities=FULL, env=env) as client:
        tools = [tool["name"] for tool in (await client.send("tools/list")).result["tools"]]
        seen = {name: await client.tool(name, {"prompt": "?"}, answer=person) for name in ASKING}
    assert len(tools) == 17
    assert ASKING.keys() < set(tools)
    for name, (method, words) in ASKING.items():
        assert [question["method"] for question in seen[name].asked] == [method]
        assert words in str(seen[name].result["content"])
