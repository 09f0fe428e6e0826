import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.catalog.uris import UriTable, slug_of, slugs

SCHEME = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]*:")
NAMES = st.sets(st.one_of(st.text(min_size=1, max_size=12), st.text(alphabet="aA._-1 +", min_size=1)), min_size=1)
URIS = st.one_of(
    st.text(),
    st.from_regex(r"[a-z][a-z0-9+.-]{0,8}:(//)?[a-z/+{}.]{0,20}", fullmatch=True),
    st.from_regex(r"[uU][iI]://[a-z+/]{0,12}", fullmatch=True),
)


@given(NAMES)
def test_slugs_are_unique_and_can_begin_a_scheme(names: set[str]) -> None:
    table = slugs(names)
    assert table.keys() == names
    assert len(set(table.values())) == len(names)
    assert all(re.fullmatch(r"[a-z][a-z0-9.-]*", slug) for slug in table.values())


@given(NAMES)
def test_slugs_do_not_depend_on_the_order_of_upstreams(names: set[str]) -> None:
    assert slugs(sorted(names)) == slugs(sorted(names, reverse=True))


@given(NAMES, URIS, st.data())
def test_any_uri_finds_its_way_back(names: set[str], uri: str, data: st.DataObject) -> None:
    table = UriTable.of(names)
    upstream = data.draw(st.sampled_from(sorted(names)))
    assert table.resolve(table.export(upstream, uri)) == (upstream, uri)


@given(NAMES, st.from_regex(r"[a-z][a-z0-9+.-]{0,8}:[a-z/]{0,20}", fullmatch=True))
def test_an_exported_uri_is_a_uri(names: set[str], uri: str) -> None:
    table = UriTable.of(names)
    assert all(SCHEME.match(table.export(name, uri)) for name in names)


@given(NAMES, st.sets(URIS, max_size=5), st.data())
def test_no_two_offers_are_exported_alike(names: set[str], uris: set[str], data: st.DataObject) -> None:
    plain = frozenset(data.draw(st.sets(st.sampled_from(sorted(names)))))
    offers = {(name, uri) for name in names for uri in uris}
    offers |= {(name, f"{slug_of(other)}+{uri}") for name in plain for other in names for uri in uris}
    table = UriTable.of(names, plain, offers)
    exported = {offer: table.export(*offer) for offer in offers}
    assert len(set(exported.values())) == len(offers)


def test_the_slug_goes_before_the_scheme() -> None:
    table = UriTable.of(["files", "My Server"])
    assert table.export("files", "file:///a") == "files+file:///a"
    assert table.export("My Server", "git+https://x/y?a=b+c") == "my-server+git+https://x/y?a=b+c"
    assert table.resolve("my-server+git+https://x/y?a=b+c") == ("My Server", "git+https://x/y?a=b+c")


def test_templates_are_mapped_like_uris() -> None:
    table = UriTable.of(["files"])
    assert table.export("files", "file:///{path}") == "files+file:///{path}"
    assert table.export("files", "{+uri}") == "files+{+uri}"
    assert table.resolve("files+ui://x") == ("files", "ui://x")


def test_an_interface_keeps_the_scheme_that_hosts_look_for() -> None:
    table = UriTable.of(["app"])
    assert table.export("app", "ui://widget/view.html") == "ui://app+widget/view.html"
    assert table.resolve("ui://app+widget/view.html") == ("app", "ui://widget/view.html")


def test_schemes_may_come_back_in_capitals() -> None:
    assert UriTable.of(["files"]).resolve("FILES+file:///a") == ("files", "file:///a")


@pytest.mark.parametrize(
    "uri", ["", "file:///a", "git+https://x", "other+file:///a", "http://x/files+y", "ui://x", "+"]
)
def test_a_uri_without_a_known_slug_is_nobodys(uri: str) -> None:
    assert UriTable.of(["files"]).resolve(uri) is None


def test_uris_of_a_pass_through_upstream_stay_as_they_are_even_if_they_look_exported() -> None:
    table = UriTable.of(["git"], frozenset({"git"}))
    assert table.export("git", "git+https://x") == "git+https://x"
    assert table.resolve("git+https://x") is None
    assert table.keeps("git")


def test_what_two_pass_through_upstreams_share_gets_a_slug() -> None:
    shared = {("a", "x:1"), ("b", "x:1"), ("b", "x:2")}
    table = UriTable.of(["a", "b"], frozenset("ab"), shared)
    assert {offer: table.export(*offer) for offer in shared} == {
        ("a", "x:1"): "a+x:1",
        ("b", "x:1"): "b+x:1",
        ("b", "x:2"): "x:2",
    }
    assert table.resolve("a+x:1") == ("a", "x:1")
    assert not table.keeps("a")


def test_similar_names_get_slugs_that_never_change() -> None:
    assert slugs(["my-server", "my server"]) == {"my-server": "my-server", "my server": "my-server-cw45vg"}


def test_an_upstream_that_is_gone_exports_nothing() -> None:
    assert UriTable.of(["a"]).export("gone", "x:1") == "x:1"
