from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.catalog.merge import changed, merge
from proxy.catalog.naming import NamingPolicy
from proxy.catalog.policy import CatalogPolicy, Filters
from proxy.catalog.snapshot import EMPTY, Catalog
from proxy.config.model import Filter
from proxy.model import Kind, Listing, Route

POLICY = CatalogPolicy(order=("one", "two"))
TOOL_NAMES = st.lists(st.text(alphabet="ab_.", min_size=1, max_size=4), max_size=6)
LISTINGS = st.dictionaries(st.text(alphabet="ab_.", min_size=1, max_size=3), TOOL_NAMES, max_size=4)


def tool(name: Any, **more: Any) -> dict[str, Any]:
    return {"name": name, "inputSchema": {"type": "object"}, **more}


def tools(*names: Any) -> Listing:
    return Listing(tools=tuple(tool(name) for name in names))


def publics(catalog: Catalog, kind: Kind = Kind.TOOL) -> list[str]:
    return [entry.route.public for entry in catalog.of(kind)]


def test_entries_come_in_the_order_of_the_configuration_and_then_in_the_upstreams_own() -> None:
    listings = {"extra": tools("e"), "two": tools("z", "a"), "one": tools("m")}
    catalog = merge(listings, POLICY)
    assert publics(catalog) == ["mcp_one_m", "mcp_two_z", "mcp_two_a", "mcp_extra_e"]
    assert list(catalog.listings) == ["one", "two", "extra"]


@given(LISTINGS, st.data())
def test_the_catalog_does_not_depend_on_who_answered_first(names: dict[str, list[str]], data: st.DataObject) -> None:
    listings = {upstream: tools(*own) for upstream, own in names.items()}
    shuffled = dict(data.draw(st.permutations(sorted(listings.items()))))
    assert not changed(merge(listings, POLICY), merge(shuffled, POLICY))


@given(LISTINGS)
def test_everything_listed_can_be_found_both_ways_and_nothing_is_overwritten(names: dict[str, list[str]]) -> None:
    catalog = merge({upstream: tools(*own) for upstream, own in names.items()}, POLICY)
    for upstream, own in names.items():
        for name in own:
            entry = catalog.own(Kind.TOOL, upstream, name)
            assert entry is not None
            assert catalog.find(Kind.TOOL, entry.route.public) is entry
    assert len(catalog.of(Kind.TOOL)) == sum(len(set(own)) for own in names.values())


def test_every_kind_has_its_routes() -> None:
    listing = Listing(
        tools=(tool("t"),),
        prompts=({"name": "p"},),
        resources=({"uri": "file:///r", "name": "r"},),
        templates=({"uriTemplate": "file:///{t}", "name": "t"},),
    )
    catalog = merge({"one": listing}, POLICY)
    assert [entry.route for kind in Kind for entry in catalog.of(kind)] == [
        Route(Kind.TOOL, "mcp_one_t", "one", "t"),
        Route(Kind.PROMPT, "mcp_one_p", "one", "p"),
        Route(Kind.RESOURCE, "one+file:///r", "one", "file:///r"),
        Route(Kind.TEMPLATE, "one+file:///{t}", "one", "file:///{t}"),
    ]
    assert catalog.of(Kind.TOOL)[0].raw is listing.tools[0]


def test_tools_and_prompts_of_one_name_do_not_collide() -> None:
    catalog = merge({"one": Listing(tools=(tool("x"),), prompts=({"name": "x"},))}, POLICY)
    assert publics(catalog) == publics(catalog, Kind.PROMPT) == ["mcp_one_x"]


@pytest.mark.parametrize("bad", [None, 7, [], {}, tool(""), tool(5), tool(None), {"name": "x", "inputSchema": "no"}])
def test_a_poisoned_entry_costs_only_itself_and_is_reported(bad: Any) -> None:
    listing = Listing(tools=(tool("before"), bad, tool("after")))
    catalog = merge({"one": listing}, POLICY)
    assert publics(catalog) == ["mcp_one_before", "mcp_one_after"]
    (conflict,) = catalog.conflicts
    assert (conflict.upstream, conflict.kind, conflict.index) == ("one", Kind.TOOL, 1)
    assert conflict.reason


def test_of_two_entries_of_one_name_the_first_counts() -> None:
    listing = Listing(tools=(tool("x", description="first"), tool("x", description="second")))
    catalog = merge({"one": listing}, POLICY)
    assert [entry.raw["description"] for entry in catalog.of(Kind.TOOL)] == ["first"]
    assert [str(conflict) for conflict in catalog.conflicts] == ['one: tool "x" is left out: it is listed twice']


def test_a_poisoned_entry_does_not_shut_out_a_good_one_of_the_same_name() -> None:
    listing = Listing(tools=({"name": "x"}, tool("x")))
    assert publics(merge({"one": listing}, POLICY)) == ["mcp_one_x"]


def test_filters_hold_for_own_names_before_naming() -> None:
    filters = {"one": Filters(tools=Filter(deny=("web.*",)), resources=Filter(allow=("file:*",)))}
    listing = Listing(
        tools=(tool("web.search"), tool("web_search")),
        resources=({"uri": "http://x", "name": "x"}, {"uri": "file:///x", "name": "x"}),
    )
    catalog = merge({"one": listing}, CatalogPolicy(order=("one",), filters=filters))
    assert publics(catalog) == ["mcp_one_web_search"]
    assert publics(catalog, Kind.RESOURCE) == ["one+file:///x"]
    assert catalog.conflicts == ()


def test_uris_of_pass_through_upstreams_stay_and_shared_ones_get_slugs() -> None:
    policy = CatalogPolicy(order=("one", "two"), naming=NamingPolicy(patterns={"one": "{tool}", "two": "{tool}"}))
    shared, own = {"uri": "x:shared", "name": "s"}, {"uri": "x:own", "name": "o"}
    catalog = merge({"one": Listing(resources=(shared, own)), "two": Listing(resources=(shared,))}, policy)
    assert publics(catalog, Kind.RESOURCE) == ["one+x:shared", "x:own", "two+x:shared"]


def test_a_name_that_changes_stays_resolvable_until_its_time_is_up() -> None:
    first = merge({"a": tools("b_x")}, POLICY, now=0.0)
    both = {"a": tools("b_x"), "a_b": tools("x")}
    second = merge(both, POLICY, previous=first, now=10.0)
    assert second.find(Kind.TOOL, "mcp_a_b_x") is None
    alias = second.aliased(Kind.TOOL, "mcp_a_b_x")
    assert alias is not None
    assert alias.key == ("a", "b_x")
    late = merge(both, POLICY, previous=second, now=10.0 + POLICY.alias_ttl)
    assert late.aliased(Kind.TOOL, "mcp_a_b_x") is None


def test_an_alias_outlives_an_upstream_that_is_away_for_a_while() -> None:
    first = merge({"a": tools("b_x")}, POLICY)
    away = merge({}, POLICY, previous=first)
    assert away.aliased(Kind.TOOL, "mcp_a_b_x") is None
    back = merge({"a": tools("b_x"), "a_b": tools("x")}, POLICY, previous=away)
    alias = back.aliased(Kind.TOOL, "mcp_a_b_x")
    assert alias is not None
    assert alias.key == ("a", "b_x")


def test_every_catalog_has_a_higher_version() -> None:
    first = merge({}, POLICY)
    assert EMPTY.version < first.version < merge({}, POLICY, previous=first).version


@pytest.mark.parametrize(
    ("after", "kinds"),
    [
        (Listing(tools=(tool("x"), tool("y"))), set()),
        (Listing(tools=(tool("y"), tool("x"))), {Kind.TOOL}),
        (Listing(tools=(tool("x", title="X"), tool("y"))), {Kind.TOOL}),
        (Listing(tools=(tool("x"), tool("y")), prompts=({"name": "p"},), instructions="new"), {Kind.PROMPT}),
        (Listing(tools=(tool("x"), tool("y")), templates=({"uriTemplate": "x:{y}", "name": "n"},)), {Kind.TEMPLATE}),
        (Listing(tools=(tool("x"), tool("y")), instructions="new"), set()),
    ],
)
def test_the_kinds_that_changed_are_known(after: Listing, kinds: set[Kind]) -> None:
    assert changed(merge({"one": tools("x", "y")}, POLICY), merge({"one": after}, POLICY)) == kinds
