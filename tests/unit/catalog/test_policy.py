import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.catalog.policy import CatalogPolicy, Gate
from proxy.config.model import Config
from proxy.model import Kind


@given(st.text())
def test_a_gate_without_globs_of_its_own_lets_everything_pass(name: str) -> None:
    assert Gate().admits(name)
    assert Gate().admits_uri(name)
    assert Gate().open


@given(st.text(), st.text())
def test_an_empty_allow_list_lets_nothing_pass(name: str, other: str) -> None:
    assert not Gate(allow=()).admits(name, other)


def test_one_allowed_spelling_is_enough_and_one_denied_is_too_much() -> None:
    gate = Gate(allow=["read_*", "files.*"], deny=["*secret*"])
    assert gate.admits("list", "files.list")
    assert not gate.admits("list", "web.list")
    assert not gate.admits("read_it", "files.read_secret")


def test_globs_tell_capitals_apart_and_match_whole_names() -> None:
    gate = Gate(allow=["read", "get_[ab]?"])
    assert gate.admits("read")
    assert gate.admits("get_a1")
    assert not gate.admits("READ")
    assert not gate.admits("read_file")
    assert not gate.admits("get_c1")


@pytest.mark.parametrize(
    "uri",
    [
        "file:///docs/../etc/passwd",
        "file:///docs/%2e%2e/etc/passwd",
        "file:///docs/..%2Fetc",
        "file:///docs/..\\etc",
        "file:///docs/a%2Esecret",
        "file:///docs/.secret",
        "http:///docs/x",
    ],
)
def test_a_uri_cannot_be_written_around_a_filter(uri: str) -> None:
    assert not Gate(allow=["file:///docs/*"], deny=["*.secret"]).admits_uri(uri)


@pytest.mark.parametrize(
    "uri",
    [
        "FILE:///etc/passwd",
        "file:///%65tc/passwd",
        "file:///./etc/passwd",
        "file:////etc/passwd",
        "file:///etc//passwd",
        "file:///etc/./passwd",
        "file:///%2e/etc/passwd",
        "file:///.\\etc\\passwd",
        "file://localhost/etc/passwd",
        "file://LOCALHOST/etc/passwd",
    ],
)
def test_another_spelling_of_a_denied_uri_is_denied(uri: str) -> None:
    assert not Gate(deny=["file:///etc/*"]).admits_uri(uri)


@pytest.mark.parametrize("end", ["#x", "?x", "?", "/", "/.", "%3Fx", "%23x"])
def test_a_denied_uri_is_denied_with_something_behind_it(end: str) -> None:
    assert not Gate(deny=["file:///key"]).admits_uri(f"file:///key{end}")
    assert Gate(deny=["file:///key"]).admits_uri(f"file:///keys{end}")


def test_an_allowed_uri_passes() -> None:
    assert Gate(allow=["http://a/b?c=*"]).admits_uri("http://a/b?c=1#d")
    assert Gate(allow=["mem:*"]).admits_uri("mem:a/./b")
    assert Gate(allow=["file:///docs/*"]).admits_uri("file:///docs/a..b%20c")


def test_the_policy_follows_the_configuration() -> None:
    config = Config.model_validate(
        {
            "naming": {"pattern": "{server}__{tool}", "max_length": 40},
            "upstreams": {
                "b": {"command": "x", "tools": {"deny": ["rm"]}, "resources": ["file:*"]},
                "off": {"command": "x", "enabled": False},
                "a": {"url": "http://localhost/mcp", "naming": "{tool}"},
            },
        }
    )
    policy = CatalogPolicy.of(config, chained=["a"])
    assert policy.order == ("b", "a")
    assert (policy.naming.pattern, policy.naming.max_length) == ("{server}__{tool}", 40)
    assert policy.naming.passes_through("a")
    assert policy.naming.chained == {"a"}
    assert not policy.gate("b", Kind.TOOL).admits("rm")
    assert policy.gate("b", Kind.PROMPT).admits("rm")
    assert not policy.gate("b", Kind.TEMPLATE).admits("http://x/{y}")
    assert policy.gate("unheard of", Kind.TOOL).open


def test_upstreams_outside_the_configuration_come_last_by_name() -> None:
    assert CatalogPolicy(order=("z", "m")).ordered(["b", "m", "a", "z"]) == ("z", "m", "a", "b")
