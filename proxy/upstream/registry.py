"""All upstreams of a configuration, each run by its supervisor in one task group."""

import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Self

import anyio
import structlog
from anyio.abc import TaskGroup

from proxy.config.model import UpstreamConfig
from proxy.errors import UnknownServer
from proxy.model import Listing, StatusEvent, UpstreamState
from proxy.service.base import Service
from proxy.upstream.running import Running
from proxy.upstream.standing import Hooks
from proxy.upstream.upstream import Upstream

log = structlog.get_logger(__name__)


class Registry(AbstractAsyncContextManager["Registry"]):
    """Name -> upstream. An async context manager: leaving it stops them all, bounded, and leaves no process behind."""

    def __init__(self, hooks: Hooks, known: Callable[[str, UpstreamConfig], Listing | None] | None = None) -> None:
        self._hooks = hooks
        self._known = known or (lambda _name, _config: None)
        self._running: dict[str, Running] = {}
        self._leaving: set[Running] = set()
        """Those that finish their last calls."""
        self._tasks: TaskGroup | None = None

    async def __aenter__(self) -> Self:
        self._tasks = await anyio.create_task_group().__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._tasks is not None  # noqa: S101 - entered before it is left
        self._tasks.cancel_scope.cancel()
        tasks, self._tasks = self._tasks, None
        # The block's own error goes on as it is, not inside a group: it is not the supervisors'.
        await tasks.__aexit__(None, None, None)

    def add(self, name: str, config: UpstreamConfig, *, start: bool = True) -> Upstream:
        """Take on an upstream and start it in the background.

        Raises:
            ValueError: the name is taken.
        """
        if name in self._running:
            raise ValueError(f"upstream {name!r} exists already")
        assert self._tasks is not None, "enter the registry first"  # noqa: S101 - a bug of ours, not of a caller
        for leaving in self._leaving:
            if leaving.name == name:
                leaving.hush()
        running = self._running[name] = Running(name, config, self._hooks, self._known(name, config))
        running.speak()
        if start:
            self._start(running)
        return running.upstream

    def _start(self, running: Running) -> None:
        if not running.started:
            assert self._tasks is not None  # noqa: S101 - add made sure
            running.started = True
            self._tasks.start_soon(running.run, name=f"upstream {running.name}")

    def start_all(self) -> None:
        """Start every upstream that is not running yet."""
        for running in self._running.values():
            self._start(running)

    # -- another configuration -----------------------------------------------------------------------------------

    @asynccontextmanager
    async def provisioned(
        self, successors: Mapping[str, tuple[str, UpstreamConfig]]
    ) -> AsyncIterator[Mapping[str, Running]]:
        """Start successors beside upstreams, and wait until each of them serves or its grace is over.

        The block hands over with ``succeed``. A successor that it leaves out is stopped when the block ends.

        Args:
            successors: the name of an upstream -> the name of its successor, mostly the same, and its configuration.
        """
        ready = {old: self._successor(old, name, config) for old, (name, config) in successors.items()}
        try:
            async with anyio.create_task_group() as tasks:
                for successor in ready.values():
                    tasks.start_soon(successor.settle)
            yield ready
        finally:
            for successor in ready.values():
                if self._running.get(successor.name) is not successor:
                    self._let_go(successor)

    def _successor(self, old: str, name: str, config: UpstreamConfig) -> Running:
        successor = Running(name, config, self._hooks, self._known(name, config))
        successor.upstream.watched = self[old].watched  # subscriptions go on
        self._start(successor)
        return successor

    def succeed(self, old: str, successor: Running) -> None:
        """Hand over: new calls go to the successor, those under way finish where they are."""
        before = self._running.pop(old)
        before.hush()
        self._running[successor.name] = successor
        successor.speak()
        was, now, at = before.upstream.state, successor.upstream.state, time.time()
        if old != successor.name:
            self._hooks.status(StatusEvent(old, was, UpstreamState.STOPPED, f"renamed to {successor.name}", at))
            was = UpstreamState.IDLE
        if was is not now:
            self._hooks.status(StatusEvent(successor.name, was, now, "its configuration changed", at))
        log.info("upstream.replaced", upstream=successor.name, before=old, state=now.value, calls=before.calls)
        self._let_go(before)

    def retune(self, name: str, config: UpstreamConfig) -> None:
        """Give an upstream a configuration that needs no other link.

        Raises:
            UnknownServer: there is none of that name.
        """
        self._found(name).retune(config)

    def retire(self, name: str) -> None:
        """Take an upstream out: it finishes its calls in the background, as long as one may take, and ends.

        Raises:
            UnknownServer: there is none of that name.
        """
        self._let_go(self._found(name))
        del self._running[name]

    def arrange(self, order: Iterable[str]) -> None:
        """Put the upstreams into an order; others come after it."""
        known = [name for name in order if name in self._running]
        self._running = {name: self._running[name] for name in dict.fromkeys((*known, *self._running))}

    def _let_go(self, running: Running) -> None:
        if self._tasks is not None:  # otherwise everything is being stopped anyway
            self._leaving.add(running)
            self._tasks.start_soon(self._see_off, running)

    async def _see_off(self, running: Running) -> None:
        await running.drain(running.upstream.config.timeout)
        await running.stop()
        self._leaving.discard(running)

    async def drain(self, seconds: float) -> None:
        """Let the calls of all upstreams finish, at most ``seconds``."""
        async with anyio.create_task_group() as tasks:
            for running in self._running.values():
                tasks.start_soon(running.upstream.drain, seconds)
            for leaving in self._leaving:
                tasks.start_soon(leaving.drain, seconds)

    def __getitem__(self, name: str) -> Upstream:
        return self._found(name).upstream

    def __iter__(self) -> Iterator[Upstream]:
        return (running.upstream for running in self._running.values())

    def __len__(self) -> int:
        return len(self._running)

    def __contains__(self, name: object) -> bool:
        return name in self._running

    def service(self, name: str) -> Service:
        """The tower in front of an upstream.

        Raises:
            UnknownServer: there is none of that name.
        """
        return self._found(name).serve

    def listings(self) -> Mapping[str, Listing]:
        """What is known of every upstream, in the order of the configuration."""
        return {u.name: u.listing for u in self if u.listing is not None}

    def _found(self, name: str) -> Running:
        running = self._running.get(name)
        if running is None:
            known = sorted(self._running)[:8]
            raise UnknownServer(f"There is no upstream {name!r}", name=name, suggestions=known)
        return running
