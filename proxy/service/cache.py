"""The result cache: opt-in, for calls which only read. One per upstream."""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from proxy.model import Call, Reply
from proxy.service.base import Service
from proxy.service.clock import SYSTEM, Clock
from proxy.service.keys import Isolate, Key, by_session, key_of
from proxy.service.notes import noted
from proxy.service.pulse import watched
from proxy.service.verdict import ResultKind, kind_of


@dataclass(frozen=True, slots=True)
class CachePolicy:
    """How much is remembered, and how long."""

    ttl: float = 60.0
    """Seconds."""
    max_entries: int = 1024
    max_bytes: int = 16 * 1024 * 1024
    """Of results altogether; one result may take an eighth of it."""


@dataclass(frozen=True, slots=True)
class CacheStats:
    """What a cache has done since it began, and what it holds."""

    hits: int
    misses: int
    evictions: int
    entries: int
    bytes: int


class ReplyStore:
    """The pure store: least recently used goes first. Mutable state: entries (result, end of life) and their size."""

    __slots__ = ("_entries", "evictions", "policy", "size")

    def __init__(self, policy: CachePolicy) -> None:
        self.policy = policy
        self.size = 0
        self.evictions = 0
        self._entries: OrderedDict[Key, tuple[Reply, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, key: Key, now: float) -> Reply | None:
        """The result, if it is there and not too old. A new object each time: its bearer may decode and change it."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        if now >= entry[1]:
            self._drop(key)
            return None
        self._entries.move_to_end(key)
        return _fresh(entry[0])

    def put(self, key: Key, reply: Reply, now: float) -> None:
        """Remember a result, and forget others to make room. One which is too large is not remembered."""
        self._drop(key)
        if reply.size > self.policy.max_bytes // 8:
            return
        self._entries[key] = (_fresh(reply), now + self.policy.ttl)
        self.size += reply.size
        self.trim()

    def trim(self) -> None:
        """Forget the least recently used until the rest fits."""
        while len(self._entries) > self.policy.max_entries or self.size > self.policy.max_bytes:
            _, (reply, _) = self._entries.popitem(last=False)
            self.size -= reply.size
            self.evictions += 1

    def clear(self) -> None:
        """Forget everything."""
        self._entries.clear()
        self.size = 0

    def _drop(self, key: Key) -> None:
        entry = self._entries.pop(key, None)
        if entry is not None:
            self.size -= entry[0].size


def _fresh(reply: Reply) -> Reply:
    return Reply(reply.small, era=reply.era, body=reply.body)


def _is_write(call: Call) -> bool:
    return not call.safe


class Cache:
    """Answers repeated reads from memory.

    ``reads`` says which calls only read; nothing else is remembered. Errors of tools, results which ask for input,
    calls that want progress and calls that asked the downstream something are not remembered either. When a call for
    which ``writes`` says so has ended, however it ended, everything is forgotten: what was read before may be stale.
    """

    def __init__(
        self,
        policy: CachePolicy | None = None,
        *,
        reads: Callable[[Call], bool],
        writes: Callable[[Call], bool] = _is_write,
        isolate: Isolate = by_session,
        clock: Clock = SYSTEM,
    ) -> None:
        self._store = ReplyStore(policy or CachePolicy())
        self._reads = reads
        self._writes = writes
        self._isolate = isolate
        self._now = clock.now
        self._generation = 0
        self._hits = 0
        self._misses = 0

    def retune(self, policy: CachePolicy) -> None:
        """Use other figures; entries stay as far as there is room, and keep the end of life they were given."""
        self._store.policy = policy
        self._store.trim()

    def clear(self) -> None:
        """Forget everything, also what is under way: the upstream has changed, or somebody asked for it."""
        self._store.clear()
        self._generation += 1

    def stats(self) -> CacheStats:
        """What it has done and what it holds."""
        store = self._store
        return CacheStats(self._hits, self._misses, store.evictions, len(store), store.size)

    def __call__(self, service: Service) -> Service:
        """Wrap a service."""

        async def run(call: Call) -> Reply:
            if not self._reads(call):
                return await self._pass(service, call)
            key = self._key(call)
            if key is None:
                return await service(call)
            reply = self._store.get(key, self._now())
            if reply is None:
                return await self._fetch(service, call, key)
            self._hits += 1
            if (notes := noted()) is not None:
                notes.attempts, notes.source = 0, "cache"
            return reply

        return run

    def _key(self, call: Call) -> Key | None:
        if call.back is not None and call.back.progress_token is not None:
            return None
        return key_of(call, self._isolate)

    async def _pass(self, service: Service, call: Call) -> Reply:
        try:
            return await service(call)
        finally:
            if self._writes(call):
                self.clear()

    async def _fetch(self, service: Service, call: Call, key: Key) -> Reply:
        self._misses += 1
        generation = self._generation
        call, pulse = watched(call)
        reply = await service(call)
        asked = pulse is not None and pulse.asked
        if not asked and generation == self._generation and kind_of(reply) is ResultKind.COMPLETE:
            self._store.put(key, reply, self._now())
        return reply
