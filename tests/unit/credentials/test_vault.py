"""Where logins are kept: sealed, for their owner only, and each in its own place."""

import sys
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from proxy.credentials import key
from proxy.credentials.grant import Client, Entry, Grant, Server
from proxy.credentials.vault import Sealed, Slot, Vault
from proxy.errors import Unavailable

SERVER = Server(issuer="https://as.example", token_endpoint="https://as.example/t")  # noqa: S106 - an address
ADA = Slot("up", "https://mcp.example/mcp", "principal ada")
BOB = Slot("up", "https://mcp.example/mcp", "principal bob")
SECRET = "a-token-that-nobody-else-may-see"  # noqa: S105 - made up for these tests


@pytest.fixture(autouse=True)
def _no_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHON_KEYRING_BACKEND", "keyring.backends.null.Keyring")


def entry(token: str = SECRET) -> Entry:
    grant = Grant(access_token=token, refresh_token=f"{token}-2", server=SERVER, client=Client(client_id="c"))
    return Entry(upstream="up", grant=grant)


def file_of(folder: Path, slot: Slot) -> Path:
    return folder / f"{slot.digest}.login"


def test_what_is_kept_comes_back_in_another_process(tmp_path: Path) -> None:
    folder = tmp_path / "made" / "here"
    Vault(folder).save(ADA, entry())
    assert Vault(folder).load(ADA) == entry()
    assert list(Vault(folder).entries()) == [entry()]
    assert Vault(folder).load(BOB) is None
    assert Vault(folder).delete(ADA)
    assert not Vault(folder).delete(ADA)
    assert Vault(folder).stamp(ADA) is None


def test_only_the_owner_can_read_it_and_no_token_stands_there(tmp_path: Path) -> None:
    folder = tmp_path / "credentials"
    Vault(folder).save(ADA, entry())
    files = list(folder.iterdir())
    assert {path.stat().st_mode & 0o777 for path in files} == {0o600}
    assert folder.stat().st_mode & 0o777 == 0o700
    assert not any(SECRET.encode() in path.read_bytes() for path in files)


def test_a_login_of_one_cannot_stand_in_for_that_of_another(tmp_path: Path) -> None:
    vault = Vault(tmp_path)
    vault.save(ADA, entry())
    file_of(tmp_path, BOB).write_bytes(file_of(tmp_path, ADA).read_bytes())
    with pytest.raises(Sealed, match="cannot be opened"):
        vault.load(BOB)


@pytest.mark.parametrize("position", [0, 5, 40, -1])
def test_a_changed_file_is_not_read(tmp_path: Path, position: int) -> None:
    Vault(tmp_path).save(ADA, entry())
    content = bytearray(file_of(tmp_path, ADA).read_bytes())
    content[position] ^= 1
    file_of(tmp_path, ADA).write_bytes(content)
    with pytest.raises(Sealed):
        Vault(tmp_path).load(ADA)


@pytest.mark.parametrize("content", [b"", b"MFV1", b"{}", b"x" * 5000])
def test_a_file_that_is_no_login_is_not_read(tmp_path: Path, content: bytes) -> None:
    Vault(tmp_path).save(ADA, entry())
    file_of(tmp_path, ADA).write_bytes(content)
    with pytest.raises(Sealed):
        Vault(tmp_path).load(ADA)


def test_each_save_is_a_change_that_can_be_seen(tmp_path: Path) -> None:
    vault = Vault(tmp_path)
    stamps = set()
    for number in range(3):
        vault.save(ADA, entry(f"another-token-{number}"))
        stamps.add(vault.stamp(ADA))
    assert len(stamps) == 3


def test_files_that_others_can_read_are_complained_about(tmp_path: Path) -> None:
    folder = tmp_path / "credentials"
    Vault(folder).save(ADA, entry())
    folder.chmod(0o755)
    (folder / key.FILE).chmod(0o644)
    with capture_logs() as said:
        assert Vault(folder).load(ADA) == entry()
    hints = {one["hint"] for one in said if one["event"] == "credentials.open_to_others"}
    assert hints == {f"chmod 700 {folder}", f"chmod 600 {folder / key.FILE}"}
    assert SECRET not in str(said)


def test_a_key_that_is_gone_or_broken_is_explained(tmp_path: Path) -> None:
    Vault(tmp_path).save(ADA, entry())
    (tmp_path / key.FILE).write_text("nonsense")
    with pytest.raises(Unavailable, match="has no key in it"):
        Vault(tmp_path).load(ADA)
    (tmp_path / key.FILE).unlink()
    with pytest.raises(Sealed, match="cannot be opened") as caught:
        Vault(tmp_path).load(ADA)
    assert "Log in again" in caught.value.hint


def test_a_key_in_a_keyring_that_is_not_there_is_explained(tmp_path: Path) -> None:
    (tmp_path / key.MARK).write_text("logins 1")
    with pytest.raises(Unavailable, match="keyring"):
        Vault(tmp_path).save(ADA, entry())


class Keyring:
    """What the package ``keyring`` offers of a system's keyring."""

    priority = 5.0

    def __init__(self, *, locked: bool = False) -> None:
        self.kept: dict[tuple[str, str], str] = {}
        self.locked = locked

    def get_keyring(self) -> "Keyring":
        return self

    def get_password(self, service: str, user: str) -> str | None:
        if self.locked:
            raise RuntimeError
        return self.kept.get((service, user))

    def set_password(self, service: str, user: str, password: str) -> None:
        if self.locked:
            raise RuntimeError
        self.kept[service, user] = password


def test_the_key_is_in_the_systems_keyring_where_there_is_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keyring = Keyring()
    monkeypatch.setitem(sys.modules, "keyring", keyring)
    Vault(tmp_path).save(ADA, entry())
    assert Vault(tmp_path).load(ADA) == entry()
    assert not (tmp_path / key.FILE).exists()
    (kept,) = keyring.kept.values()
    assert not any(kept.encode() in path.read_bytes() for path in tmp_path.iterdir())
    keyring.locked = True
    with pytest.raises(Unavailable, match="keyring") as caught:
        Vault(tmp_path).load(ADA)
    assert "Unlock" in caught.value.hint


def test_a_keyring_that_cannot_be_used_leaves_the_key_to_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "keyring", Keyring(locked=True))
    Vault(tmp_path).save(ADA, entry())
    assert (tmp_path / key.FILE).exists()
    assert Vault(tmp_path).load(ADA) == entry()


def test_a_lock_that_another_one_holds_is_waited_for_only_so_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.credentials.vault.LOCK_PATIENCE", 0.05)
    with Vault(tmp_path).locked(ADA):
        with pytest.raises(Sealed, match="still renewing"), Vault(tmp_path).locked(ADA):
            raise AssertionError
        with Vault(tmp_path).locked(BOB):
            pass
    with Vault(tmp_path).locked(ADA):
        pass
