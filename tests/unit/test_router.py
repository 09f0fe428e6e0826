"""Where a request goes, and as what call."""

from typing import Any

import anyio
import pytest

from proxy.agents.target import repeatable
from proxy.agents.view import View
from proxy.agents.views import Views
from proxy.catalog.holder import CatalogHolder
from proxy.catalog.policy import CatalogPolicy
from proxy.config.model import Config
from proxy.errors import Rejected, RoutingError, UnknownServer
from proxy.model import Call, Caller, Listing
from proxy.router import COMPLETION, Request, Routed, Router
from proxy.upstream.registry import Registry
from proxy.upstream.standing import Hooks

LISTED = Listing(
    tools=(
        {"name": "web.search", "inputSchema": {"type": "object"}, "annotations": {"readOnlyHint": True}},
        {
            "name": "send",
            "inputSchema": {
                "type": "object",
                "properties": {"region": {"type": "string", "x-mcp-header": "Region"}},
            },
        },
    ),
    resources=({"uri": "note:///a", "name": "a"},),
    templates=({"uriTemplate": "note:///{name}", "name": "t"},),
    prompts=({"name": "ask.me"},),
)


class Desk:
    """A router over a catalog, which the test fills when it likes."""

    def __init__(self, *, late: bool = False) -> None:
        self.config = Config.model_validate(
            {"upstreams": {"a": {"command": "x"}}, "agents": {"r": {"tools": {"deny": ["send"]}}}}
        )
        self.holder = CatalogHolder(CatalogPolicy.of(self.config))
        self.views = Views(self.config.agents)
        self.waited: list[str | None] = []
        self.router = Router(Registry(Hooks()), self.view, self.ready)
        if not late:
            self.holder.update({"a": LISTED})

    def view(self, agent: str | None) -> View:
        return self.views.of(self.holder.current, *([] if agent is None else [agent]))

    async def ready(self, agent: str | None) -> None:
        await anyio.lowlevel.checkpoint()
        self.waited.append(agent)
        self.holder.update({"a": LISTED})

    async def route(self, method: str, params: dict[str, Any], agent: str | None = None) -> Routed:
        return await self.router.route(Request(method, params, Caller(agent=agent)))

    async def call(self, method: str, **params: Any) -> Call:
        return (await self.route(method, params)).call


async def test_a_call_carries_the_upstreams_own_name_and_everything_else_as_it_came() -> None:
    call = await Desk().call("tools/call", name="mcp_a_web_search", arguments={"q": [1]}, unknown={"x": None})
    assert (call.upstream, call.target) == ("a", "web.search")
    assert call.params == {"name": "web.search", "arguments": {"q": [1]}, "unknown": {"x": None}}


async def test_the_params_of_the_request_are_left_as_they_were() -> None:
    params = {"name": "mcp_a_web_search"}
    await Desk().route("tools/call", params)
    assert params == {"name": "mcp_a_web_search"}


@pytest.mark.parametrize(
    ("method", "asked", "own"),
    [
        ("prompts/get", {"name": "mcp_a_ask_me"}, {"name": "ask.me"}),
        ("resources/read", {"uri": "a+note:///a"}, {"uri": "note:///a"}),
        ("resources/read", {"uri": "a+note:///unlisted/é"}, {"uri": "note:///unlisted/é"}),
        (
            COMPLETION,
            {"ref": {"type": "ref/prompt", "name": "mcp_a_ask_me", "x": 1}, "argument": {"name": "n"}},
            {"ref": {"type": "ref/prompt", "name": "ask.me", "x": 1}, "argument": {"name": "n"}},
        ),
        (
            COMPLETION,
            {"ref": {"type": "ref/resource", "uri": "a+note:///{name}"}},
            {"ref": {"type": "ref/resource", "uri": "note:///{name}"}},
        ),
    ],
)
async def test_names_and_uris_are_mapped_back(method: str, asked: dict[str, Any], own: dict[str, Any]) -> None:
    assert (await Desk().call(method, **asked)).params == own


@pytest.mark.parametrize(
    ("method", "params", "member"),
    [
        ("tools/call", {}, "params.name"),
        ("tools/call", {"name": 7}, "params.name"),
        ("resources/read", {"uri": None}, "params.uri"),
        (COMPLETION, {}, "params.ref"),
        (COMPLETION, {"ref": {"type": "ref/tool"}}, "params.ref"),
        (COMPLETION, {"ref": {"type": "ref/prompt"}}, "params.ref.name"),
    ],
)
async def test_params_that_name_nothing_are_refused_with_the_member(
    method: str, params: dict[str, Any], member: str
) -> None:
    with pytest.raises(Rejected, match=member) as refused:
        await Desk().route(method, params)
    assert refused.value.jsonrpc == -32602


async def test_a_name_that_nobody_knows_yet_waits_once() -> None:
    desk = Desk(late=True)
    assert (await desk.call("tools/call", name="mcp_a_send")).target == "send"
    assert desk.waited == [None]


async def test_a_known_name_waits_for_nobody() -> None:
    desk = Desk()
    await desk.call("tools/call", name="mcp_a_send")
    assert desk.waited == []


async def test_a_name_that_nobody_knows_after_waiting_is_refused() -> None:
    desk = Desk(late=True)
    with pytest.raises(RoutingError, match="mcp_a_snd") as refused:
        await desk.call("tools/call", name="mcp_a_snd")
    assert desk.waited == [None]
    assert "mcp_a_send" in refused.value.suggestions


async def test_an_agent_is_routed_in_its_own_view() -> None:
    desk = Desk()
    assert (await desk.route("tools/call", {"name": "web_search"}, "r")).call.target == "web.search"
    with pytest.raises(RoutingError):
        await desk.route("tools/call", {"name": "send"}, "r")
    with pytest.raises(UnknownServer):
        await desk.route("tools/call", {"name": "send"}, "stranger")


async def test_a_call_is_safe_when_it_is_no_tool_call_or_the_tool_says_so() -> None:
    desk = Desk()
    assert (await desk.call("tools/call", name="mcp_a_web_search")).safe
    assert not (await desk.call("tools/call", name="mcp_a_send")).safe
    assert (await desk.call("prompts/get", name="mcp_a_ask_me")).safe


@pytest.mark.parametrize(
    ("notes", "safe"),
    [
        ({"readOnlyHint": True}, True),
        ({"idempotentHint": True}, True),
        ({"readOnlyHint": False}, False),
        ({"readOnlyHint": "true"}, False),
        ({}, False),
        (None, False),
        ([], False),
    ],
)
def test_only_a_tool_that_says_so_may_be_called_twice(notes: Any, safe: bool) -> None:
    assert repeatable({"name": "x", "annotations": notes}) is safe


async def test_headers_for_arguments_are_made_anew_from_the_tool() -> None:
    desk = Desk()
    call = await desk.call("tools/call", name="mcp_a_send", arguments={"region": "eu"})
    assert call.headers == {"Mcp-Param-Region": "eu"}
    assert (await desk.call("tools/call", name="mcp_a_web_search", arguments={"region": "eu"})).headers is None
