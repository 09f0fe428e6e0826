"""The official conformance suite through Manifold: both wires, all eras of upstreams, own names and prefixed ones."""

from pathlib import Path

import pytest

from tests.conformance.fixture import PROMPTS, RESOURCES, TEMPLATES, TOOLS
from tests.conformance.stage import Cast, Stage
from tests.conformance.suite import VERSIONS, Version, run_server
from tests.conformance.wire import HANDSHAKE, MODERN, over_http
from tests.e2e.peers.published import Peers

CASTS = (
    *(Cast(era, prefixed=prefixed) for prefixed in (False, True) for era in ("legacy", "modern", "dual")),
    *(Cast(era, "stdio") for era in ("legacy", "modern")),
)
STAGES = pytest.mark.parametrize("stage", CASTS, ids=str, indirect=True)


@STAGES
@pytest.mark.parametrize("wire", [HANDSHAKE, MODERN])
async def test_every_list_has_its_full_size(stage: Stage, wire: str) -> None:
    # Empty lists would pass the suite. And a pipe whose process still starts would be too slow for one of its checks.
    async with over_http(stage.url, version=wire, capabilities={"elicitation": {}}) as client:
        await client.tool("test_simple_text")
        keys = {"tools": "tools", "resources": "resources", "resources/templates": "resourceTemplates"} | {
            "prompts": "prompts"
        }
        sizes = {key: len((await client.send(f"{method}/list")).result[key]) for method, key in keys.items()}
    # The fixture keeps one tool from the handshake era.
    tools = len(TOOLS) - (stage.cast.era == "legacy")
    expected = {"tools": tools, "resources": len(RESOURCES), "prompts": len(PROMPTS)}
    assert sizes == {**expected, "resourceTemplates": len(TEMPLATES)}


@STAGES
@pytest.mark.parametrize("version", VERSIONS, ids=str)
def test_every_scenario_passes(stage: Stage, version: Version, peers: Peers, tmp_path: Path) -> None:
    outcome = run_server(peers, version, stage.url, tmp_path)
    assert len(outcome.checks) == version.scenarios, outcome.said
    assert outcome.failures() == []
    assert outcome.empty() == []
