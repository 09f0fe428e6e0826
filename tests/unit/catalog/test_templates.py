import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.catalog.templates import MAX_EXPRESSIONS, MAX_TEMPLATE, MAX_URI, matches


@pytest.mark.parametrize(
    ("template", "uri"),
    [
        ("file:///a", "file:///a"),
        ("file:///{path}", "file:///a.txt"),
        ("file:///{path}", "file:///a%2Fb"),
        ("file:///{path}", "file:///"),
        ("file:///{+path}", "file:///a/b/c"),
        ("db://{table}/{id}", "db://users/7"),
        ("db://{a,b}", "db://1,2"),
        ("{+uri}", "anything://at/all?x#y"),
        ("x:{#frag}", "x:#a/b"),
        ("x:{#frag}", "x:"),
        ("x:y{.ext}", "x:y.txt"),
        ("x:{/a,b}", "x:/1/2"),
        ("x:{/path*}", "x:/1/2/3"),
        ("x:y{;a}", "x:y;a=1"),
        ("x:y{?q,lang}", "x:y?q=1&lang=de"),
        ("x:y{?q,lang}", "x:y"),
        ("x:y?a=1{&b}", "x:y?a=1&b=2"),
        ("x:{name:3}", "x:abc"),
        ("{a}-{b}-{c}", "1-2-3"),
        ("x:{open", "x:{open"),
    ],
)
def test_a_template_matches_what_it_can_expand_to(template: str, uri: str) -> None:
    assert matches(template, uri)


@pytest.mark.parametrize(
    ("template", "uri"),
    [
        ("file:///a", "file:///b"),
        ("file:///{path}", "file:///a/b"),
        ("file:///{path}", "http:///a"),
        ("db://{table}/{id}", "db://users"),
        ("x:y{?q}", "x:y#z"),
        ("x:y{.ext}", "x:y.a/b"),
        ("x:{/a}", "x:/1/2"),
        ("x:{a}.txt", "x:a.txt.bak"),
        ("", "x"),
    ],
)
def test_a_template_does_not_match_anything_else(template: str, uri: str) -> None:
    assert not matches(template, uri)


def test_values_may_hold_slashes_when_a_server_does_not_care() -> None:
    assert matches("file:///{path}", "file:///a/b", strict=False)
    assert not matches("file:///{path}", "file:///a?b", strict=False)


@given(st.lists(st.text(alphabet="abc.-_~0%", max_size=5), min_size=1, max_size=6), st.sampled_from(",;:-|"))
def test_every_expansion_matches(values: list[str], separator: str) -> None:
    template = separator.join("{v}" for _ in values)
    assert matches("x:" + template, "x:" + separator.join(values))


@given(st.text(alphabet="{}+#./;?&*:,ab", max_size=30), st.text(alphabet="ab/?#.;&=", max_size=30))
def test_a_lenient_match_takes_whatever_a_strict_one_takes(template: str, uri: str) -> None:
    assert matches(template, uri, strict=False) >= matches(template, uri)


def test_what_would_take_long_is_not_tried() -> None:
    assert not matches("{+x}", "a" * (MAX_URI + 1))
    assert not matches("a" * (MAX_TEMPLATE + 1), "a")
    assert not matches("{x}" * (MAX_EXPRESSIONS + 1), "a")


def test_many_expressions_do_not_multiply_the_work() -> None:
    assert not matches("{a}-" * MAX_EXPRESSIONS, "-" * MAX_URI + "!", strict=True)
