"""Arguments that travel in headers (SEP-2243), when an agent renames or fixes them."""

from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client

from tests.conformance.stage import Cast, upstream_of
from tests.support.manifold import Home, serving

TOOL = "fixture.test_x_mcp_header"


@pytest.mark.parametrize(
    ("change", "given", "told", "express"),
    [
        ({"name": "where"}, {"where": "üb"}, "region=üb", False),
        ({"value": "eu"}, {}, "region=eu", True),
        ({"default": "us"}, {}, "region=us", True),
    ],
)
async def test_the_upstream_gets_the_header_of_the_final_argument(
    tmp_path: Path, change: dict[str, Any], given: dict[str, Any], told: str, *, express: bool
) -> None:
    agents = {"a": {"overrides": {TOOL: {"name": "seek", "arguments": {"region": change}}}}}
    with upstream_of(tmp_path, "fixture", Cast("modern", "http")) as (config, _):
        home = Home(tmp_path).write({"fixture": config}, agents=agents, server={"express": express})
        async with serving(home) as manifold, Client(manifold.agent("a"), mode="auto") as client:
            with anyio.fail_after(90):
                (tool,) = [one for one in (await client.list_tools()).tools if one.name == "seek"]
                assert ("region" in tool.input_schema["properties"]) is ("default" in change)
                found = await client.call_tool("seek", given)
                # The upstream refuses a call whose headers do not say what its arguments say.
                assert not found.is_error
                assert told in str(found.content[0])
