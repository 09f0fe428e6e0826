"""API tokens: what is kept of them, and when they are good."""

import os
import stat
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.config.model import Config
from proxy.errors import ConfigError
from proxy.gateway.identity import INVALID, MISSING, NOBODY, Access, Identity
from proxy.gateway.tokens import FILE, PREFIX, TokenFile
from proxy.model import Principal


class Now:
    """Seconds since the epoch, as the test says."""

    def __init__(self) -> None:
        self.at = 1_000_000.0

    def __call__(self) -> float:
        return self.at


def header(token: str) -> bytes:
    return f"Bearer {token}".encode()


def test_the_file_has_no_token_and_is_for_its_owner_only(tmp_path: Path) -> None:
    folder = tmp_path / "state"
    token, record = TokenFile(folder).create("bob")
    kept = (folder / FILE).read_text()
    assert token.removeprefix(PREFIX + record.id) not in kept
    assert stat.S_IMODE((folder / FILE).stat().st_mode) == 0o600
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert len(token.split("_", 2)[2]) >= 43  # 256 bits


def test_a_token_is_good_for_whom_it_was_made(tmp_path: Path) -> None:
    identity = Identity(Config.model_validate({"agents": {"a": {}}}), tmp_path)
    token, record = TokenFile(tmp_path).create("bob", agents=["a"], scopes=["operator"])
    found = identity.recall(header(token))
    assert isinstance(found, Access)
    assert found.principal == Principal(f"token:{record.id}", ("a",), frozenset({"operator"}), "bob")


def test_a_token_is_bad_from_the_moment_it_is_revoked(tmp_path: Path) -> None:
    file, identity = TokenFile(tmp_path), Identity(Config(), tmp_path)
    token, _ = file.create("bob")
    found = identity.recall(header(token))
    assert isinstance(found, Access)
    file.revoke("bob")
    assert identity.recall(header(token)) is INVALID
    assert not identity.stands(found.principal.id)


def test_a_token_is_bad_from_the_moment_it_expires(tmp_path: Path) -> None:
    now = Now()
    identity = Identity(Config(), tmp_path, now)
    token, _ = TokenFile(tmp_path, now).create("bob", lifetime=10)
    now.at += 9.9
    assert isinstance(identity.recall(header(token)), Access)
    now.at += 0.2
    assert identity.recall(header(token)) is INVALID


def test_the_first_token_makes_a_running_manifold_ask_and_it_never_stops(tmp_path: Path) -> None:
    now = Now()
    identity = Identity(Config(), tmp_path, now)
    assert isinstance(identity.recall(None), Access)
    file = TokenFile(tmp_path)
    file.create("bob")
    now.at += 0.2
    assert identity.recall(None) is MISSING
    file.revoke("bob")
    assert identity.recall(None) is MISSING
    file.path.unlink()
    assert identity.recall(None) is MISSING


def test_the_first_token_is_good_at_once_also_right_after_a_look_that_found_none(tmp_path: Path) -> None:
    identity = Identity(Config.model_validate({"agents": {"a": {}}}), tmp_path, Now())
    assert identity.recall(header("none")) is NOBODY
    token, record = TokenFile(tmp_path).create("bob", agents=["a"])
    found = identity.recall(header(token))
    assert isinstance(found, Access)
    assert found.principal.id == f"token:{record.id}"
    assert identity.recall(None) is MISSING


def test_a_file_that_cannot_be_read_lets_nobody_in(tmp_path: Path) -> None:
    token, _ = TokenFile(tmp_path).create("bob")
    identity = Identity(Config(), tmp_path)
    (tmp_path / FILE).write_text("{")
    assert identity.recall(None) is MISSING
    assert identity.recall(header(token)) is INVALID
    with pytest.raises(ConfigError, match="cannot be read"):
        TokenFile(tmp_path).create("eve")


@pytest.mark.skipif(os.name != "posix", reason="modes are POSIX's")
def test_a_file_that_others_may_write_lets_nobody_in(tmp_path: Path) -> None:
    token, _ = TokenFile(tmp_path).create("bob")
    (tmp_path / FILE).chmod(0o666)
    assert Identity(Config(), tmp_path).recall(header(token)) is INVALID


def test_two_good_tokens_of_one_name_do_not_exist(tmp_path: Path) -> None:
    file = TokenFile(tmp_path)
    file.create("bob")
    with pytest.raises(ConfigError, match="already"):
        file.create("bob")
    file.revoke("bob")
    file.create("bob")
    with pytest.raises(ConfigError, match="no token 'eve'"):
        file.revoke("eve")


def test_a_token_of_an_agent_that_is_gone_is_refused(tmp_path: Path) -> None:
    token, _ = TokenFile(tmp_path).create("bob", agents=["gone"])
    found = Identity(Config(), tmp_path).recall(header(token))
    assert getattr(found, "status", None) == 403


@given(noise=st.binary(max_size=80))
def test_nothing_but_the_token_is_the_token(tmp_path_factory: pytest.TempPathFactory, noise: bytes) -> None:
    folder = tmp_path_factory.mktemp("tokens")
    token, record = TokenFile(folder).create("bob")
    identity = Identity(Config(), folder)
    for made in (noise, b"Bearer " + noise, f"Bearer {PREFIX}{record.id}_".encode() + noise, header(token) + noise):
        found = identity.recall(made)
        assert not isinstance(found, Access) or made.strip() == header(token)
