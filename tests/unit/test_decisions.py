from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from proxy.catalog.pinfile import Owner, PinStore
from proxy.catalog.pinning import Part, Pins, State, fingerprint
from proxy.catalog.store import Loaded
from proxy.decisions import Decisions
from proxy.errors import AmbiguousName, NotReviewed, UnknownTarget
from proxy.model import Listing

OWNER = Owner("mail", "one")
READ = Part("tool", "read")


def tool(name: str, text: str) -> dict[str, Any]:
    return {"name": name, "description": text, "inputSchema": {"type": "object"}}


def offering(tools: Mapping[str, str], **more: Any) -> Listing:
    return Listing(tools=tuple(tool(name, text) for name, text in tools.items()), **more)


NOTHING = Loaded()
OLD = offering({"read": "one", "send": "one"})
NEW = offering({"read": "two", "list": "one"})


@pytest.fixture
def store(tmp_path: Path) -> PinStore:
    store = PinStore(tmp_path)
    store.save(OWNER, Pins.of(OLD))
    return store


@pytest.fixture
def decisions(store: PinStore) -> Decisions:
    return Decisions(store, OWNER)


def states(decisions: Decisions, listing: Listing) -> dict[str, State]:
    return {one.part.name: one.state for one in decisions.review(listing, keep=False).findings}


def test_a_review_says_how_everything_compares(decisions: Decisions) -> None:
    found = decisions.review(NEW)
    assert {one.part.name: one.state for one in found.findings} == {
        "read": State.CHANGED,
        "list": State.NEW,
        "send": State.GONE,
    }
    assert [one.part.name for one in found.pending] == ["read", "list"]


def test_only_what_is_named_is_approved(decisions: Decisions) -> None:
    decisions.review(NEW)
    assert decisions.approve(["read", "tool:read"], NOTHING) == {READ: fingerprint("tool", tool("read", "two"))}
    assert states(decisions, NEW) == {"read": State.SAME, "list": State.NEW, "send": State.GONE}


def test_everything_is_what_is_new_or_changed_and_not_what_was_rejected_or_is_gone(decisions: Decisions) -> None:
    decisions.review(NEW)
    decisions.reject(["list"])
    assert decisions.approve([], NOTHING, everything=True).keys() == {READ}
    assert states(decisions, NEW) == {"read": State.SAME, "list": State.REJECTED, "send": State.GONE}
    assert decisions.approve(["list"], NOTHING)
    assert states(decisions, NEW)["list"] is State.SAME


def test_what_is_gone_is_forgotten_when_that_is_approved(decisions: Decisions) -> None:
    decisions.review(NEW)
    assert decisions.approve(["send"], NOTHING) == {Part("tool", "send"): ""}
    assert states(decisions, OLD)["send"] is State.NEW


def test_pinning_agrees_to_everything_and_forgets_what_was_decided(decisions: Decisions) -> None:
    decisions.review(NEW)
    decisions.reject(["list"])
    assert decisions.pin(NEW) == 2
    assert states(decisions, NEW) == {"read": State.SAME, "list": State.SAME}


def test_without_a_review_nothing_can_be_decided(decisions: Decisions) -> None:
    with pytest.raises(NotReviewed, match="not reviewed"):
        decisions.approve(["read"], NOTHING)
    with pytest.raises(NotReviewed, match="not reviewed"):
        decisions.reject(["read"])


def test_a_review_that_nobody_has_read_does_not_count(decisions: Decisions) -> None:
    decisions.review(NEW)
    decisions.review(offering({"read": "three"}), keep=False)
    decisions.approve(["read"], NOTHING)
    assert states(decisions, NEW)["read"] is State.SAME


def test_what_is_offered_by_now_makes_no_difference_to_what_is_approved(decisions: Decisions) -> None:
    decisions.review(NEW)
    later = Loaded(offering({"read": "three", "list": "one"}), saved=1e12)
    with pytest.raises(NotReviewed, match="tool read") as error:
        decisions.approve([], later, everything=True)
    assert "Nothing was approved" in error.value.hint
    assert states(decisions, NEW)["list"] is State.NEW
    decisions.approve(["list"], later)
    decisions.approve(["read"], Loaded(later.listing, saved=1.0))  # seen before the review, so the review is newer
    assert states(decisions, NEW) == {"read": State.SAME, "list": State.SAME, "send": State.GONE}


def test_a_hash_means_one_definition_wherever_it_was_seen(decisions: Decisions) -> None:
    digits = fingerprint("tool", tool("read", "three"))
    offered = Loaded(offering({"read": "three"}), saved=1.0)
    decisions.approve([f"read@{digits}"], offered)
    assert states(decisions, offering({"read": "three"}))["read"] is State.SAME
    with pytest.raises(UnknownTarget):
        decisions.approve([f"send@{digits[:12]}"], offered)
    with pytest.raises(NotReviewed):
        decisions.approve(["read@" + "0" * 12], offered)


def test_a_name_may_look_as_if_it_had_a_hash(decisions: Decisions) -> None:
    strange = offering({"read@short": "one"})
    decisions.review(strange)
    decisions.approve(["read@short"], NOTHING)
    assert states(decisions, strange)["read@short"] is State.SAME


def test_a_name_of_several_things_is_told_apart_by_kind(decisions: Decisions) -> None:
    several = offering({"read": "two", "instructions": "one"}, prompts=({"name": "read"},), instructions="Hi")
    decisions.review(several)
    for name in ("read", "instructions"):
        with pytest.raises(AmbiguousName):
            decisions.approve([name], NOTHING)
    chosen = decisions.approve(["prompt:read", "instructions:"], NOTHING)
    assert chosen.keys() == {Part("prompt", "read"), Part("instructions", "")}


def test_an_upstream_that_was_never_seen_can_be_approved_piece_by_piece(tmp_path: Path) -> None:
    decisions = Decisions(PinStore(tmp_path / "pins"), OWNER)
    found = decisions.review(NEW)
    assert found.pins is None
    assert found.pending == ()
    decisions.approve(["read"], NOTHING)
    assert states(decisions, NEW) == {"read": State.SAME, "list": State.NEW}


def test_nothing_is_decided_on_top_of_what_cannot_be_read(store: PinStore, decisions: Decisions) -> None:
    decisions.review(NEW)
    store.path(OWNER).write_text("{")
    with pytest.raises(NotReviewed, match="cannot be used"):
        decisions.approve(["read"], NOTHING)
    with pytest.raises(NotReviewed, match="cannot be used"):
        decisions.reject(["read"])
    decisions.pin(NEW)
    assert states(decisions, NEW)["read"] is State.SAME
