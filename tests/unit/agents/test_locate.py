import pytest

from proxy.agents.view import View
from proxy.catalog.merge import merge
from proxy.catalog.naming import NamingPolicy
from proxy.catalog.policy import CatalogPolicy, Filters
from proxy.config.model import AgentConfig, Filter
from proxy.errors import AmbiguousName, UnknownTarget
from proxy.model import Kind, Listing, Route

FILES = Listing(
    resources=({"uri": "file:///a", "name": "a"}, {"uri": "both:x", "name": "b"}),
    templates=({"uriTemplate": "file:///docs/{path}", "name": "t"}, {"uriTemplate": "{+any}.txt", "name": "x"}),
)
DB = Listing(
    resources=({"uri": "both:x", "name": "b"},),
    templates=({"uriTemplate": "db://{table}/{id}", "name": "t"}, {"uriTemplate": "{+any}.txt", "name": "x"}),
)
TOOLS = Listing(tools=({"name": "x", "inputSchema": {"type": "object"}},))
POLICY = CatalogPolicy(order=("files", "db", "tools"))


def view(agent: AgentConfig | None = None, policy: CatalogPolicy = POLICY) -> View:
    return View(merge({"files": FILES, "db": DB, "tools": TOOLS}, policy), [agent] if agent else [])


def only(resources: Filter) -> AgentConfig:
    return AgentConfig(servers=("files",), resources=resources)


@pytest.mark.parametrize(
    ("uri", "upstream", "own", "exported"),
    [
        ("files+file:///a", "files", "file:///a", "files+file:///a"),
        ("files+file:///never/listed", "files", "file:///never/listed", "files+file:///never/listed"),
        ("tools+x:y", "tools", "x:y", "tools+x:y"),
        ("file:///a", "files", "file:///a", "files+file:///a"),
        ("file:///docs/z", "files", "file:///docs/z", "files+file:///docs/z"),
        ("file:///docs/deep/z", "files", "file:///docs/deep/z", "files+file:///docs/deep/z"),
        ("db://users/7", "db", "db://users/7", "db+db://users/7"),
    ],
)
def test_a_uri_leads_to_its_upstream(uri: str, upstream: str, own: str, exported: str) -> None:
    assert view().resource(uri) == Route(Kind.RESOURCE, exported, upstream, own)


@pytest.mark.parametrize("uri", ["both:x", "any/thing.txt"])
def test_a_bare_uri_of_two_upstreams_is_refused_with_the_exported_ones(uri: str) -> None:
    with pytest.raises(AmbiguousName) as caught:
        view().resource(uri)
    assert caught.value.suggestions == (f"db+{uri}", f"files+{uri}")


@pytest.mark.parametrize("uri", ["", "nowhere:x", "nobody+file:///a", "file:///", "db://users"])
def test_a_uri_that_fits_nothing_is_unknown(uri: str) -> None:
    with pytest.raises(UnknownTarget, match="Unknown resource"):
        view().resource(uri)


def test_the_nearest_uris_are_suggested() -> None:
    with pytest.raises(UnknownTarget) as caught:
        view(AgentConfig(servers=("db", "files"))).resource("file:///aa")
    assert caught.value.suggestions == ("files+file:///a",)


def test_an_unknown_uri_goes_to_the_only_upstream_that_has_resources() -> None:
    alone = view(AgentConfig(servers=("files", "tools")))
    assert alone.resource("odd:x") == Route(Kind.RESOURCE, "files+odd:x", "files", "odd:x")


def test_an_upstream_that_says_it_has_resources_counts_without_listing_any() -> None:
    listings = {"tools": TOOLS, "quiet": Listing(capabilities={"resources": {}})}
    assert View(merge(listings, POLICY)).resource("odd:x").upstream == "quiet"


@pytest.mark.parametrize("uri", ["db+db://users/7", "db://users/7", "db+both:x"])
def test_what_an_agent_may_not_see_is_unknown(uri: str) -> None:
    with pytest.raises(UnknownTarget):
        view(AgentConfig(servers=("tools", "d[x]"))).resource(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "files+file:///a",
        "file:///a",
        "files+file:///%61",
        "files+FILE:///a",
        "files+file:///docs/../a",
        "file:///b/../a",
    ],
)
def test_a_resource_that_is_filtered_out_cannot_be_reached_by_another_way(uri: str) -> None:
    with pytest.raises(UnknownTarget):
        view(only(Filter(deny=("file:///a",)))).resource(uri)
    with pytest.raises(UnknownTarget):
        view(only(Filter(allow=("file:///docs/*",)))).resource(uri)
    filters = {"files": Filters(resources=Filter(deny=("file:///a",)))}
    with pytest.raises(UnknownTarget):
        view(AgentConfig(servers=("files",)), CatalogPolicy(order=("files",), filters=filters)).resource(uri)


def test_unlisted_resources_that_a_filter_allows_are_reached() -> None:
    assert view(only(Filter(allow=("file:///docs/*",)))).resource("files+file:///docs/new").name == "file:///docs/new"


def test_what_only_a_hidden_template_gives_is_hidden() -> None:
    deny = Filter(deny=("file:///docs/{path}",))
    with pytest.raises(UnknownTarget):
        view(only(deny)).resource("files+file:///docs/z")
    assert view(only(deny)).resource("files+file:///docs/z.txt").upstream == "files"
    filters = {"files": Filters(resources=deny)}
    with pytest.raises(UnknownTarget):
        view(policy=CatalogPolicy(filters=filters)).resource("files+file:///docs/z")


def test_pass_through_uris_are_bare_and_unlisted_ones_find_the_only_owner() -> None:
    policy = CatalogPolicy(naming=NamingPolicy(patterns={"git": "{tool}"}))
    listings = {"git": Listing(resources=({"uri": "git+https://x", "name": "x"},)), "tools": TOOLS}
    found = View(merge(listings, policy))
    assert found.resource("git+https://x") == Route(Kind.RESOURCE, "git+https://x", "git", "git+https://x")
    assert found.resource("git+https://new") == Route(Kind.RESOURCE, "git+https://new", "git", "git+https://new")


@pytest.mark.parametrize(
    ("reference", "kind", "upstream", "own"),
    [
        ("files+file:///docs/{path}", Kind.TEMPLATE, "files", "file:///docs/{path}"),
        ("db://{table}/{id}", Kind.TEMPLATE, "db", "db://{table}/{id}"),
        ("files+odd:{x}", Kind.TEMPLATE, "files", "odd:{x}"),
        ("files+file:///a", Kind.RESOURCE, "files", "file:///a"),
        ("file:///a", Kind.RESOURCE, "files", "file:///a"),
        ("db://users/7", Kind.RESOURCE, "db", "db://users/7"),
    ],
)
def test_a_completion_reference_leads_to_its_upstream(reference: str, kind: Kind, upstream: str, own: str) -> None:
    route = view().template(reference)
    assert (route.kind, route.upstream, route.name) == (kind, upstream, own)


@pytest.mark.parametrize("reference", ["{+any}.txt", "both:x"])
def test_a_reference_that_two_upstreams_have_is_refused(reference: str) -> None:
    with pytest.raises(AmbiguousName):
        view().template(reference)
