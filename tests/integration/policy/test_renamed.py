"""A renamed upstream: what downstreams hold of it leads on, and subscriptions stay within what may be seen."""

import sys
from pathlib import Path
from typing import Any

import anyio
import pytest
from mcp import Client
from mcp_types import ResourceUpdatedNotification

from tests.support.manifold import Home, serving
from tests.support.scripted import upstream

pytestmark = pytest.mark.filterwarnings("ignore::mcp.shared.exceptions.MCPDeprecationWarning")

PEER = Path(__file__).with_name("subscribing_peer.py")


class Heard:
    """The URIs of which a downstream was told, as they come."""

    def __init__(self) -> None:
        self.uris: list[str] = []
        self._news = anyio.Event()

    async def __call__(self, message: Any) -> None:
        message = getattr(message, "root", message)
        if isinstance(message, ResourceUpdatedNotification):
            self.uris.append(str(message.params.uri))
        self._news.set()
        self._news = anyio.Event()

    async def until(self, uri: str) -> None:
        while uri not in self.uris:
            await self._news.wait()


def peer() -> dict[str, Any]:
    return {"command": sys.executable, "args": [str(PEER)]}


async def test_names_uris_and_subscriptions_of_a_renamed_upstream_lead_on(tmp_path: Path) -> None:
    home = Home(tmp_path).write({"a": peer()})
    heard = Heard()
    async with serving(home) as manifold, Client(manifold.url, mode="legacy", message_handler=heard) as client:
        with anyio.fail_after(90):
            await client.subscribe_resource("a+file:///one")
            await client.call_tool("mcp_a_touch", {"uri": "file:///one"})
            await heard.until("a+file:///one")
            heard.uris.clear()
            home.write({"new": peer()})
            await manifold.event("config.applied", renamed={"a": "new"})
            home.write({"newer": peer()})
            await manifold.event("config.applied", renamed={"new": "newer"})
            for uri in ("a+file:///one", "new+file:///one"):
                (content,) = (await client.read_resource(uri)).contents
                assert getattr(content, "text", None) == "one"
            assert not (await client.call_tool("mcp_new_touch", {"uri": "file:///one"})).is_error
            assert not (await client.call_tool("mcp_a_touch", {"uri": "file:///one"})).is_error
            await heard.until("a+file:///one")
            await client.unsubscribe_resource("a+file:///one")


async def test_an_update_of_what_an_agent_may_not_see_is_not_told(tmp_path: Path) -> None:
    agents = {"reader": {"resources": {"deny": ["file:///dir/secret*"]}}}
    home = Home(tmp_path).write({"a": peer()}, agents=agents)
    heard = Heard()
    async with (
        serving(home) as manifold,
        Client(manifold.agent("reader"), mode="legacy", message_handler=heard) as client,
    ):
        with anyio.fail_after(90):
            await client.subscribe_resource("a+file:///dir")
            for name in ("secret1", "open"):
                await client.call_tool("touch", {"uri": f"file:///dir/{name}"})
            await heard.until("a+file:///dir/open")
            assert heard.uris == ["a+file:///dir/open"]


@pytest.mark.parametrize("agents", [{"reader": {"resources": {"deny": ["file:*"]}}}, {}], ids=["denied", "removed"])
async def test_a_subscription_ends_to_tell_when_its_agent_may_not_see_it_any_more(
    tmp_path: Path, agents: dict[str, Any]
) -> None:
    home = Home(tmp_path).write({"a": peer()}, agents={"reader": {}})
    heard, other = Heard(), Heard()
    async with (
        serving(home) as manifold,
        Client(manifold.agent("reader"), mode="legacy", message_handler=heard) as reader,
        Client(manifold.url, mode="legacy", message_handler=other) as store,
    ):
        with anyio.fail_after(90):
            await reader.subscribe_resource("a+file:///one")
            await store.subscribe_resource("a+file:///one")
            home.write({"a": peer()}, agents=agents)
            await manifold.event("config.applied", agents=["reader"])
            await store.call_tool("mcp_a_touch", {"uri": "file:///one"})
            await other.until("a+file:///one")
            await store.send_ping()
            assert heard.uris == []


async def test_a_scripted_upstream_keeps_its_hashed_names_through_a_rename(tmp_path: Path) -> None:
    home = Home(tmp_path).write({"a": upstream("a", "w.x", "w_x")})
    async with serving(home) as manifold, Client(manifold.url, mode="legacy") as client:
        with anyio.fail_after(90):
            names = [tool.name for tool in (await client.list_tools()).tools]
            home.write({"new": upstream("a", "w.x", "w_x")})
            await manifold.event("config.applied", renamed={"a": "new"})
            told = [(await client.call_tool(name, {})).structured_content for name in names]
            assert [(one or {})["tool"] for one in told] == ["w.x", "w_x"]
