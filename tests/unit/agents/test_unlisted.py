"""Names of upstreams that were never listed."""

from typing import Any

import pytest

from proxy.agents.unlisted import never_listed
from proxy.agents.view import View
from proxy.catalog.merge import merge
from proxy.catalog.naming import NamingPolicy
from proxy.catalog.policy import CatalogPolicy, Filters
from proxy.config.model import AgentConfig, Filter
from proxy.model import Kind, Listing

POLICY = CatalogPolicy(order=("a", "a_b", "web.x", "there"), filters={"a": Filters(tools=Filter(deny=("gone",)))})
CATALOG = merge({"there": Listing()}, POLICY)


@pytest.mark.parametrize(
    ("name", "upstream"),
    [
        ("mcp_a_x", "a"),
        ("mcp_a_b_x", "a_b"),
        ("a.x", "a"),
        ("a/x", "a"),
        ("web.x.fetch", "web.x"),
        ("web_x_fetch", "web.x"),
        ("mcp_web_x_fetch", "web.x"),
        ("mcp_a_", None),
        ("mcp_there_x", None),
        ("x", None),
        ("mcp_a_gone", None),
        ("ab", None),
    ],
)
def test_a_name_belongs_to_the_upstream_whose_head_it_has(name: str, upstream: str | None) -> None:
    assert never_listed(View(CATALOG), Kind.TOOL, name) == upstream


@pytest.mark.parametrize(
    "agent",
    [{"servers": ["there"]}, {"tools": {"deny": ["x"]}}, {"tools": {"allow": ["y"]}}, {"tools": {"deny": ["a.*"]}}],
)
def test_what_an_agent_could_not_see_anyway_stays_unknown(agent: dict[str, Any]) -> None:
    assert never_listed(View(CATALOG, [AgentConfig.model_validate(agent)]), Kind.TOOL, "mcp_a_x") is None


def test_a_name_without_the_servers_name_in_it_tells_nothing() -> None:
    policy = CatalogPolicy(order=("a",), naming=NamingPolicy(pattern="{tool}"))
    assert never_listed(View(merge({}, policy)), Kind.TOOL, "x") is None
