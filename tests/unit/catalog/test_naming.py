import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.catalog.naming import NamingPolicy, Why, assign, name_all, own_name, sanitise

VALID = re.compile(r"[a-zA-Z_][a-zA-Z0-9_-]*")
CONFUSABLE = st.text(alphabet="ab_.-1A/ ü", max_size=6)
ANY_NAME = st.one_of(CONFUSABLE, st.text(max_size=200), st.from_regex(r"[a-z_]{50,90}", fullmatch=True))
ENTRIES = st.sets(st.tuples(st.one_of(CONFUSABLE, st.text(max_size=30)), ANY_NAME), max_size=25)
PATTERNS = st.sampled_from(
    ["mcp_{server}_{tool}", "{server}-{tool}", "{tool}__{server}", "{server}{tool}", "x.{tool}", "9{tool}", "-{server}"]
)
POLICIES = st.builds(
    NamingPolicy,
    pattern=PATTERNS,
    max_length=st.integers(16, 80),
    chained=st.frozensets(CONFUSABLE, max_size=3),
)
DEFAULT = NamingPolicy()


@given(ENTRIES, POLICIES)
def test_every_public_name_is_valid_short_enough_and_unique(
    entries: set[tuple[str, str]], policy: NamingPolicy
) -> None:
    names = assign(entries, policy)
    assert names.keys() == entries
    assert len(set(names.values())) == len(entries)
    assert all(VALID.fullmatch(name) and len(name) <= policy.max_length for name in names.values())


@given(ENTRIES, st.sampled_from(["{tool}", "mcp_{server}_{tool}"]), st.data())
def test_names_depend_on_the_set_of_entries_and_not_on_their_order(
    entries: set[tuple[str, str]], pattern: str, data: st.DataObject
) -> None:
    policy = NamingPolicy(pattern=pattern)
    shuffled = data.draw(st.permutations(sorted(entries)))
    assert assign(shuffled, policy) == assign(sorted(entries), policy)


@given(ENTRIES, st.sets(CONFUSABLE, max_size=4))
def test_names_stay_unique_when_some_upstreams_pass_names_through(
    entries: set[tuple[str, str]], through: set[str]
) -> None:
    policy = NamingPolicy(patterns=dict.fromkeys(through, "{tool}"))
    names = assign(entries, policy)
    assert len(set(names.values())) == len(entries)


@given(ENTRIES)
def test_a_name_without_rivals_does_not_depend_on_the_others(entries: set[tuple[str, str]]) -> None:
    named = name_all(entries, DEFAULT)
    for key, value in named.items():
        if value.why in {Why.PLAIN, Why.SANITISED}:
            assert assign([key], DEFAULT)[key] == value.public


@pytest.mark.parametrize(
    ("server", "tool", "public"),
    [
        ("files", "read_file", "mcp_files_read_file"),
        ("my server", "read.file", "mcp_my_server_read_file"),
        ("a", "__x__y__", "mcp_a_x_y"),
        ("2fa", "3d", "mcp_x2fa_x3d"),
        ("a", "...", "mcp_a_x"),
        ("a", "größe", "mcp_a_gr_e"),
        ("a-b", "c-d", "mcp_a-b_c-d"),
        ("{tool}", "{server}", "mcp_tool_server"),
    ],
)
def test_parts_are_sanitised(server: str, tool: str, public: str) -> None:
    assert assign([(server, tool)], DEFAULT) == {(server, tool): public}


def test_two_exact_claims_to_one_name_both_get_a_hash_that_never_changes() -> None:
    names = assign([("a", "b_x"), ("a_b", "x")], DEFAULT)
    assert names == {("a", "b_x"): "mcp_a_b_x_yndrhk", ("a_b", "x"): "mcp_a_b_x_ukr7ej"}


def test_the_only_exact_claim_keeps_the_plain_name() -> None:
    names = assign([("s", "web.search"), ("s", "web_search"), ("s", "web search")], DEFAULT)
    assert names["s", "web_search"] == "mcp_s_web_search"
    assert re.fullmatch(r"mcp_s_web_search_[a-z2-7]{6}", names["s", "web.search"])
    assert re.fullmatch(r"mcp_s_web_search_[a-z2-7]{6}", names["s", "web search"])


def test_a_hashed_name_gives_way_to_a_plain_one_that_looks_the_same() -> None:
    rivals = [("a", "b_x"), ("a_b", "x")]
    taken = assign(rivals, DEFAULT)["a", "b_x"]
    imitator = ("a", taken.removeprefix("mcp_a_"))
    names = assign([*rivals, imitator], DEFAULT)
    assert names[imitator] == taken
    assert re.fullmatch(r"mcp_a_b_x_[a-z2-7]{7}", names["a", "b_x"])


def test_a_long_name_keeps_its_head_and_the_tail_that_tells_tools_apart() -> None:
    stem = "list_all_the_things_that_somebody_could_possibly_want_to_have_in_"
    names = assign([("warehouse", stem + "europe"), ("warehouse", stem + "america")], DEFAULT)
    for region in ("europe", "america"):
        public = names["warehouse", stem + region]
        assert len(public) <= 64
        assert re.fullmatch(rf"mcp_warehouse_list_.*_{region}_[a-z2-7]{{6}}", public)


def test_the_length_limit_is_exact() -> None:
    fits, too_long = "x" * (64 - len("mcp_a_")), "x" * (65 - len("mcp_a_"))
    named = name_all([("a", fits), ("a", too_long)], DEFAULT)
    assert named["a", fits].public == "mcp_a_" + fits
    assert named["a", too_long].why is Why.TOO_LONG


@pytest.mark.parametrize("name", ["web.search", "a/b", "9", "x" * 128, "größe", "a b", "__x"])
def test_pass_through_keeps_a_unique_name_verbatim(name: str) -> None:
    assert assign([("only", name)], NamingPolicy(pattern="{tool}")) == {("only", name): name}


def test_pass_through_hashes_what_two_upstreams_share_and_nothing_else() -> None:
    names = assign([("a", "web.search"), ("b", "web.search"), ("b", "web.fetch")], NamingPolicy(pattern="{tool}"))
    assert names["b", "web.fetch"] == "web.fetch"
    assert names["a", "web.search"] != names["b", "web.search"]
    assert all(re.fullmatch(r"web_search_[a-z2-7]{6}", names[key, "web.search"]) for key in "ab")


def test_an_upstream_can_have_a_pattern_of_its_own() -> None:
    policy = NamingPolicy(patterns={"b": "{tool}_at_{server}"})
    assert assign([("a", "x"), ("b", "x")], policy) == {("a", "x"): "mcp_a_x", ("b", "x"): "x_at_b"}


def test_a_chained_manifold_gets_no_second_prefix() -> None:
    policy = NamingPolicy(chained=frozenset({"inner"}))
    named = name_all([("inner", "mcp_files_read"), ("inner", "status"), ("plain", "mcp_x")], policy)
    assert {key: value.public for key, value in named.items()} == {
        ("inner", "mcp_files_read"): "mcp_files_read",
        ("inner", "status"): "mcp_inner_status",
        ("plain", "mcp_x"): "mcp_plain_mcp_x",
    }
    assert named["inner", "mcp_files_read"].why is Why.CHAINED


def test_a_chained_name_that_collides_gets_a_hash_like_any_other() -> None:
    policy = NamingPolicy(chained=frozenset({"inner"}))
    names = assign([("inner", "mcp_files_read"), ("files", "read")], policy)
    assert all(re.fullmatch(r"mcp_files_read_[a-z2-7]{6}", name) for name in names.values())


def test_a_chained_name_without_a_prefix_to_recognise_is_prefixed() -> None:
    policy = NamingPolicy(pattern="{server}_{tool}", chained=frozenset({"inner"}))
    assert assign([("inner", "x")], policy) == {("inner", "x"): "inner_x"}


def test_the_reason_for_a_name_is_known() -> None:
    named = name_all([("a", "b_x"), ("a_b", "x"), ("a", "ok"), ("a", "not ok")], DEFAULT)
    assert {key[1]: value.why for key, value in named.items()} == {
        "b_x": Why.COLLISION,
        "x": Why.COLLISION,
        "ok": Why.PLAIN,
        "not ok": Why.SANITISED,
    }
    assert named["a", "b_x"].plain == "mcp_a_b_x"


def test_a_limit_that_leaves_no_room_for_a_hash_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 16"):
        NamingPolicy(max_length=15)


@given(st.text())
def test_sanitising_twice_changes_nothing_more(text: str) -> None:
    assert sanitise(sanitise(text)) == sanitise(text)
    assert VALID.fullmatch(own_name(text))
