"""The storages: one behaviour, three places."""

import gc
import shutil
import socket
import subprocess
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest
from anyio.lowlevel import checkpoint
from fakeredis import TcpFakeServer

from proxy.errors import ConfigError
from proxy.model import Listing
from proxy.store.figures import Recorder
from proxy.store.storage import Shelf, Storage, StoredListings, kept_figures, opened

LISTING = Listing(tools=({"name": "find", "inputSchema": {"type": "object"}},), version="2025-11-25")


@pytest.fixture(scope="session")
def redis_url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A Redis server on a free port, for this run only: the real one if there is one here, otherwise one in Python."""
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    serving = _in_python() if program is None else _real(program, tmp_path_factory.mktemp("redis"))
    with serving as port:
        yield f"redis://127.0.0.1:{port}/0"


@contextmanager
def _real(program: str, folder: Path) -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "Ready to accept connections" in line:
                break
        yield port
        process.terminate()
        process.stdout.read()
        process.wait(20)


@contextmanager
def _in_python() -> Iterator[int]:
    with TcpFakeServer(("127.0.0.1", 0)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server.server_address[1]
        server.shutdown()
        thread.join(20)


@pytest.fixture(params=["memory", "file", "redis"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> str | Path:
    if request.param == "redis":
        return str(request.getfixturevalue("redis_url"))
    return "memory://" if request.param == "memory" else tmp_path / "store"


async def test_what_is_put_is_found_until_it_is_deleted(place: str | Path) -> None:
    async with opened(place) as storage:
        assert await storage.get("key", collection="tokens") is None
        await storage.put("key", {"a": [1, {"b": None}]}, collection="tokens")
        assert await storage.get("key", collection="tokens") == {"a": [1, {"b": None}]}
        assert await storage.delete("key", collection="tokens")
        assert not await storage.delete("key", collection="tokens")
        assert await storage.get("key", collection="tokens") is None


async def test_collections_do_not_mix_whatever_the_keys(place: str | Path) -> None:
    keys = ["a", "a/b", "../a", "a b", "ä", "A", "a" * 300]
    async with opened(place) as storage:
        shelves = [Shelf(storage, name) for name in ("agent-a", "agent-a-b", "store")]
        for shelf in shelves:
            for key in keys:
                await shelf.put(key, {"at": [id(shelf), key]})
        for shelf in shelves:
            assert [await shelf.get(key) for key in keys] == [{"at": [id(shelf), key]} for key in keys]
        assert await shelves[0].delete("a")
        assert await shelves[1].get("a") is not None


@pytest.mark.filterwarnings("ignore:Call to deprecated setex")  # py-key-value 0.4 with redis 8
async def test_a_time_to_live_is_kept(place: str | Path) -> None:
    async with opened(place) as storage:
        await storage.put("key", {"a": 1}, collection="tokens", ttl=0.01)
        with anyio.fail_after(10):
            while await storage.get("key", collection="tokens") is not None:
                await checkpoint()


async def test_listings_come_back_for_the_configuration_under_which_they_were_kept(place: str | Path) -> None:
    async with opened(place) as storage:
        keeper = StoredListings(storage)

        async def load(name: str, identity: str) -> Listing | None:
            return (await anyio.to_thread.run_sync(keeper.load, name, identity)).listing

        def save() -> str:
            return keeper.save("web", "here", LISTING, at=1.0)

        assert await load("web", "here") is None
        assert await anyio.to_thread.run_sync(save) == ""
        assert await load("web", "here") == LISTING
        assert await load("web", "there") is None


@pytest.mark.parametrize("place", ["file", "redis"], indirect=True)
async def test_what_was_put_survives_a_restart(place: str | Path) -> None:
    async with opened(place) as storage:
        await storage.put("kept", {"a": 1}, collection="tokens")
    async with opened(place) as storage:
        assert await storage.get("kept", collection="tokens") == {"a": 1}


class Own:
    """A storage of a program's own."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str | None, str], Any] = {}

    async def get(self, key: str, *, collection: str | None = None) -> dict[str, Any] | None:
        return self.kept.get((collection, key))

    async def put(self, key: str, value: Any, *, collection: str | None = None, ttl: float | None = None) -> None:
        del ttl
        self.kept[collection, key] = dict(value)

    async def delete(self, key: str, *, collection: str | None = None) -> bool:
        return self.kept.pop((collection, key), None) is not None


async def test_a_storage_of_ones_own_is_taken_as_it_is_and_not_closed() -> None:
    own: Storage = Own()
    async with opened(own) as storage:
        assert storage is own


class Failing:
    """A storage that is away."""

    async def get(self, key: str, *, collection: str | None = None) -> dict[str, Any] | None:
        raise OSError(f"away: {collection}/{key}")

    async def put(self, key: str, value: Any, *, collection: str | None = None, ttl: float | None = None) -> None:
        raise OSError(f"away: {collection}/{key} {value} {ttl}")

    async def delete(self, key: str, *, collection: str | None = None) -> bool:
        raise OSError(f"away: {collection}/{key}")


async def test_a_storage_that_fails_costs_no_start() -> None:
    keeper = StoredListings(Failing())
    loaded = await anyio.to_thread.run_sync(keeper.load, "web", "here")
    assert loaded.listing is None
    assert "away" in loaded.reason
    async with kept_figures(Recorder(), Failing()):
        pass


async def _cancelled_after(moments: int, storage: Storage, key: str) -> None:
    async def at_work() -> None:
        await storage.put(key, {"a": 1}, collection="agent-a")
        await storage.get(key, collection="agent-a")

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(at_work)
        for _ in range(moments):
            await checkpoint()
        tasks.cancel_scope.cancel()


async def test_whoever_is_cancelled_while_files_are_written_leaves_none_open(tmp_path: Path) -> None:
    async with opened(tmp_path / "store") as storage:
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always", ResourceWarning)
            for moments in range(120):
                await _cancelled_after(moments, storage, f"key-{moments}")
            gc.collect()
        assert [str(warning.message) for warning in warned] == []
        assert list((tmp_path / "store").rglob("*.tmp")) == []


async def test_a_disk_that_hangs_holds_nobody_who_is_cancelled_for_long(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("proxy.store.storage._PATIENCE", 0.05)
    threads = anyio.to_thread.current_default_thread_limiter()
    async with opened(tmp_path) as storage:
        await storage.put("key", {"a": 1}, collection="agent-a")
        busy = [object() for _ in range(int(threads.total_tokens))]
        for one in busy:
            threads.acquire_on_behalf_of_nowait(one)  # as if each thread waited for the disk
        with anyio.fail_after(10), anyio.CancelScope() as scope:
            scope.cancel()
            await storage.get("key", collection="agent-a")
        assert scope.cancelled_caught
        for one in busy:
            threads.release_on_behalf_of(one)
        assert await storage.get("key", collection="agent-a") == {"a": 1}


class Slow(Own):
    """A storage that takes its time to put something; says when it has begun."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = anyio.Event()

    async def put(self, key: str, value: Any, *, collection: str | None = None, ttl: float | None = None) -> None:
        self.begun.set()
        for _ in range(100):
            await checkpoint()
        await super().put(key, value, collection=collection, ttl=ttl)


async def test_what_is_being_put_when_the_end_comes_is_not_lost() -> None:
    storage = Slow()
    keeper = StoredListings(storage)
    said: list[str] = []

    async def save() -> None:
        said.append(await anyio.to_thread.run_sync(lambda: keeper.save("web", "here", LISTING, at=1.0)))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(save)
        await storage.begun.wait()
        tasks.cancel_scope.cancel()
    assert said == [""]
    assert len(storage.kept) == 1


@pytest.mark.parametrize("wrong", ["mongo://here", "redis+x://here"])
async def test_an_unknown_kind_of_storage_is_refused_with_the_known_ones(wrong: str) -> None:
    with pytest.raises(ConfigError, match="redis://host:port/number"):
        async with opened(wrong):
            pass


async def test_a_directory_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="file"):
        async with opened(tmp_path / "file" / "store"):
            pass
