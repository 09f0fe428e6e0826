import copy
import string
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from proxy.catalog.merge import merge
from proxy.catalog.pinning import (
    CLOSED,
    INSTRUCTIONS,
    OPEN,
    Part,
    Pins,
    Seal,
    State,
    compare,
    define,
    definitions,
    fingerprint,
    seal,
)
from proxy.catalog.policy import CatalogPolicy
from proxy.config.model import Config, PinMode
from proxy.model import Kind, Listing

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(st.text(max_size=6), JSON, max_size=5)
KINDS = st.sampled_from([*(kind.value for kind in Kind), INSTRUCTIONS])
NAMES = st.sampled_from(["read", "write", "send"])
TOOLS = st.dictionaries(NAMES, st.sampled_from(["one", "two", "three"]), max_size=3)


def turned(value: Any) -> Any:
    """The same value with the keys of all objects the other way round."""
    if isinstance(value, dict):
        return {key: turned(each) for key, each in reversed(value.items())}
    return [turned(each) for each in value] if isinstance(value, list) else value


def same(one: Any, other: Any) -> bool:
    """Whether two JSON values mean the same; 1, 1.0 and true do not."""
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return repr(one) == repr(other)  # 0.0 and -0.0 are written apart


def offering(tools: dict[str, str], **more: Any) -> Listing:
    entries = ({"name": name, "description": text, "inputSchema": {"type": "object"}} for name, text in tools.items())
    return Listing(tools=tuple(entries), **more)


@given(KINDS, JSON)
def test_the_order_of_keys_does_not_matter(kind: str, content: Any) -> None:
    assert fingerprint(kind, turned(content)) == fingerprint(kind, content)


@given(JSON, JSON)
def test_two_definitions_of_different_meaning_have_different_hashes(one: Any, other: Any) -> None:
    assert (fingerprint("tool", one) == fingerprint("tool", other)) == same(one, other)


@given(OBJECTS, st.data())
def test_any_change_deep_inside_changes_the_hash(content: dict[str, Any], data: st.DataObject) -> None:
    changed = copy.deepcopy(content)
    place: Any = changed
    while isinstance(place, dict) and place and isinstance(inner := place[data.draw(st.sampled_from([*place]))], dict):
        place = inner
    key = data.draw(st.text(max_size=6))
    before = place.get(key)
    place[key] = data.draw(JSON)
    assume(not same(before, place[key]) or before is None)
    assume(not same(changed, content))
    assert fingerprint("tool", changed) != fingerprint("tool", content)


@given(OBJECTS)
def test_the_same_text_of_another_kind_has_another_hash(content: dict[str, Any]) -> None:
    assert len({fingerprint(kind, content) for kind in ("tool", "prompt", INSTRUCTIONS)}) == 3


@pytest.mark.parametrize("kind", ["resource", "template"])
def test_what_tells_of_a_resources_content_of_the_moment_does_not_count(kind: str) -> None:
    early = {"uri": "a", "size": 1, "annotations": {"lastModified": "1", "priority": 1}}
    late = {"uri": "a", "size": 2, "annotations": {"lastModified": "2", "priority": 1}}
    assert fingerprint(kind, early) == fingerprint(kind, late)
    assert fingerprint(kind, early) != fingerprint(kind, {**early, "annotations": {"priority": 2}})
    assert fingerprint("tool", early) != fingerprint("tool", late)


def test_a_null_where_a_field_may_be_left_out_means_the_same_as_none() -> None:
    bare = {"name": "a", "inputSchema": {"type": "object"}}
    assert definitions(Listing(tools=(bare,))) == definitions(Listing(tools=({**bare, "title": None},)))


def test_everything_that_a_listing_tells_can_be_pinned() -> None:
    listing = Listing(
        tools=({"name": "t", "inputSchema": {}},),
        prompts=({"name": "p"},),
        resources=({"uri": "r", "name": "r"},),
        templates=({"uriTemplate": "x", "name": "x"},),
        instructions="i",
    )
    assert [str(part) for part in definitions(listing)] == [
        *("tool t", "prompt p", "resource r", "template x", "instructions")
    ]


@given(TOOLS, TOOLS)
def test_a_fresh_listing_compares_with_the_pinned_one(pinned: dict[str, str], offered: dict[str, str]) -> None:
    found = compare(Pins.of(offering(pinned)), definitions(offering(offered)))
    states = {one.part.name: one.state for one in found}
    for name in {*pinned, *offered}:
        before, after = pinned.get(name), offered.get(name)
        expected = State.NEW if before is None else State.GONE if after is None else State.CHANGED
        assert states[name] is (State.SAME if before == after else expected)


@given(TOOLS, TOOLS)
def test_under_hold_just_what_was_agreed_to_is_served(pinned: dict[str, str], offered: dict[str, str]) -> None:
    held = seal(PinMode.HOLD, Pins.of(offering(pinned)))
    catalog = merge({"a": offering(offered)}, CatalogPolicy(seals={"a": held}))
    same_ones = {name for name in offered if pinned.get(name) == offered[name]}
    assert {entry.route.name for entry in catalog.of(Kind.TOOL)} == same_ones
    assert {name for _, name in catalog.withheld[Kind.TOOL]} == offered.keys() - same_ones


@given(TOOLS, TOOLS, st.lists(NAMES))
def test_what_is_approved_is_served_and_what_is_rejected_is_not(
    pinned: dict[str, str], offered: dict[str, str], names: list[str]
) -> None:
    pins, fresh = Pins.of(offering(pinned)), definitions(offering(offered))
    chosen = {part: one for part, one in fresh.items() if part.name in names}
    states = {one.part: one.state for one in compare(pins.approving(chosen), fresh)}
    assert all(states[part] is State.SAME for part in chosen)
    refused = pins.rejecting({part: one.hash for part, one in chosen.items()})
    for mode in (PinMode.WARN, PinMode.HOLD):
        guard = seal(mode, refused)
        assert not any(guard.admits(Kind.TOOL, part.name, one.content) for part, one in chosen.items())
    back = refused.approving(chosen)
    assert all(seal(PinMode.HOLD, back).admits(Kind.TOOL, part.name, one.content) for part, one in chosen.items())


def test_what_is_forgotten_is_new_when_it_comes_back() -> None:
    listing = offering({"read": "one"})
    pins = Pins.of(listing).without([Part("tool", "read")])
    assert [one.state for one in compare(pins, definitions(listing))] == [State.NEW]


@pytest.mark.parametrize(
    ("mode", "pins", "expected"),
    [
        (PinMode.OFF, Pins(fault="broken"), OPEN),
        (PinMode.WARN, None, OPEN),
        (PinMode.WARN, Pins(fault="broken"), OPEN),
        (PinMode.HOLD, None, CLOSED),
        (PinMode.HOLD, Pins(fault="broken"), CLOSED),
        (PinMode.HOLD, Pins(), Seal({})),
    ],
)
def test_under_hold_nothing_is_served_while_nobody_knows_what_was_agreed_to(
    mode: PinMode, pins: Pins | None, expected: Seal
) -> None:
    assert seal(mode, pins) == expected


def test_a_policy_that_knows_no_pins_serves_nothing_of_an_upstream_on_hold() -> None:
    config = Config.model_validate({"upstreams": {"a": {"command": "x", "pin": "hold"}, "b": {"command": "x"}}})
    listing = offering({"read": "one"}, instructions="Hello")
    policy = CatalogPolicy.of(config)
    catalog = merge({"a": listing, "b": listing}, policy)
    assert [entry.route.upstream for entry in catalog.of(Kind.TOOL)] == ["b"]
    assert policy.seal("a").told("Hello") is None
    assert policy.seal("b").told("Hello") == "Hello"


def test_instructions_that_were_agreed_to_are_told_instead_of_changed_ones() -> None:
    guard = seal(PinMode.HOLD, Pins({Part(INSTRUCTIONS, ""): define(INSTRUCTIONS, "old")}))
    assert [guard.told(text) for text in ("old", "new", None, "")] == ["old", "old", None, ""]


@given(st.text(string.ascii_letters + "_.", min_size=1, max_size=5), st.integers(1, 3))
def test_of_several_entries_of_one_name_only_the_first_counts(name: str, more: int) -> None:
    first, other = ({"name": name, "description": text, "inputSchema": {"type": "object"}} for text in "ab")
    pins = Pins.of(Listing(tools=(other,)))
    listing = Listing(tools=(first, *[other] * more))
    assert merge({"a": listing}, CatalogPolicy(seals={"a": seal(PinMode.HOLD, pins)})).of(Kind.TOOL) == ()


def test_what_is_held_back_changes_nobodys_name() -> None:
    calm = {"a": offering({"b_x": "one"}), "a_b": offering({"y": "one"})}
    grabbing = {**calm, "a_b": offering({"y": "one", "x": "one"})}
    held = CatalogPolicy(seals={"a_b": seal(PinMode.HOLD, Pins.of(calm["a_b"]))})
    before, after = merge(calm, held), merge(grabbing, held)
    assert before.names(Kind.TOOL) == after.names(Kind.TOOL)
