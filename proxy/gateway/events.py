"""Telling downstreams that lists changed, once per change and downstream, whatever the upstreams do.

Handshake connections are told on their own channel; modern ones on the ``subscriptions/listen`` stream they opened
(spec 2026-07-28, subscriptions). What an agent may not see changes nothing for it.
"""

from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final, Protocol

import anyio
import structlog
from anyio.abc import TaskGroup

from proxy.model import Params

log = structlog.get_logger(__name__)

GATHER: Final = 0.1
"""Seconds in which changes are gathered into one notification."""
PATIENCE: Final = 5.0
"""Seconds a downstream may take to accept a notification before it is dropped for that downstream."""

METHODS: Final = (
    "notifications/tools/list_changed",
    "notifications/prompts/list_changed",
    "notifications/resources/list_changed",
)


Counts = tuple[int, ...]
"""How often each list has changed, in the order of ``METHODS``."""
NEVER: Final[Counts] = (0,) * len(METHODS)


class Send(Protocol):
    """Delivers one notification to one downstream."""

    async def __call__(self, method: str, params: Params | None, /) -> None:
        """Deliver it; may wait for the downstream to take it."""
        ...


@dataclass(eq=False)
class Listener:
    """One downstream that hears of changes: those of one agent's view, by the methods it asked for."""

    agent: str | None
    send: Send
    methods: frozenset[str] = frozenset(METHODS)


class Audience:
    """Everybody who is told. ``run`` in a task group; ``changed`` from anywhere on the loop.

    Args:
        changes: the notifications that an agent's downstreams are due since this was last called.
        watch: from now on changes count for this agent.
    """

    def __init__(self, changes: Callable[[str | None], Iterable[str]], watch: Callable[[str | None], None]) -> None:
        self._changes = changes
        self._watch = watch
        self._listeners: set[Listener] = set()
        self._telling: dict[Listener, set[str]] = {}
        """Who is being told something, and what comes next: a slow one is no reason for others to wait."""
        self._pending = anyio.Event()
        self._kept: set[str | None] = set()
        self._counts: dict[str | None, Counts] = {}

    def __len__(self) -> int:
        return len(self._listeners)

    def add(self, listener: Listener) -> Callable[[], None]:
        """Take on a listener; the returned function lets it go."""
        self._watch(listener.agent)
        self._listeners.add(listener)
        return lambda: self._listeners.discard(listener)

    def keep(self, agent: str | None) -> None:
        """Changes count for this agent from now on, whether anybody listens or not: somebody may, later."""
        if agent not in self._kept:
            self._kept.add(agent)
            self._watch(agent)

    def counts(self, agent: str | None) -> "Counts":
        """How often each list of an agent has changed. Who listens again compares, and knows what was missed."""
        return self._counts.get(agent, NEVER)

    @asynccontextmanager
    async def listening(self, listener: Listener) -> AsyncIterator[None]:
        """Keep a listener for as long as the block runs."""
        remove = self.add(listener)
        try:
            yield
        finally:
            remove()

    def changed(self) -> None:
        """Something in the catalog changed; who needs to know is found out in ``run``."""
        self._pending.set()

    async def run(self) -> None:
        """Tell them, forever."""
        async with anyio.create_task_group() as tasks:
            while True:
                await self._pending.wait()
                await anyio.sleep(GATHER)
                self._pending = anyio.Event()
                agents = self._kept.union(one.agent for one in self._listeners)
                due = {agent: frozenset(self._changes(agent)) for agent in agents}
                for agent, methods in due.items():
                    if methods:
                        self._counts[agent] = _counted(self.counts(agent), methods)
                for listener in tuple(self._listeners):
                    if methods := due[listener.agent] & listener.methods:
                        self._due(tasks, listener, methods)

    def _due(self, tasks: TaskGroup, listener: Listener, methods: frozenset[str]) -> None:
        if (waiting := self._telling.get(listener)) is not None:
            waiting |= methods
        else:
            self._telling[listener] = set(methods)
            tasks.start_soon(self._tell, listener)

    async def _tell(self, listener: Listener) -> None:
        waiting = self._telling[listener]
        try:
            while waiting and listener in self._listeners:
                method = min(waiting)
                waiting.remove(method)
                await _told(listener, method)
        finally:
            del self._telling[listener]


def missed(before: Counts, now: Counts) -> tuple[str, ...]:
    """The notifications for what has changed between two counts."""
    return tuple(method for method, old, new in zip(METHODS, before, now, strict=True) if old != new)


def _counted(counts: Counts, methods: frozenset[str]) -> Counts:
    return tuple(count + (method in methods) for method, count in zip(METHODS, counts, strict=True))


async def _told(listener: Listener, method: str) -> None:
    with anyio.move_on_after(PATIENCE) as scope:
        try:
            await listener.send(method, None)
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            log.debug("downstream.gone", method=method)
    if scope.cancelled_caught:
        log.warning("downstream.slow", method=method, seconds=PATIENCE)
