"""Logins in a program's storage: sealed, each only for what it is, found again by the next program."""

import json
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import anyio.from_thread
import anyio.to_thread
import pytest

from proxy import Manifold
from proxy.credentials.grant import Entry
from proxy.credentials.vault import Sealed, Slot, Vault

SLOT = Slot("web", "https://example.com/mcp")
OTHER = Slot("web", "https://example.com/mcp", "agent a")
ENTRY = Entry(upstream="web", url="https://example.com/mcp", refused="a secret that is planted")


class Own:
    """A storage of the program's own."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str | None, str], dict[str, Any]] = {}

    async def get(self, key: str, *, collection: str | None = None) -> dict[str, Any] | None:
        return self.kept.get((collection, key))

    async def put(
        self, key: str, value: Mapping[str, Any], *, collection: str | None = None, ttl: float | None = None
    ) -> None:
        del ttl
        self.kept[collection, key] = dict(value)

    async def delete(self, key: str, *, collection: str | None = None) -> bool:
        return self.kept.pop((collection, key), None) is not None


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def vault_of(manifold: Manifold) -> Vault:
    vault = manifold.runtime.registry.vault
    assert vault is not None
    return vault


@pytest.fixture(params=["own", "file", "memory"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    return {"own": Own(), "file": tmp_path / "store", "memory": "memory://"}[request.param]


async def test_a_login_is_kept_changed_and_forgotten(storage: Any) -> None:
    async with Manifold(storage=storage) as manifold:
        vault = vault_of(manifold)
        run = anyio.to_thread.run_sync
        assert await run(vault.load, SLOT) is None
        assert vault.stamp(SLOT) is None
        await run(vault.save, SLOT, ENTRY)
        first = vault.stamp(SLOT)
        assert await run(vault.load, SLOT) == ENTRY
        assert vault.stamp(SLOT) == first is not None
        assert await run(vault.load, OTHER) is None
        await run(vault.save, SLOT, Entry(upstream="web"))
        assert vault.stamp(SLOT) != first
        assert await run(vault.delete, SLOT)
        assert not await run(vault.delete, SLOT)
        assert vault.stamp(SLOT) is None


async def test_the_next_program_finds_it_and_nobody_reads_it_there(tmp_path: Path) -> None:
    for storage in (Own(), tmp_path / "store"):
        async with Manifold(storage=storage) as manifold:
            await anyio.to_thread.run_sync(vault_of(manifold).save, SLOT, ENTRY)
        async with Manifold(storage=storage) as manifold:
            assert await anyio.to_thread.run_sync(vault_of(manifold).load, SLOT) == ENTRY
        if isinstance(storage, Own):
            kept = json.dumps(list(storage.kept.values())).encode()
        else:
            kept = b"".join(file.read_bytes() for file in storage.rglob("*") if file.is_file())
        assert b"planted" not in kept
        assert b"example.com" not in kept


async def test_one_login_cannot_stand_in_for_another_and_another_key_opens_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own = Own()
    async with Manifold(storage=own) as manifold:
        vault = vault_of(manifold)
        await anyio.to_thread.run_sync(vault.save, SLOT, ENTRY)
        own.kept["tokens", OTHER.digest] = own.kept["tokens", SLOT.digest]
        with pytest.raises(Sealed):
            await anyio.to_thread.run_sync(vault.load, OTHER)
        own.kept["tokens", OTHER.digest] = {"sealed": "nonsense"}
        with pytest.raises(Sealed):
            await anyio.to_thread.run_sync(vault.load, OTHER)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "elsewhere"))
    async with Manifold(storage=own) as manifold:
        with pytest.raises(Sealed, match="key that is here"):
            await anyio.to_thread.run_sync(vault_of(manifold).load, SLOT)


async def test_a_storage_that_is_away_keeps_no_login_and_says_so() -> None:
    class Away(Own):
        async def put(self, key: str, value: Any, *, collection: str | None = None, ttl: float | None = None) -> None:
            raise OSError(f"away: {key} {value} {collection} {ttl}")

    async with Manifold(storage=Away()) as manifold:
        with pytest.raises(Sealed, match="cannot be kept: OSError"):
            await anyio.to_thread.run_sync(partial(vault_of(manifold).save, SLOT, ENTRY))


async def test_one_thread_renews_at_a_time() -> None:
    async with Manifold(storage="memory://") as manifold:
        vault = vault_of(manifold)
        order: list[str] = []
        inside, go = anyio.Event(), anyio.Event()

        def first() -> None:
            with vault.locked(SLOT):
                anyio.from_thread.run_sync(inside.set)
                anyio.from_thread.run(go.wait)
                order.append("first")

        def second() -> None:
            anyio.from_thread.run_sync(go.set)
            with vault.locked(SLOT):
                order.append("second")

        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(anyio.to_thread.run_sync, first)
                await inside.wait()
                tasks.start_soon(anyio.to_thread.run_sync, second)
        assert order == ["first", "second"]
