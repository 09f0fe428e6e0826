"""What becomes of a call on its way when its agent changes the tool."""

from typing import Any

import pytest

from proxy.agents.selection import parts
from proxy.agents.views import Views
from proxy.catalog.holder import CatalogHolder
from proxy.catalog.policy import CatalogPolicy
from proxy.config.model import Config
from proxy.errors import InvalidArguments, ManifoldError
from proxy.gateway.state import digest_of
from proxy.model import Call, Caller, Listing
from proxy.router import Request, Router
from proxy.upstream.registry import Registry
from proxy.upstream.standing import Hooks

HEADERS = {
    "region": {"type": "string", "x-mcp-header": "Region"},
    "tenant": {"type": "string", "x-mcp-header": "Tenant"},
    "text": {"type": "string"},
}
SEND = {"name": "send", "inputSchema": {"type": "object", "properties": HEADERS, "required": ["region", "tenant"]}}
AGENTS = {
    "fixed": {"overrides": {"send": {"arguments": {"tenant": {"value": "t-1"}, "region": {"name": "where"}}}}},
    "other": {"overrides": {"send": {"arguments": {"text": {"value": "hello"}}}}},
    "free": {},
}


FIXED = Caller(agent="fixed")


class Desk:
    def __init__(self) -> None:
        config = Config.model_validate({"upstreams": {"a": {"command": "x"}}, "agents": AGENTS})
        self.holder = CatalogHolder(CatalogPolicy.of(config))
        self.holder.update({"a": Listing(tools=(SEND,))})
        self.views = Views(config.agents)
        self.refused: list[ManifoldError] = []
        self.router = Router(Registry(Hooks()), self.view, self.ready)
        self.router.refused = lambda _request, error: self.refused.append(error)

    def view(self, agent: str | None) -> Any:
        return self.views.of(self.holder.current, *parts(agent))

    async def ready(self, agent: str | None) -> None:
        pass

    async def call(self, agent: str | None, name: str = "send", **arguments: Any) -> Call:
        request = Request("tools/call", {"name": name, "arguments": arguments}, Caller(agent=agent))
        return (await self.router.route(request)).call


async def test_the_final_arguments_go_to_the_upstream_and_into_the_headers() -> None:
    call = await Desk().call("fixed", where="eu", text="x")
    assert call.params == {"name": "send", "arguments": {"tenant": "t-1", "region": "eu", "text": "x"}}
    assert call.headers == {"Mcp-Param-Region": "eu", "Mcp-Param-Tenant": "t-1"}
    assert call.fixed == {"tenant"}


async def test_headers_of_a_downstream_are_checked_against_the_listed_schema() -> None:
    desk = Desk()
    schema = desk.view("fixed").schema("send")
    assert schema is not None
    assert schema["properties"] == {"where": HEADERS["region"], "text": HEADERS["text"]}
    assert schema["required"] == ["where"]
    assert "where" in str(desk.router.param_map(schema))
    assert "tenant" not in str(desk.router.param_map(schema))
    assert desk.view("fixed").schema("send") is schema


async def test_of_joined_agents_everything_that_is_fixed_goes_along() -> None:
    call = await Desk().call("other+fixed", region="eu")
    assert call.params is not None
    assert call.params["arguments"] == {"tenant": "t-1", "region": "eu", "text": "hello"}
    assert call.fixed == {"tenant", "text"}


async def test_a_refused_argument_is_reported_as_a_refusal_and_goes_nowhere() -> None:
    desk = Desk()
    routed = await desk.router.route(Request("tools/call", {"name": "send", "arguments": {"tenant": 2}}, FIXED))
    with pytest.raises(InvalidArguments):
        await desk.router.send(routed)
    assert [type(error) for error in desk.refused] == [InvalidArguments]


async def test_without_an_override_the_very_arguments_go_on() -> None:
    request = Request("tools/call", {"name": "send", "arguments": {"text": "x"}}, Caller(agent="free"))
    routed = await Desk().router.route(request)
    assert routed.call.params is not None
    assert routed.call.params["arguments"] is request.params["arguments"]
    assert routed.call.fixed == frozenset()


async def test_the_digest_that_binds_rounds_together_is_of_what_the_downstream_sent() -> None:
    params = {"name": "send", "arguments": {"where": "eu"}}
    before = digest_of("tools/call", params)
    await Desk().router.route(Request("tools/call", params, Caller(agent="fixed")))
    assert digest_of("tools/call", params) == before
