import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from proxy.catalog.pinfile import FORMAT, Owner, PinStore
from proxy.catalog.pinning import Part, Pins, definitions
from proxy.errors import ConfigError
from proxy.model import Listing

OWNER = Owner("mail", "one")


def offering(**tools: str) -> Listing:
    entries = ({"name": name, "description": text, "inputSchema": {"type": "object"}} for name, text in tools.items())
    return Listing(tools=tuple(entries), instructions="Hi")


PINS = Pins.of(offering(read="one")).rejecting({Part("tool", "send"): "0" * 64})
OTHER = Pins.of(offering(read="two"))


@pytest.fixture
def store(tmp_path: Path) -> PinStore:
    return PinStore(tmp_path / "pins")


def test_what_was_decided_comes_back_just_so(store: PinStore) -> None:
    assert store.load(OWNER) is None
    store.save(OWNER, PINS)
    assert store.load(OWNER) == PINS
    assert store.load(Owner("post", "one")) is None


def test_only_the_owner_may_read_it(store: PinStore) -> None:
    store.save(OWNER, PINS)
    with store.deciding():
        modes = {stat.S_IMODE(path.stat().st_mode) for path in store.directory.iterdir()}
    assert modes == {0o600}
    assert stat.S_IMODE(store.directory.stat().st_mode) == 0o700


def test_who_comes_second_changes_nothing(store: PinStore) -> None:
    assert store.first(OWNER, PINS) == ""
    assert store.first(OWNER, OTHER) == ""
    assert store.load(OWNER) == PINS
    assert [path.name for path in store.directory.iterdir()] == [store.path(OWNER).name]


def test_another_configuration_is_compared_with_the_last_pins_of_its_name(store: PinStore) -> None:
    store.save(OWNER, PINS)
    store.save(Owner("mail", "two"), OTHER)
    assert store.load(Owner("mail", "three")) == OTHER
    assert store.load(OWNER) == PINS
    assert store.load(Owner("MAIL", "three")) is None  # another name with the same file names


def test_a_name_whose_last_pins_are_damaged_is_not_trusted_anew(store: PinStore) -> None:
    store.save(OWNER, PINS)
    store.path(OWNER).write_bytes(b"{}")
    found = store.load(Owner("mail", "two"))
    assert found is not None
    assert found.fault


def edited(**changes: Any) -> Callable[[Path], None]:
    def edit(path: Path) -> None:
        path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))

    return edit


def forged(path: Path) -> None:
    content = json.loads(path.read_text())
    content["pins"][0]["definition"]["description"] = "two"
    path.write_text(json.dumps(content))


def linked(path: Path) -> None:
    path.rename(path.with_suffix(".moved"))
    path.symlink_to(path.with_suffix(".moved"))


def huge(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(65 * 1024 * 1024)


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda path: path.write_bytes(b""), "cannot be used"),
        (lambda path: path.write_bytes(b"[" * 100_000), "cannot be used"),
        (lambda path: path.write_bytes(b"\xff"), "cannot be used"),
        (lambda path: path.write_bytes(path.read_bytes()[:-5]), "cannot be used"),
        (lambda path: path.chmod(0o620), "others may write it"),
        (linked, "cannot be used"),
        (huge, "larger than"),
        (edited(format="manifold-pins/9"), f"another format than {FORMAT}"),
        (edited(more=1), "cannot be used"),
        (forged, "changed by hand: the hash of tool 'read' does not fit"),
    ],
)
def test_what_cannot_be_used_is_a_fault_that_says_why(
    store: PinStore, damage: Callable[[Path], None], words: str
) -> None:
    store.save(OWNER, PINS)
    damage(store.path(OWNER))
    found = store.load(OWNER)
    assert found is not None
    assert words in found.fault
    assert found.approved == {}


def test_a_directory_that_cannot_be_used_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "pins").write_text("a file")
    store = PinStore(tmp_path / "pins")
    with pytest.raises(ConfigError, match="state_dir"):
        store.save(OWNER, PINS)
    with pytest.raises(ConfigError), store.deciding():
        pass
    assert store.first(OWNER, PINS)


def test_a_review_comes_back_unless_it_is_damaged(store: PinStore) -> None:
    offered = definitions(offering(read="one"))
    assert store.load_review(OWNER) is None
    store.save_review(OWNER, offered)
    found = store.load_review(OWNER)
    assert found is not None
    assert found[1] == offered
    (path,) = store.directory.glob("*.review.json")
    forged(path)
    assert store.load_review(OWNER) is None
    assert store.load(OWNER) is None  # a review decides nothing
