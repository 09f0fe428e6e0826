"""Renamed upstreams: their names, URIs and old names lead on."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.agents.view import View
from proxy.catalog.merge import merge
from proxy.catalog.moves import now_called
from proxy.catalog.naming import NamingPolicy
from proxy.catalog.policy import CatalogPolicy
from proxy.catalog.snapshot import Catalog
from proxy.config.model import AgentConfig
from proxy.errors import UnknownTarget
from proxy.model import Kind, Listing

LONG = "a_tool_with_a_name_that_is_much_too_long_to_be_shown_as_it_is_to_anybody"
LISTING = Listing(
    tools=tuple({"name": name, "inputSchema": {"type": "object"}} for name in ("work", "w.x", "w_x", LONG)),
    prompts=({"name": "ask"},),
    resources=({"uri": "file:///a", "name": "a"},),
    templates=({"uriTemplate": "file:///{name}", "name": "t"},),
)


def named(*upstreams: str, pattern: str = "mcp_{server}_{tool}", **more: Any) -> CatalogPolicy:
    return CatalogPolicy(order=upstreams, naming=NamingPolicy(pattern=pattern), **more)


def renamed(catalog: Catalog, old: str, new: str, now: float = 1.0, **more: Any) -> Catalog:
    listings = {new if name == old else name: one for name, one in catalog.listings.items()}
    return merge(listings, named(*listings, **more), previous=catalog, now=now, renamed={old: new})


def everything(catalog: Catalog) -> dict[str, tuple[Kind, str]]:
    """Every public name and URI, with what it leads to."""
    return {entry.route.public: (kind, entry.route.name) for kind in Kind for entry in catalog.of(kind)}


def found(view: View, kind: Kind, name: str) -> tuple[str, str]:
    find = {Kind.TOOL: view.tool, Kind.PROMPT: view.prompt, Kind.RESOURCE: view.resource, Kind.TEMPLATE: view.template}
    route = find[kind](name)
    return route.upstream, route.name


@pytest.mark.parametrize("agents", [(), (AgentConfig(),)])
def test_every_name_and_uri_of_a_renamed_upstream_leads_on_hashed_ones_and_renames_of_renames_too(agents: Any) -> None:
    first = merge({"a": LISTING, "b": Listing()}, named("a", "b"))
    second = renamed(first, "a", "new")
    third = renamed(second, "new", "newer", now=2.0)
    names = everything(first) | everything(second)
    assert any(len(name) == 64 for name in names)
    views = [View(first, agents)]
    for catalog in (second, third):
        views.append(View(catalog, agents, views[-1]))
    for name, (kind, own) in names.items():
        assert found(views[-1], kind, name) == ("newer", own)
    assert found(views[-1], Kind.RESOURCE, "a+file:///unlisted") == ("newer", "file:///unlisted")


def test_a_name_that_is_used_again_leads_to_whoever_has_it_now() -> None:
    catalog = renamed(merge({"a": LISTING}, named("a")), "a", "new")
    other = Listing(tools=({"name": "work", "inputSchema": {"type": "object"}},))
    again = merge({"new": LISTING, "a": other}, named("new", "a"), previous=catalog, now=2.0)
    view = View(again)
    assert found(view, Kind.TOOL, "mcp_a_work") == ("a", "work")
    assert found(view, Kind.RESOURCE, "a+file:///a") == ("a", "file:///a")
    assert now_called(again, "a") == "a"


def test_old_names_end_with_their_time_and_with_their_upstream() -> None:
    catalog = renamed(merge({"a": LISTING}, named("a")), "a", "new", alias_ttl=10.0)
    assert now_called(catalog, "a") == "new"
    later = merge(catalog.listings, catalog.policy, previous=catalog, now=20.0)
    gone = merge({}, named(), previous=catalog, now=2.0)
    for one in (later, gone):
        assert now_called(one, "a") == "a"
        assert one.uris.former == {}
    with pytest.raises(UnknownTarget):
        View(later).tool("mcp_a_work")


def test_uris_lead_on_when_names_pass_through_from_now_on() -> None:
    first = merge({"a": LISTING}, named("a"))
    second = merge({"a": LISTING}, named("a", pattern="{tool}"), previous=first, now=1.0)
    assert found(View(second), Kind.RESOURCE, "a+file:///a") == ("a", "file:///a")
    assert View(second).export("a", "file:///a") == "file:///a"


@given(st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("abcd")), max_size=6))
def test_after_any_renames_every_name_since_the_last_use_of_a_name_leads_to_its_tool(
    steps: list[tuple[str, str]],
) -> None:
    first = {"name": "one", "inputSchema": {"type": "object"}}
    catalog = merge({"a": Listing(tools=(first,)), "b": Listing()}, named("a", "b"))
    at, time = "a", 0.0
    was = {"mcp_a_one": "one"}
    for old, new in steps:
        if old not in catalog.listings or new in catalog.listings:
            continue
        time += 1.0
        catalog = renamed(catalog, old, new, now=time)
        at = new if old == at else at
        was |= dict.fromkeys(catalog.names(Kind.TOOL), "one")
    view = View(catalog)
    for name, own in was.items():
        assert found(view, Kind.TOOL, name) == (at, own)
