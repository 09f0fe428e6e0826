"""Resources, templates and prompts of real servers, in both eras: listed, read and kept apart."""

import base64
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from proxy import Manifold
from proxy.errors import AmbiguousName, Rejected, UnknownTarget
from tests.support.manifold import ROOT

SHELF = str(Path(__file__).parents[2] / "support" / "store_shelf.py")
ERAS = ["handshake", "modern"]
AGENTS = {
    "left-only": {"servers": ["left"]},
    "no-covers": {"resources": {"deny": ["*cover"]}, "prompts": {"deny": ["*"]}},
}


def shelf(name: str, era: str) -> dict[str, Any]:
    env = {"PYTHONPATH": str(ROOT)}
    return {"command": sys.executable, "args": [SHELF, name], "env": env, "era": era, "grace": 40, "start_timeout": 40}


@asynccontextmanager
async def shelves(left: str, right: str) -> AsyncIterator[Manifold]:
    config = {"mcpServers": {"left": shelf("left", left), "right": shelf("right", right)}, "agents": AGENTS}
    with anyio.fail_after(55):
        async with Manifold(config) as manifold:
            await manifold.connect()
            yield manifold


async def exported(manifold: Manifold, agent: str | None = None) -> dict[tuple[str, str], str]:
    """Exported URI by server and own URI."""
    context = manifold.for_store() if agent is None else manifold.for_agent(agent)
    listed = [one["uri"] for one in await context.list_resources()]
    found: dict[tuple[str, str], str] = {}
    for uri in listed:
        route = manifold.runtime.view(agent).resource(uri)
        found[route.upstream, route.name] = uri
    assert len(found) == len(listed)
    return found


@pytest.mark.parametrize(("left", "right"), [("handshake", "modern"), ("modern", "handshake")])
async def test_equal_uris_of_two_servers_are_listed_and_read_apart(left: str, right: str) -> None:
    async with shelves(left, right) as manifold:
        store = manifold.for_store()
        uris = await exported(manifold)
        assert {own for _, own in uris} == {"shelf://index", "shelf://cover", "shelf://torn"}
        for server in ("left", "right"):
            text = (await store.read_resource(uris[server, "shelf://index"]))["contents"]
            assert [(one["uri"], one["text"]) for one in text] == [
                (uris[server, "shelf://index"], f"the index of {server}")
            ]
            blob = (await store.read_resource(uris[server, "shelf://cover"]))["contents"][0]
            assert base64.b64decode(blob["blob"]) == b"\x89PNG" + server.encode()
            assert blob["mimeType"] == "image/png"
        with pytest.raises(AmbiguousName):
            await store.read_resource("shelf://index")


@pytest.mark.parametrize("era", ERAS)
async def test_a_template_is_listed_and_what_it_makes_is_read(era: str) -> None:
    async with shelves(era, era) as manifold:
        store = manifold.for_store()
        templates = [one["uriTemplate"] for one in await store.list_resource_templates()]
        assert len(templates) == 2
        told = []
        for template in templates:
            uri = template.replace("{title}", "Emma").replace("{page}", "7")
            told.append((await store.read_resource(uri))["contents"][0]["text"])
        assert told == ["left: page 7 of Emma", "right: page 7 of Emma"]


@pytest.mark.parametrize("era", ERAS)
async def test_an_agent_reads_only_what_it_sees(era: str) -> None:
    async with shelves(era, era) as manifold:
        everything = await exported(manifold)
        left = manifold.for_agent("left-only")
        assert {server for server, _ in await exported(manifold, "left-only")} == {"left"}
        assert (await left.read_resource("shelf://index"))["contents"][0]["text"] == "the index of left"
        # A URI that nobody lists goes to the only server with resources that the agent sees, and to no other.
        with pytest.raises(Rejected) as caught:
            await left.read_resource(everything["right", "shelf://index"])
        assert caught.value.upstream == "left"
        covers = manifold.for_agent("no-covers")
        assert not any("cover" in own for _, own in await exported(manifold, "no-covers"))
        for uri in (everything["left", "shelf://cover"], "shelf://cover"):
            with pytest.raises((UnknownTarget, AmbiguousName)):
                await covers.read_resource(uri)
        assert await covers.list_prompts() == []


@pytest.mark.parametrize("era", ERAS)
async def test_a_prompt_takes_arguments_in_every_form(era: str) -> None:
    async with shelves(era, era) as manifold:
        store, left = manifold.for_store(), manifold.for_agent("left-only")
        assert [one["name"] for one in await store.list_prompts()] == ["mcp_left_praise", "mcp_right_praise"]
        assert [one["name"] for one in await left.list_prompts()] == ["praise"]
        for result in (
            await left.get_prompt("praise", title="Emma", tone="warm"),
            await left.get_prompt("left.praise", {"title": "Emma", "tone": "warm"}),
            await store.get_prompt("mcp_left_praise", '{"title": "Emma"}', tone="warm"),
        ):
            assert result["messages"][0]["content"]["text"] == "left: praise Emma, warm"
        with pytest.raises(UnknownTarget):
            await left.get_prompt("mcp_right_praise", title="Emma")


@pytest.mark.parametrize("era", ERAS)
async def test_what_cannot_be_read_is_told_as_the_server_tells_it(era: str) -> None:
    async with shelves(era, era) as manifold:
        store = manifold.for_store()
        with pytest.raises(Rejected) as caught:
            await store.read_resource((await exported(manifold))["left", "shelf://torn"])
        assert caught.value.upstream == "left"
        with pytest.raises((UnknownTarget, AmbiguousName)):
            await store.read_resource("nowhere://at/all")
