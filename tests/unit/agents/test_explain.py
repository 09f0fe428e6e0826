import pytest

from proxy.agents.explain import Explanation, explain
from proxy.agents.view import View
from proxy.catalog.merge import merge
from proxy.catalog.naming import Why
from proxy.catalog.policy import CatalogPolicy
from proxy.config.model import AgentConfig, Filter
from proxy.errors import UnknownTarget
from proxy.model import Kind, Listing

POLICY = CatalogPolicy()


def listing(*names: str) -> Listing:
    return Listing(
        tools=tuple({"name": name, "inputSchema": {"type": "object"}} for name in names),
        prompts=tuple({"name": name} for name in names if name == "both"),
        resources=({"uri": "file:///a", "name": "a"},),
    )


def test_a_hashed_name_says_with_whom_it_collides_and_what_it_was_before() -> None:
    first = merge({"a": listing("b_x")}, POLICY)
    second = merge({"a": listing("b_x"), "a_b": listing("x")}, POLICY, previous=first)
    (found,) = explain(View(second), "a.b_x")
    assert found == Explanation(
        kind=Kind.TOOL,
        public=found.public,
        shown=found.public,
        upstream="a",
        own="b_x",
        pattern="mcp_{server}_{tool}",
        plain="mcp_a_b_x",
        why=Why.COLLISION,
        rivals=("a_b.x",),
        aliases=("mcp_a_b_x",),
    )


def test_an_ambiguous_name_is_explained_in_all_its_meanings() -> None:
    view = View(merge({"a": listing("x"), "b": listing("x")}, POLICY))
    assert [found.upstream for found in explain(view, "x")] == ["a", "b"]


def test_a_name_can_be_a_tool_and_a_prompt() -> None:
    view = View(merge({"a": listing("both")}, POLICY), [AgentConfig()])
    found = explain(view, "both")
    assert [(one.kind, one.shown, one.public) for one in found] == [
        (Kind.TOOL, "both", "mcp_a_both"),
        (Kind.PROMPT, "both", "mcp_a_both"),
    ]


@pytest.mark.parametrize(("uri", "shown"), [("a+file:///a", "a+file:///a"), ("a+file:///new", "")])
def test_an_exported_uri_is_explained(uri: str, shown: str) -> None:
    (found,) = explain(View(merge({"a": listing()}, POLICY)), uri)
    assert (found.kind, found.upstream, found.own) == (Kind.RESOURCE, "a", uri.removeprefix("a+"))
    assert found.shown == shown


def test_what_means_nothing_is_unknown() -> None:
    with pytest.raises(UnknownTarget) as caught:
        explain(View(merge({"a": listing("search")}, POLICY)), "serch")
    assert caught.value.suggestions == ("mcp_a_search",)


def test_a_uri_that_is_filtered_out_is_not_explained() -> None:
    view = View(merge({"a": listing()}, POLICY), [AgentConfig(resources=Filter(deny=("file:*",)))])
    with pytest.raises(UnknownTarget):
        explain(view, "a+file:///a")


def test_rivals_that_an_agent_may_not_see_are_not_told() -> None:
    both = merge({"a": listing("b_x"), "a_b": listing("x")}, POLICY)
    (found,) = explain(View(both, [AgentConfig(servers=("a",))]), "a.b_x")
    assert found.rivals == ()
