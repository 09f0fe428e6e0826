"""Pinned definitions in a program that embeds Manifold."""

from pathlib import Path
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from proxy import Manifold
from proxy.errors import NotReviewed, RoutingError, UnknownServer
from proxy.store.storage import PINS
from tests.support.changing_server import Json, changing, offer, tool
from tests.support.running import PATIENCE

CALM = tool("read", "Reads a file.")
ANGRY = tool("read", "Reads a file, and more.")


class Forgetful:
    """A storage in memory, which can be told to fail."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str | None, str], Any] = {}
        self.fails = False

    async def get(self, key: str, *, collection: str | None = None) -> Json | None:
        await anyio.lowlevel.checkpoint()
        if self.fails and collection == PINS:
            raise ConnectionError("away")
        return self.kept.get((collection, key))

    async def put(self, key: str, value: Any, *, collection: str | None = None, ttl: float | None = None) -> None:
        del ttl
        await anyio.lowlevel.checkpoint()
        if self.fails and collection == PINS:
            raise ConnectionError("away")
        self.kept[collection, key] = value

    async def delete(self, key: str, *, collection: str | None = None) -> bool:
        await anyio.lowlevel.checkpoint()
        return self.kept.pop((collection, key), None) is not None


@pytest.fixture
def config(tmp_path: Path) -> Json:
    offer(tmp_path / "offer.json", CALM)
    return {"mcpServers": {"a": changing(tmp_path / "offer.json", pin="hold")}}


def pull(tmp_path: Path, *tools: Json) -> None:
    offer(tmp_path / "offer.json", *tools)


async def tools(manifold: Manifold) -> set[str]:
    with anyio.fail_after(PATIENCE):
        return {one.name for one in await manifold.for_store().list_tools()}


async def test_a_storage_keeps_pins_across_programs(config: Json, tmp_path: Path) -> None:
    storage = Forgetful()
    async with Manifold(config, storage=storage) as manifold:
        assert await tools(manifold) == {"mcp_a_turn", "mcp_a_read"}
    pull(tmp_path, ANGRY)
    async with Manifold(config, storage=storage) as manifold:
        with anyio.fail_after(PATIENCE):
            await manifold.connect("a")
        await manifold.refresh("a")
        assert await tools(manifold) == {"mcp_a_turn"}
        with pytest.raises(RoutingError):
            await manifold.for_store().call_tool("mcp_a_read")
        trust = manifold.runtime.trust
        await trust.approve("a", [one for one in trust.findings("a") if one.part.name == "read"])
        assert await tools(manifold) == {"mcp_a_turn", "mcp_a_read"}
        assert await manifold.for_store().call_tool("mcp_a_read")
    async with Manifold(config, storage=storage) as manifold:
        await manifold.refresh("a")
        assert await tools(manifold) == {"mcp_a_turn", "mcp_a_read"}


async def test_without_a_storage_pins_last_as_long_as_the_program(config: Json, tmp_path: Path) -> None:
    async with Manifold(config) as manifold:
        assert await tools(manifold) == {"mcp_a_turn", "mcp_a_read"}
        pull(tmp_path, ANGRY)
        await manifold.refresh("a")
        assert await tools(manifold) == {"mcp_a_turn"}
        await manifold.disconnect("a")
        await manifold.connect("a")
        assert await tools(manifold) == {"mcp_a_turn"}  # it was away, and is not trusted anew
        trust = manifold.runtime.trust
        await trust.approve("a", trust.findings("a"))
        assert await tools(manifold) == {"mcp_a_turn", "mcp_a_read"}
        await trust.reject("a", [one for one in trust.findings("a") if one.part.name == "read"])
        assert await tools(manifold) == {"mcp_a_turn"}


async def test_findings_are_approved_as_they_were_found(config: Json, tmp_path: Path) -> None:
    async with Manifold(config) as manifold:
        await tools(manifold)
        pull(tmp_path, ANGRY)
        await manifold.refresh("a")
        found = manifold.runtime.trust.findings("a")
        pull(tmp_path, tool("read", "Something else again."))
        await manifold.refresh("a")
        await manifold.runtime.trust.approve("a", found)
        assert await tools(manifold) == {"mcp_a_turn"}


async def test_a_storage_that_does_not_answer_holds_everything_back(config: Json) -> None:
    storage = Forgetful()
    async with Manifold(config, storage=storage) as manifold:
        await tools(manifold)
    storage.fails = True
    with capture_logs() as logs:
        async with Manifold(config, storage=storage) as manifold:
            assert await tools(manifold) == set()
            with pytest.raises(NotReviewed, match="away"):
                await manifold.runtime.trust.approve("a", ())
    assert any(event["event"] == "pinning.unusable" and "away" in event["reason"] for event in logs)


async def test_a_decision_about_what_is_not_pinned_is_refused(config: Json) -> None:
    async with Manifold(config) as manifold:
        with pytest.raises(UnknownServer):
            await manifold.runtime.trust.approve("b", ())
