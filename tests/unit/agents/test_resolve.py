from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.agents.nearest import Nearest
from proxy.agents.view import View
from proxy.catalog.merge import merge
from proxy.catalog.policy import CatalogPolicy
from proxy.config.model import AgentConfig, Filter, NameStyle
from proxy.errors import INVALID_PARAMS, AmbiguousName, UnknownTarget
from proxy.model import Kind, Listing

POLICY = CatalogPolicy(order=("files", "web-1"))


def tools(*names: str) -> Listing:
    return Listing(tools=tuple({"name": name, "inputSchema": {"type": "object"}} for name in names))


def view(agent: AgentConfig | None = None, **more: Listing) -> View:
    listings = {"files": tools("read_file", "web.search"), "web-1": tools("fetch", "read_file"), **more}
    return View(merge(listings, POLICY), [agent] if agent else [])


PREFIXED = AgentConfig(names=NameStyle.PREFIXED)


@pytest.mark.parametrize("agent", [None, PREFIXED, AgentConfig()])
@pytest.mark.parametrize(
    "name",
    ["mcp_files_web_search", "files.web.search", "files/web.search", "files_web.search", "files_web_search",
     "web.search", "web_search"],
)  # fmt: skip
def test_a_tool_is_found_however_its_name_is_written(name: str, agent: AgentConfig | None) -> None:
    route = view(agent).tool(name)
    assert (route.upstream, route.name) == ("files", "web.search")


def test_an_ambiguous_name_is_refused_with_the_names_that_are_not() -> None:
    with pytest.raises(AmbiguousName) as caught:
        view().tool("read_file")
    assert caught.value.suggestions == ("mcp_files_read_file", "mcp_web-1_read_file")
    assert "mcp_files_read_file" in caught.value.text()


def test_an_ambiguous_server_and_tool_is_refused() -> None:
    listings = {"a": tools("b_x"), "a_b": tools("x")}
    with pytest.raises(AmbiguousName) as caught:
        View(merge(listings, POLICY)).tool("a_b_x")
    assert len(caught.value.suggestions) == 2


def test_an_ambiguous_name_with_many_candidates_stays_readable() -> None:
    listings = {f"s{number}": tools("same") for number in range(50)}
    with pytest.raises(AmbiguousName) as caught:
        View(merge(listings, POLICY)).tool("same")
    assert len(caught.value.suggestions) == 10
    assert "and 40 more" in caught.value.text()


def test_an_exact_name_comes_before_all_looser_readings() -> None:
    listings = {"files": tools("read"), "x": tools("files_read", "mcp_files_read")}
    found = View(merge(listings, POLICY))
    assert found.tool("mcp_files_read").upstream == "files"
    assert found.tool("files_read").upstream == "files"
    assert found.tool("x.files_read").upstream == "x"


def test_an_old_name_leads_to_what_it_meant() -> None:
    first = merge({"a": tools("b_x")}, POLICY)
    second = merge({"a": tools("b_x"), "a_b": tools("x")}, POLICY, previous=first)
    route = View(second).tool("mcp_a_b_x")
    assert (route.upstream, route.name) == ("a", "b_x")
    with pytest.raises(UnknownTarget):
        View(second, [AgentConfig(servers=("a_b",))]).tool("mcp_a_b_x")


def test_an_unknown_name_is_answered_with_the_nearest_ones() -> None:
    with pytest.raises(UnknownTarget) as caught:
        view().tool("mcp_files_web_serach")
    assert caught.value.suggestions[0] == "mcp_files_web_search"
    assert caught.value.jsonrpc == INVALID_PARAMS
    assert caught.value.message == "Unknown tool: 'mcp_files_web_serach'."


def test_suggestions_know_the_own_names_too() -> None:
    with pytest.raises(UnknownTarget) as caught:
        view().tool("web.serch")
    assert caught.value.suggestions == ("mcp_files_web_search",)


@pytest.mark.parametrize("name", ["read_file", "files.web.search", "mcp_files_web_search", "web_search"])
def test_what_an_agent_may_not_see_is_unknown_like_anything_else(name: str) -> None:
    blind = view(AgentConfig(servers=("web-1",), tools=Filter(deny=("read*",))))
    with pytest.raises(UnknownTarget) as hidden:
        blind.tool(name)
    with pytest.raises(UnknownTarget) as nowhere:
        blind.tool("x" * len(name))
    assert type(hidden.value) is type(nowhere.value)
    assert hidden.value.message == nowhere.value.message.replace("x" * len(name), name)
    assert hidden.value.suggestions == nowhere.value.suggestions == ()


def test_an_error_does_not_repeat_a_name_of_any_length_or_with_line_breaks() -> None:
    with pytest.raises(UnknownTarget) as caught:
        view().tool("line\nbreak" * 1000)
    assert len(caught.value.message) < 400
    assert "\n" not in caught.value.message


def test_prompts_are_found_like_tools() -> None:
    found = view(files=Listing(prompts=({"name": "sum-up"},)))
    assert found.prompt("mcp_files_sum-up") is found.prompt("files.sum-up") is found.prompt("sum-up")
    assert found.prompt("sum-up").kind is Kind.PROMPT
    with pytest.raises(UnknownTarget, match="Unknown prompt"):
        found.prompt("fetch")


@given(st.lists(st.text(max_size=20), max_size=20), st.text(max_size=300))
def test_suggestions_are_always_taken_from_what_there_is(names: list[str], wrong: str) -> None:
    found = Nearest([(name, name) for name in names]).to(wrong)
    assert set(found) <= set(names)
    assert len(found) <= 3


def test_suggestions_work_among_thousands_of_similar_names() -> None:
    names = [f"mcp_server{number % 10}_do_thing_{number}" for number in range(5000)]
    found = Nearest([(name, name) for name in names]).to("mcp_server7_do_thng_4327")
    assert found[0] == "mcp_server7_do_thing_4327"


@given(st.text(max_size=12), st.data())
def test_any_name_leads_somewhere_visible_or_is_refused(name: str, data: st.DataObject) -> None:
    agents: list[Any] = [None, PREFIXED, AgentConfig(servers=("files",)), AgentConfig(tools=Filter(allow=("*a*",)))]
    seen = view(data.draw(st.sampled_from(agents)))
    entries = seen.entries(Kind.TOOL)
    found = seen.names(Kind.TOOL).matches(name)
    assert all(entry in entries.values() for entry in found)
    if len(found) == 1:
        assert seen.tool(name) is found[0].route
        return
    with pytest.raises(AmbiguousName if found else UnknownTarget) as caught:
        seen.tool(name)
    assert set(caught.value.suggestions) <= set(entries)
