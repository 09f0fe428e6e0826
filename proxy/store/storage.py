"""Where a program's Manifold keeps things: one small protocol, which every py-key-value store fulfils."""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import (
    AbstractAsyncContextManager,
    AbstractContextManager,
    asynccontextmanager,
    contextmanager,
    nullcontext,
)
from hashlib import sha256
from pathlib import Path
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

import anyio
import anyio.from_thread
import structlog
from key_value.aio.stores.filetree import (
    FileTreeStore,
    FileTreeV1CollectionSanitizationStrategy,
    FileTreeV1KeySanitizationStrategy,
)
from key_value.aio.stores.memory import MemoryStore

from proxy.catalog.pinfile import Owner
from proxy.catalog.pinfile import packed as packed_pins
from proxy.catalog.pinfile import unpacked as unpacked_pins
from proxy.catalog.pinning import Pins
from proxy.catalog.store import Loaded, packed, unpacked
from proxy.errors import ConfigError, Problem
from proxy.model import Listing
from proxy.store.figures import Recorder

log = structlog.get_logger(__name__)

LISTINGS: Final = "listings"
METRICS: Final = "metrics"
PINS: Final = "pins"
TOKENS: Final = "tokens"
"""The collections in which Manifold itself keeps things; agents have ``agent-NAME``."""

_SNAPSHOT: Final = "snapshot"
_PATIENCE: Final = 5.0
"""Seconds for the last words to a storage."""
_FORMS: Final = "use memory://, a directory or file:///directory, or redis://host:port/number"


class Storage(Protocol):
    """Keeps JSON objects by key, in collections."""

    async def get(self, key: str, *, collection: str | None = None) -> dict[str, Any] | None:
        """What is kept under a key; None if nothing is."""
        ...

    async def put(
        self, key: str, value: Mapping[str, Any], *, collection: str | None = None, ttl: float | None = None
    ) -> None:
        """Keep something, for so many seconds or for good."""
        ...

    async def delete(self, key: str, *, collection: str | None = None) -> bool:
        """Forget something; returns whether it was there."""
        ...


class Shelf:
    """One collection of a storage: what is kept here, nobody sees who has another shelf."""

    def __init__(self, storage: Storage, collection: str) -> None:
        self._storage = storage
        self._collection = collection

    async def get(self, key: str) -> dict[str, Any] | None:
        """What is kept under a key; None if nothing is."""
        return await self._storage.get(key, collection=self._collection)

    async def put(self, key: str, value: Mapping[str, Any], *, ttl: float | None = None) -> None:
        """Keep a JSON object, for so many seconds or for good."""
        await self._storage.put(key, value, collection=self._collection, ttl=ttl)

    async def delete(self, key: str) -> bool:
        """Forget something; returns whether it was there."""
        return await self._storage.delete(key, collection=self._collection)


@asynccontextmanager
async def opened(where: "str | Path | Storage | None") -> AsyncIterator[Storage]:
    """Open a storage for as long as the block runs. One that is given as an object is not closed.

    Args:
        where: ``memory://`` (also None), a directory, ``file:///directory``, ``redis://...`` (or ``rediss``; needs the
            extra ``mcp-manifold[redis]``), or any storage.

    Raises:
        ConfigError: there is no such kind of storage, or what it needs is not installed.
    """
    if where is not None and not isinstance(where, str | Path):
        yield where
        return
    store = _store(where or "memory://")
    if isinstance(store, AbstractAsyncContextManager):
        async with store:
            yield store
    else:
        yield store


async def keep(storage: Storage, key: str, value: Mapping[str, Any], *, collection: str) -> None:
    """Keep something even if whoever asks is being cancelled: it would be lost. Raises TimeoutError after 5 s."""
    with anyio.CancelScope(shield=True), anyio.fail_after(_PATIENCE):
        await storage.put(key, value, collection=collection)


def _store(where: str | Path) -> Storage:
    url = urlsplit(str(where))
    if isinstance(where, Path) or not url.scheme:
        return _Files(Path(where))
    if url.scheme == "memory":
        return MemoryStore()
    if url.scheme == "file":
        return _Files(Path(url.path))
    if url.scheme in ("redis", "rediss"):
        return _redis(str(where))
    raise ConfigError([Problem("storage", f"there is no kind of storage {url.scheme!r}", _FORMS)])


@contextmanager
def _unbroken() -> Iterator[None]:
    """A cancellation waits for what is done here, but no longer than 5 s: a disk may hang."""
    with anyio.CancelScope(shield=True) as scope:
        timer = asyncio.get_running_loop().call_later(_PATIENCE, setattr, scope, "shield", False)
        try:
            yield
        finally:
            timer.cancel()


class _Files:
    """A directory as a storage.

    Whatever was begun here ends: a cancellation in the middle would leave a file open (aiofile opens and closes files
    in threads, and forgets those for which nobody waits any more).
    """

    def __init__(self, directory: Path) -> None:
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)  # tokens may be in it
        except OSError as error:
            raise ConfigError([Problem("storage", f"{directory}: {error.strerror}", _FORMS)]) from None
        self._store = FileTreeStore(
            data_directory=directory,
            key_sanitization_strategy=FileTreeV1KeySanitizationStrategy(directory),
            collection_sanitization_strategy=FileTreeV1CollectionSanitizationStrategy(directory),
        )

    async def get(self, key: str, *, collection: str | None = None) -> dict[str, Any] | None:
        with _unbroken():
            found: dict[str, Any] | None = await self._store.get(key, collection=collection)
        return found

    async def put(
        self, key: str, value: Mapping[str, Any], *, collection: str | None = None, ttl: float | None = None
    ) -> None:
        with _unbroken():
            await self._store.put(key, value, collection=collection, ttl=ttl)

    async def delete(self, key: str, *, collection: str | None = None) -> bool:
        with _unbroken():
            there: bool = await self._store.delete(key, collection=collection)
        return there


def _redis(url: str) -> Storage:
    try:
        from key_value.aio.stores.redis import RedisStore  # noqa: PLC0415 - an optional extra
    except ImportError:
        hint = "install mcp-manifold[redis]"
        raise ConfigError([Problem("storage", "the client library for Redis is not installed", hint)]) from None
    return RedisStore(url=url)


@asynccontextmanager
async def kept_figures(recorder: Recorder, storage: Storage) -> AsyncIterator[None]:
    """Figures go on where they ended in an earlier life, and are kept for the next one, if the storage works."""
    try:
        recorder.restore(await storage.get(_SNAPSHOT, collection=METRICS))
    except Exception as error:  # noqa: BLE001 - a storage may fail in any way, and figures are not worth a start
        log.warning("metrics.not_restored", reason=f"{type(error).__name__}: {error}")
    try:
        yield
    finally:
        await _keep(recorder, storage)


async def _keep(recorder: Recorder, storage: Storage) -> None:
    try:
        await keep(storage, _SNAPSHOT, recorder.snapshot(), collection=METRICS)
    except Exception as error:  # noqa: BLE001 - same
        log.warning("metrics.not_kept", reason=_reason(error))


def _reason(error: Exception) -> str:
    late = isinstance(error, TimeoutError) and not str(error)
    return f"it took longer than {_PATIENCE:g} s" if late else f"{type(error).__name__}: {error}"


class StoredListings:
    """Keeps last-known listings in a storage (``catalog.store.ListingKeeper``): called in a worker thread of anyio."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def load(self, upstream: str, identity: str) -> Loaded:
        """The last-known listing of an upstream, if it was saved under the same identity."""
        try:
            kept = anyio.from_thread.run(self._get, _key(upstream, identity))
            return Loaded() if kept is None else unpacked(str(kept["listing"]).encode(), upstream, identity)
        except Exception as error:  # noqa: BLE001 - a storage may fail in any way, and a start does not depend on it
            return Loaded(reason=f"the storage has no usable listing: {type(error).__name__}: {error}")

    def save(self, upstream: str, identity: str, listing: Listing, *, at: float) -> str:
        """Save a listing; returns why it could not be saved, empty if it was."""
        try:
            text = packed(upstream, identity, listing, at=at).decode()
            anyio.from_thread.run(self._put, _key(upstream, identity), {"listing": text})
        except Exception as error:  # noqa: BLE001 - same
            return f"the storage did not take it: {_reason(error)}"
        return ""

    async def _get(self, key: str) -> dict[str, Any] | None:
        return await self._storage.get(key, collection=LISTINGS)

    async def _put(self, key: str, value: Mapping[str, Any]) -> None:
        await keep(self._storage, key, value, collection=LISTINGS)


def _key(upstream: str, identity: str) -> str:
    return sha256(f"{len(upstream)}:{upstream}{identity}".encode("utf-8", "surrogatepass")).hexdigest()


class StoredPins:
    """Keeps pins in a storage (``catalog.pinfile.PinKeeper``): called in a worker thread of anyio.

    They belong to a server's name: a program has one configuration.
    """

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def load(self, owner: Owner) -> Pins | None:
        """What was decided about an upstream; None if nobody ever saw it. What cannot be used is a fault in it."""
        try:
            kept = anyio.from_thread.run(self._get, _key(owner.upstream, ""))
            return None if kept is None else unpacked_pins(str(kept["pins"]).encode(), "the storage's entry")
        except Exception as error:  # noqa: BLE001 - a storage may fail in any way; then nobody knows what was decided
            return Pins(fault=f"the storage did not say: {type(error).__name__}: {error}")

    def first(self, owner: Owner, pins: Pins) -> str:
        """Keep the first pins of an upstream, unless there are some; returns why that is not possible."""
        if self.load(owner) is not None:
            return ""
        try:
            self.save(owner, pins)
        except ConfigError as error:
            return error.message
        return ""

    def save(self, owner: Owner, pins: Pins) -> None:
        """Keep pins in the place of older ones. Raises ConfigError."""
        try:
            anyio.from_thread.run(self._put, _key(owner.upstream, ""), {"pins": packed_pins(owner, pins).decode()})
        except Exception as error:
            reason = f"the storage did not take the pins: {_reason(error)}"
            raise ConfigError([Problem("storage", reason)]) from error

    def deciding(self) -> AbstractContextManager[None]:
        """Nobody waits: a storage has no locks."""
        return nullcontext()

    async def _get(self, key: str) -> dict[str, Any] | None:
        return await self._storage.get(key, collection=PINS)

    async def _put(self, key: str, value: Mapping[str, Any]) -> None:
        await keep(self._storage, key, value, collection=PINS)
