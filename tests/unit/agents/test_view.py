import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.agents.view import View
from proxy.agents.views import Views, changed_lists
from proxy.catalog.merge import merge
from proxy.catalog.naming import NamingPolicy
from proxy.catalog.policy import CatalogPolicy, Filters
from proxy.catalog.snapshot import Catalog
from proxy.config.model import AgentConfig, Filter, NameStyle
from proxy.errors import AmbiguousName, UnknownServer, UnknownTarget
from proxy.model import Kind, Listing, Params

POLICY = CatalogPolicy(order=("files", "web"))
OWN_NAMES = st.lists(st.text(alphabet="ab_.-", min_size=1, max_size=4), max_size=6)


def tool(name: str, **more: Any) -> dict[str, Any]:
    return {"title": "T", "name": name, "inputSchema": {"type": "object"}, **more}


def tools(*names: str) -> Listing:
    return Listing(tools=tuple(tool(name) for name in names))


def catalog(policy: CatalogPolicy = POLICY, **listings: Listing) -> Catalog:
    return merge(listings, policy)


def shown(view: View, kind: Kind = Kind.TOOL) -> list[str]:
    return list(view.entries(kind))


FILES = tools("read", "delete.all", "search")
WEB = tools("search", "fetch")


def test_the_store_sees_everything_under_public_names() -> None:
    view = View(catalog(files=FILES, web=WEB))
    assert shown(view) == [
        "mcp_files_read",
        "mcp_files_delete_all",
        "mcp_files_search",
        "mcp_web_search",
        "mcp_web_fetch",
    ]


def test_an_agent_sees_own_names_where_they_are_unambiguous() -> None:
    view = View(catalog(files=FILES, web=WEB), [AgentConfig()])
    assert shown(view) == ["read", "delete_all", "mcp_files_search", "mcp_web_search", "fetch"]


def test_what_an_agent_cannot_see_makes_no_name_ambiguous() -> None:
    view = View(catalog(files=FILES, web=WEB), [AgentConfig(tools=Filter(deny=("files.search",)))])
    assert "search" in shown(view)
    assert view.tool("search").upstream == "web"


def test_an_agent_can_ask_for_public_names() -> None:
    view = View(catalog(files=FILES), [AgentConfig(names=NameStyle.PREFIXED)])
    assert shown(view) == ["mcp_files_read", "mcp_files_delete_all", "mcp_files_search"]


def test_an_own_name_gives_way_to_a_public_name_that_looks_the_same() -> None:
    view = View(catalog(files=tools("search"), web=tools("search", "mcp_files_search")), [AgentConfig()])
    assert shown(view) == ["mcp_files_search", "mcp_web_search", "mcp_web_mcp_files_search"]
    assert view.tool("mcp_files_search").upstream == "files"


def test_an_own_name_that_is_too_long_stays_public() -> None:
    (name,) = shown(View(catalog(files=tools("x" * 100)), [AgentConfig()]))
    assert name.startswith("mcp_files_x")
    assert len(name) <= 64


def test_pass_through_names_stay_verbatim_for_agents_too() -> None:
    policy = CatalogPolicy(naming=NamingPolicy(pattern="{tool}"))
    assert shown(View(catalog(policy, files=tools("a.b")), [AgentConfig()])) == ["a.b"]


@given(st.dictionaries(st.text(alphabet="ab_.", min_size=1, max_size=3), OWN_NAMES, max_size=4))
def test_local_names_are_valid_unique_and_lead_where_they_should(names: dict[str, list[str]]) -> None:
    view = View(merge({upstream: tools(*own) for upstream, own in names.items()}, POLICY), [AgentConfig()])
    expected = {(upstream, name) for upstream, own in names.items() for name in own}
    assert {entry.key for entry in view.entries(Kind.TOOL).values()} == expected
    for name, entry in view.entries(Kind.TOOL).items():
        assert re.fullmatch(r"[a-zA-Z_][a-zA-Z0-9_-]{0,63}", name)
        assert view.tool(name) is entry.route
        assert view.tool(entry.route.public) is entry.route or entry.route.public in view.entries(Kind.TOOL)


@pytest.mark.parametrize("glob", ["delete.all", "delete_all", "mcp_files_delete*", "files.delete*", "*delete*"])
def test_filters_know_a_tool_by_all_of_its_names(glob: str) -> None:
    view = View(catalog(files=FILES), [AgentConfig(tools=Filter(deny=(glob,)))])
    assert shown(view) == ["read", "search"]
    assert shown(View(catalog(files=FILES), [AgentConfig(tools=Filter(allow=(glob,)))])) == ["delete_all"]


def test_an_agent_sees_only_the_upstreams_it_may() -> None:
    view = View(catalog(files=FILES, web=WEB), [AgentConfig(servers=("w*",))])
    assert shown(view) == ["search", "fetch"]
    assert view.upstreams == ("web",)
    assert list(view.listings) == ["web"]


def test_an_upstream_exists_for_a_view_before_it_is_listed() -> None:
    view = View(catalog(web=WEB))
    assert view.upstreams == ("files", "web")
    assert list(view.listings) == ["web"]


def test_several_agents_see_what_all_of_them_may_under_the_names_of_the_first() -> None:
    one = AgentConfig(servers=("files", "web"), tools=Filter(deny=("fetch",)), names=NameStyle.PREFIXED)
    two = AgentConfig(servers=("web",))
    assert shown(View(catalog(files=FILES, web=WEB), [one, two])) == ["mcp_web_search"]
    assert shown(View(catalog(files=FILES, web=WEB), [two, one])) == ["search"]


def test_filters_of_one_kind_leave_the_others_alone() -> None:
    listing = Listing(
        tools=(tool("x"),),
        prompts=({"name": "x"},),
        resources=({"uri": "file:///x", "name": "x"},),
        templates=({"uriTemplate": "file:///x/{y}", "name": "x"},),
    )
    view = View(catalog(files=listing), [AgentConfig(prompts=Filter(allow=()), resources=Filter(deny=("file:*/x",)))])
    assert [shown(view, kind) for kind in Kind] == [["x"], [], [], ["files+file:///x/{y}"]]


def test_definitions_are_verbatim_except_for_the_name() -> None:
    raw = {"zeta": [1, {"$ref": "#/x"}], "name": "read", "inputSchema": {"type": "object", "$defs": {}}, "x-more": 1.0}
    (definition,) = View(catalog(files=Listing(tools=(raw,)))).listing(Kind.TOOL)
    assert definition == {**raw, "name": "mcp_files_read"}
    assert list(definition) == list(raw)
    assert definition["zeta"] is raw["zeta"]
    assert raw["name"] == "read"


def test_resources_templates_and_prompts_are_verbatim_except_for_what_names_them() -> None:
    listing = Listing(
        resources=({"size": 3, "uri": "file:///a", "name": "a"},),
        templates=({"uriTemplate": "file:///{+p}", "name": "t"},),
        prompts=({"name": "p", "arguments": [{"name": "x", "title": "X"}]},),
    )
    view = View(catalog(files=listing))
    assert view.listing(Kind.RESOURCE) == ({"size": 3, "uri": "files+file:///a", "name": "a"},)
    assert view.listing(Kind.TEMPLATE) == ({"uriTemplate": "files+file:///{+p}", "name": "t"},)
    assert view.listing(Kind.PROMPT) == ({**listing.prompts[0], "name": "mcp_files_p"},)


@pytest.mark.parametrize(
    ("meta", "mapped"),
    [
        (
            {"ui": {"resourceUri": "ui://a/b", "visibility": ["app"]}, "k": 1},
            {"ui": {"resourceUri": "ui://files+a/b", "visibility": ["app"]}, "k": 1},
        ),
        ({"ui/resourceUri": "ui://a/b"}, {"ui/resourceUri": "ui://files+a/b"}),
    ],
)
def test_the_interface_of_a_tool_is_found_under_its_exported_uri(meta: Params, mapped: Params) -> None:
    raw = tool("x", _meta=meta)
    listing = Listing(tools=(raw,), resources=({"uri": "ui://a/b", "name": "b"},))
    view = View(catalog(files=listing))
    assert view.listing(Kind.TOOL)[0]["_meta"] == mapped
    assert view.resource("ui://files+a/b").name == "ui://a/b"
    assert raw["_meta"] == meta
    assert "files+" not in str(meta)


def test_a_single_pass_through_upstream_is_shown_as_the_very_objects_that_it_sent() -> None:
    listing = Listing(tools=(tool("a.b", _meta={"ui": {"resourceUri": "ui://x"}}),), prompts=({"name": "p"},))
    view = View(catalog(CatalogPolicy(naming=NamingPolicy(pattern="{tool}")), only=listing))
    assert view.listing(Kind.TOOL)[0] is listing.tools[0]
    assert view.listing(Kind.PROMPT)[0] is listing.prompts[0]


def test_the_definition_behind_a_route_is_at_hand() -> None:
    view = View(catalog(files=FILES))
    assert view.raw(view.tool("mcp_files_read")) is FILES.tools[0]


def test_views_are_made_once_for_a_catalog() -> None:
    views = Views({"coder": AgentConfig(servers=("files",))})
    one, two = catalog(files=FILES), catalog(files=FILES, web=WEB)
    assert views.of(one, "coder") is views.of(one, "coder")
    assert views.of(one) is not views.of(one, "coder")
    assert views.of(two, "coder") is not views.of(one, "coder")


def test_an_unknown_agent_has_no_view() -> None:
    with pytest.raises(UnknownServer):
        Views({}).of(catalog(), "nobody")


def test_a_changed_agent_gets_a_new_view_and_a_removed_one_none() -> None:
    views = Views({"a": AgentConfig(), "b": AgentConfig()})
    known = catalog(files=FILES, web=WEB)
    before = views.of(known, "a")
    views.configure({"a": AgentConfig(servers=("web",))})
    assert shown(views.of(known, "a")) == ["search", "fetch"]
    assert shown(before) != shown(views.of(known, "a"))
    with pytest.raises(UnknownServer):
        views.of(known, "b")


def test_a_local_name_that_became_ambiguous_still_leads_where_it_did() -> None:
    views = Views({"a": AgentConfig()})
    first = merge({"files": FILES}, POLICY, now=0.0)
    assert views.of(first, "a").tool("search").upstream == "files"
    second = merge({"files": FILES, "web": WEB}, POLICY, previous=first, now=1.0)
    view = views.of(second, "a")
    assert "search" not in shown(view)
    assert view.tool("search").upstream == "files"
    third = merge({"files": FILES, "web": tools("search")}, POLICY, previous=second, now=2 * POLICY.alias_ttl)
    with pytest.raises(AmbiguousName):
        views.of(third, "a").tool("search")


def test_list_changed_is_for_lists_that_differ_in_the_view() -> None:
    agent = [AgentConfig(servers=("files",))]
    old, new = catalog(files=FILES), catalog(files=FILES, web=WEB)
    more = Listing(tools=FILES.tools, templates=({"uriTemplate": "x:{y}", "name": "t"},))
    assert changed_lists(View(old, agent), View(new, agent)) == ()
    assert changed_lists(View(old), View(new)) == ("notifications/tools/list_changed",)
    assert changed_lists(View(old), View(catalog(files=more))) == ("notifications/resources/list_changed",)


def test_a_filter_on_an_upstream_holds_for_every_view() -> None:
    policy = CatalogPolicy(filters={"files": Filters(tools=Filter(deny=("delete*",)))})
    view = View(catalog(policy, files=FILES))
    with pytest.raises(UnknownTarget):
        view.tool("mcp_files_delete_all")


def test_what_belongs_to_one_agent_exists_for_nobody_else() -> None:
    owned = CatalogPolicy(order=("files", "web"), owners={"web": "a"})
    catalog_ = catalog(owned, files=FILES, web=WEB)
    agent = AgentConfig(names=NameStyle.PREFIXED)
    assert View(catalog_).upstreams == ("files",)
    assert View(catalog_, [agent], names=["b"]).upstreams == ("files",)
    assert View(catalog_, [AgentConfig(servers=("files",))], names=["a"]).upstreams == ("files", "web")
    assert View(catalog_, [agent, agent], names=["a", "b"]).upstreams == ("files",)
    assert View(catalog_, [agent, agent], names=["b", "a"]).upstreams == ("files",)
    with pytest.raises(UnknownTarget):
        View(catalog_).tool("mcp_web_search")
