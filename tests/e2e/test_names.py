"""Names that collide, and names that no client would take: every tool can be called, under a name that all accept."""

import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.support.manifold import Home, Json, Wire, stdio
from tests.support.scripted import upstream

ACCEPTED = re.compile(r"[a-zA-Z_][a-zA-Z0-9_-]{0,63}")
STRANGE = (
    "with.dot",
    "with/slash",
    "with space",
    "größe",
    "日本語",
    "中文",
    "🚀",
    "web.search",
    "web_search",
    "web-search",
    "-",
    "9lives",
    "a__b",
    "UPPER",
    "upper",
    "x" * 120,
    "x" * 119 + "y",
)


def strange_upstreams() -> Json:
    return {
        "one": upstream("one", *STRANGE, prompts=["ask.me", "ask_me"], resources=["note://all"]),
        "two": upstream("two", *STRANGE, prompts=["ask.me"], resources=["note://all"]),
        "a": upstream("a", "b_x", "x"),
        "a_b": upstream("a_b", "x", "b_x"),
        "mit Leerzeichen & Umlaut ü": upstream("ü", "x"),
        "n" * 60: upstream("n", "x", "t" * 60),
    }


def offered(upstreams: Json) -> Iterator[tuple[str, str]]:
    """The server and own name of everything on offer, as the scripted servers say it."""
    for one in upstreams.values():
        script = json.loads(one["args"][-1])
        for tool in script["tools"]:
            yield script["name"], tool


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
async def wire(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Wire]:
    """A client of a Manifold with all of them."""
    async with stdio(Home(tmp_path_factory.mktemp("names")).write(strange_upstreams())) as opened:
        await opened.open()
        yield opened


async def names(wire: Wire, method: str = "tools/list", key: str = "tools") -> list[str]:
    return [entry["name"] for entry in (await wire.request(method))[key]]


async def owner(wire: Wire, name: str) -> tuple[str, str]:
    told: dict[str, Any] = (await wire.call(name))["structuredContent"]
    return told["server"], told["tool"]


async def test_every_tool_has_a_valid_name_of_its_own_and_can_be_called(wire: Wire) -> None:
    listed = await names(wire)
    assert [name for name in listed if not ACCEPTED.fullmatch(name)] == []
    assert len(set(listed)) == len(listed)
    reached = [await owner(wire, name) for name in listed]
    assert sorted(reached) == sorted(offered(strange_upstreams()))


async def test_every_prompt_has_a_valid_name_of_its_own_and_can_be_got(wire: Wire) -> None:
    listed = await names(wire, "prompts/list", "prompts")
    assert len(set(listed)) == 3
    assert all(ACCEPTED.fullmatch(name) for name in listed)
    got = [await wire.request("prompts/get", {"name": name}) for name in listed]
    assert sorted(one["messages"][0]["content"]["text"] for one in got) == ["one", "one", "two"]


async def test_equal_uris_of_two_upstreams_stay_apart(wire: Wire) -> None:
    uris = [one["uri"] for one in (await wire.request("resources/list"))["resources"]]
    assert len(set(uris)) == 2
    read = [(await wire.request("resources/read", {"uri": uri}))["contents"][0] for uri in uris]
    assert [one["uri"] for one in read] == uris
    assert {one["text"] for one in read} == {"one has note://all", "two has note://all"}


async def test_names_do_not_depend_on_the_order_of_the_upstreams_or_on_the_run(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    async def routes(folder: Path, upstreams: Json) -> dict[str, tuple[str, str]]:
        async with stdio(Home(folder).write(upstreams)) as wire:
            await wire.open()
            return {name: await owner(wire, name) for name in await names(wire)}

    first = await routes(tmp_path_factory.mktemp("first"), strange_upstreams())
    assert await routes(tmp_path_factory.mktemp("second"), dict(reversed(strange_upstreams().items()))) == first


@pytest.mark.parametrize(
    ("written", "meant"),
    [("a.b_x", ("a", "b_x")), ("a_b.x", ("a_b", "x")), ("one.with.dot", ("one", "with.dot"))],
)
async def test_server_dot_tool_is_understood(wire: Wire, written: str, meant: tuple[str, str]) -> None:
    assert await owner(wire, written) == meant


async def test_a_wrong_name_gets_the_nearest_ones(tmp_path: Path) -> None:
    async with stdio(Home(tmp_path).write({"notes": upstream("notes", "create_note", "drop_note")})) as wire:
        await wire.open()
        error = await wire.call("mcp_notes_crate_note")
        assert error["code"] == -32602
        assert error["data"]["suggestions"][0] == "mcp_notes_create_note"
        assert "mcp_notes_create_note" in error["message"]


async def test_a_single_upstream_can_pass_through_unnoticed(tmp_path: Path) -> None:
    tool = {"name": "web.search/ü", "title": "T", "inputSchema": {"type": "object", "$defs": {"a": {}}}, "x": [1]}
    home = Home(tmp_path).write({"one": upstream("one", tool)}, naming={"pattern": "{tool}"})
    async with stdio(home) as wire:
        await wire.open()
        assert (await wire.request("tools/list"))["tools"] == [tool]
        assert await owner(wire, "web.search/ü") == ("one", "web.search/ü")
