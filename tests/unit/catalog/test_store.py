import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from proxy.catalog.store import ListingStore, Loaded
from proxy.model import Listing

LISTING = Listing(
    tools=({"name": "x", "inputSchema": {"type": "object", "z": 1, "a": 2}},),
    resources=({"uri": "file:///ä", "name": "r"},),
    templates=({"uriTemplate": "file:///{p}", "name": "t"},),
    prompts=({"name": "p"},),
    capabilities={"tools": {}},
    server_info={"name": "s"},
    instructions="read me",
    version="2025-11-25",
    ttl_ms=60_000,
    private=True,
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(st.characters(codec="utf-8")), inner),
    max_leaves=8,
)


@pytest.fixture
def store(tmp_path: Path) -> ListingStore:
    return ListingStore(tmp_path / "state" / "listings")


def saved(store: ListingStore, upstream: str = "up", identity: str = "v1") -> Path:
    assert store.save(upstream, identity, LISTING, at=12.5) == ""
    return store.path(upstream, identity)


def test_a_listing_comes_back_as_it_was(store: ListingStore) -> None:
    saved(store)
    loaded = store.load("up", "v1")
    assert loaded == Loaded(LISTING, 12.5)
    assert loaded.listing is not None
    assert list(loaded.listing.tools[0]["inputSchema"]) == ["type", "z", "a"]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(JSON, max_size=3), st.text(min_size=1, max_size=200), st.text())
def test_any_listing_of_any_upstream_comes_back(
    tmp_path: Path, entries: list[Any], upstream: str, identity: str
) -> None:
    store = ListingStore(tmp_path)
    listing = Listing(tools=tuple(entries))
    assert store.save(upstream, identity, listing, at=0.0) == ""
    assert store.load(upstream, identity).listing == listing
    assert store.path(upstream, identity).parent == tmp_path


def test_nothing_saved_is_nothing_to_report(store: ListingStore) -> None:
    assert store.load("up", "v1") == Loaded()


def test_another_configuration_or_upstream_does_not_get_it(store: ListingStore) -> None:
    saved(store, "up", "v1")
    assert store.load("up", "v2") == Loaded()
    assert store.load("UP", "v1") == Loaded()


def test_a_newer_listing_replaces_the_older_one(store: ListingStore) -> None:
    saved(store)
    assert store.save("up", "v1", Listing(instructions="new"), at=13.0) == ""
    assert store.load("up", "v1") == Loaded(Listing(instructions="new"), 13.0)
    assert len(list(store.path("up", "v1").parent.iterdir())) == 1


def test_files_are_for_their_owner_only(store: ListingStore) -> None:
    path = saved(store)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700


def test_a_directory_that_is_too_open_is_closed(tmp_path: Path) -> None:
    directory = tmp_path / "open"
    directory.mkdir(mode=0o755)
    saved(ListingStore(directory))
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700


def test_a_directory_shared_with_others_is_refused_and_left_alone(tmp_path: Path) -> None:
    directory = tmp_path / "shared"
    directory.mkdir()
    directory.chmod(0o1777)
    assert "shared with others" in ListingStore(directory).save("up", "v1", LISTING, at=0.0)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o1777


def test_the_identity_does_not_stand_in_the_file(store: ListingStore) -> None:
    path = saved(store, "up", "command --token=geheim")
    assert b"geheim" not in path.read_bytes()
    assert "geheim" not in path.name


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b"null", b"[1]", b'{"format": 1}', b"[" * 100_000, b'{"format": "manifold-listing/1"}'],
)
def test_a_corrupt_file_is_ignored_with_a_reason(store: ListingStore, content: bytes) -> None:
    path = saved(store)
    path.write_bytes(content)
    loaded = store.load("up", "v1")
    assert loaded.listing is None
    assert loaded.reason.startswith(path.name)


@pytest.mark.parametrize(
    ("field", "value", "reason"),
    [
        ("format", "manifold-listing/2", "another format"),
        ("identity", "x", "another configuration"),
        ("listing", {"tools": {}}, "cannot be used"),
        ("listing", {"unheard": 1}, "cannot be used"),
    ],
)
def test_a_foreign_file_is_ignored_with_a_reason(store: ListingStore, field: str, value: Any, reason: str) -> None:
    path = saved(store)
    path.write_text(json.dumps({**json.loads(path.read_text()), field: value}))
    loaded = store.load("up", "v1")
    assert loaded.listing is None
    assert reason in loaded.reason


def test_a_link_a_pipe_or_a_directory_in_place_of_a_file_is_ignored_with_a_reason(store: ListingStore) -> None:
    path = saved(store)
    elsewhere = path.rename(path.with_name("elsewhere"))
    path.symlink_to(elsewhere)
    assert store.load("up", "v1").reason
    path.unlink()
    os.mkfifo(path)
    assert "regular file" in store.load("up", "v1").reason
    path.unlink()
    path.mkdir()
    assert store.load("up", "v1").reason


def test_a_save_that_fails_says_why_and_leaves_nothing_behind(tmp_path: Path, store: ListingStore) -> None:
    (tmp_path / "state").write_text("in the way")
    assert "cannot be saved" in store.save("up", "v1", LISTING, at=0.0)
    surrogate = Listing(instructions="\ud800")
    other = ListingStore(tmp_path / "other")
    assert "cannot be saved" in other.save("up", "v1", surrogate, at=0.0)


def test_a_save_that_fails_leaves_the_old_listing_whole(store: ListingStore) -> None:
    path = saved(store)
    path.rename(path.with_name("kept"))
    path.mkdir()
    (path / "in the way").touch()
    assert "cannot be saved" in store.save("up", "v1", LISTING, at=0.0)
    assert {entry.name for entry in path.parent.iterdir()} == {path.name, "kept"}


def test_pruning_removes_what_was_not_used_for_long_and_no_other_files(store: ListingStore) -> None:
    used, gone = saved(store, "up", "v1"), saved(store, "up", "v2")
    other = used.with_name("notes.txt")
    other.touch()
    for path in (used, gone, other):
        os.utime(path, (1000.0, 1000.0))
    assert store.load("up", "v1").listing == LISTING
    assert store.prune(before=2000.0) == (gone.name,)
    assert {entry.name for entry in used.parent.iterdir()} == {used.name, other.name}


def test_pruning_a_store_that_was_never_used_does_nothing(store: ListingStore) -> None:
    assert store.prune(before=2000.0) == ()
