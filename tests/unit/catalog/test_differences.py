from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.catalog.differences import ABSENT, Change, differences, lines
from proxy.catalog.pinning import fingerprint

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | st.text(max_size=4),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from("abc"), inner, max_size=3),
    max_leaves=8,
)
OLD = {
    "name": "read",
    "description": "Reads a file.\nOnly here.",
    "inputSchema": {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]},
}


@given(JSON, JSON)
def test_definitions_differ_if_and_only_if_their_hashes_do(one: Any, other: Any) -> None:
    assert bool(differences(one, other)) == (fingerprint("tool", one) != fingerprint("tool", other))


def test_fields_that_differ_are_named_by_their_path() -> None:
    new = {
        "name": "read",
        "title": "Read",
        "inputSchema": {"type": "object", "properties": {"path": {"type": "array"}, "note": {}}, "required": ["path"]},
    }
    assert differences(OLD, new) == (
        Change("title", ABSENT, "Read"),
        Change("inputSchema.properties.path.type", "string", "array"),
        Change("inputSchema.properties.note", ABSENT, {}),
        Change("description", OLD["description"], ABSENT),
    )


def test_objects_in_lists_are_compared_one_by_one_and_plain_lists_as_a_whole() -> None:
    before = {"arguments": [{"name": "a"}, {"name": "b"}], "enum": ["x", "y"]}
    after = {"arguments": [{"name": "a"}, {"name": "c"}, {"name": "d"}], "enum": ["y", "x"]}
    assert [change.path for change in differences(before, after)] == ["arguments[1].name", "arguments[2]", "enum"]


def test_a_change_of_a_text_shows_only_the_lines_that_differ_as_changed() -> None:
    (change,) = differences(OLD, {**OLD, "description": "Reads a file.\nAnywhere."})
    assert list(lines(change)) == ["description", "  Reads a file.", "- Only here.", "+ Anywhere."]


def test_the_name_of_a_field_cannot_add_a_line() -> None:
    shown = list(lines(Change("a\n+ b", ABSENT, 1)))
    assert shown == ["a\\u{a}+ b", "+ 1"]


@pytest.mark.parametrize("hidden", ["\u200b", "\u202e", "\x1b[2K", "\r", "\u2028", "\U000e0041", "\x85"])
def test_nothing_that_is_shown_is_invisible_or_moves_the_cursor(hidden: str) -> None:
    shown = "\n".join(lines(Change(f"a{hidden}b", ABSENT, f"c{hidden}d\ne")))
    assert shown.count("\\u{") == 2
    assert hidden not in shown
    assert shown.splitlines() == shown.split("\n")


def test_long_values_are_cut_and_say_so() -> None:
    shown = list(lines(Change("a", ABSENT, "x" * 100_000)))
    assert sum(map(len, shown)) < 5000
    assert "100000 characters" in shown[-1]


def test_texts_of_many_lines_are_shown_without_comparing_them_line_by_line() -> None:
    before, after = ("\n".join(f"{letter}{number}" for number in range(900)) for letter in "ab")
    shown = list(lines(Change("a", before, after)))
    assert shown[1] == "- a0"
    assert "+ b0" in shown
