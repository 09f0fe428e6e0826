"""All upstreams of a configuration, each run by its supervisor in one task group."""

import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import Any, Final, Self

import anyio
import structlog
from anyio.abc import TaskGroup

from proxy.config.model import UpstreamConfig
from proxy.credentials.vault import Vault
from proxy.credentials.wallet import Wallet
from proxy.errors import Draining, ManifoldError, Rejected, UnknownServer
from proxy.model import Call, Caller, Era, Listing, Reply, StatusEvent, UpstreamState
from proxy.service.access import AccessLog
from proxy.service.clock import SYSTEM
from proxy.telemetry.metrics import Metrics
from proxy.upstream.kinds import AnyUpstream
from proxy.upstream.running import Running
from proxy.upstream.stack import Shared, Tower
from proxy.upstream.standing import Hooks

log = structlog.get_logger(__name__)

PATIENCE: Final = 600.0
"""Seconds that calls under way are given when their upstream leaves, if they have no deadline of their own."""


class Registry(AbstractAsyncContextManager["Registry"]):
    """Name -> upstream. An async context manager: leaving it stops them all, bounded, and leaves no process behind."""

    def __init__(self, hooks: Hooks, known: Callable[[str, UpstreamConfig], Listing | None] | None = None) -> None:
        self.metrics = Metrics()
        """What was called, and how it went."""
        self.access = AccessLog()
        """Logs single calls."""
        self.vault: Vault | None = None
        """Where logins are kept."""
        self._hooks = hooks
        self._known = known or (lambda _name, _config: None)
        self._running: dict[str, Running] = {}
        self._leaving: set[Running] = set()
        """Those that finish their last calls."""
        self._closing = False
        self._introduced: tuple[str, Era] | None = None
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

    def add(self, name: str, config: UpstreamConfig, *, start: bool = True) -> AnyUpstream:
        """Take on an upstream and start it in the background.

        Raises:
            ValueError: the name is taken.
        """
        if name in self._running:
            raise ValueError(f"upstream {name!r} exists already")
        running = self._make(name, config)
        self._take(running)
        if start:
            self._start(running)
        return running.upstream

    def _make(self, name: str, config: UpstreamConfig) -> Running:
        assert self._tasks is not None, "enter the registry first"  # noqa: S101 - a bug of ours, not of a caller
        wallet = Wallet(name, config, self.vault, self._tasks)
        shared = Shared(self._tasks, self.metrics, access=self.access)
        return Running(name, wallet, self._hooks, self._known(name, config), shared)

    def introduce(self, told: str, prefers: Era) -> None:
        """There is one downstream only; see ``Supervisor.introduce``. Holds for upstreams that start from now on."""
        self._introduced = (told, prefers)

    def _start(self, running: Running) -> None:
        if self._introduced is not None and not running.started:
            running.upstream.introduce(*self._introduced)
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
        self, comers: Mapping[str, UpstreamConfig], places: Mapping[str, str]
    ) -> AsyncIterator[Mapping[str, Running]]:
        """Start upstreams beside those that run, and wait until each of them serves or its grace is over.

        The block lets them in with ``admit``. One that it leaves out is stopped when the block ends.

        Args:
            comers: the upstreams to start.
            places: the name of a comer -> the upstream that it takes the place of, mostly of the same name.
        """
        ready = {name: self._make(name, config) for name, config in comers.items()}
        for name, place in places.items():
            ready[name].upstream.watched = self[place].watched  # subscriptions go on
        try:
            async with anyio.create_task_group() as tasks:
                for comer in ready.values():
                    self._start(comer)
                    tasks.start_soon(comer.settle)
            yield ready
        finally:
            for name, comer in ready.items():
                if self._running.get(name) is not comer:
                    self._let_go(comer)

    def admit(self, comer: Running, place: str | None = None) -> None:
        """Let a comer in. From now on calls go to it; those under way at the one whose place it takes finish there.

        Raises:
            UnknownServer: there is none in that place.
        """
        was = self[place].state if place == comer.name else UpstreamState.IDLE
        if place is not None:
            self.retire(place)
        self._take(comer)
        if was is not (now := comer.upstream.state):
            self._hooks.status(StatusEvent(comer.name, was, now, "the configuration changed", time.time()))

    def _take(self, running: Running) -> None:
        for leaving in self._leaving:
            if leaving.name == running.name:
                leaving.hush()  # there is another of that name now
        self._running[running.name] = running
        running.speak()

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
        running = self._found(name)
        log.info("upstream.leaving", upstream=name, calls=running.calls)
        del self._running[name]
        self._let_go(running)

    def arrange(self, order: Iterable[str]) -> None:
        """Put the upstreams into an order; others come after it."""
        known = [name for name in order if name in self._running]
        self._running = {name: self._running[name] for name in dict.fromkeys((*known, *self._running))}

    def _let_go(self, running: Running) -> None:
        if self._tasks is not None:  # otherwise everything is being stopped anyway
            self._leaving.add(running)
            self._tasks.start_soon(self._see_off, running)

    async def _see_off(self, running: Running) -> None:
        await running.drain(_patience(running.upstream.config))
        await running.stop()
        self._leaving.discard(running)
        if running.name not in self._running:
            self.metrics.forget(running.name)

    async def drain(self, seconds: float) -> None:
        """Take no new calls, and let those under way finish, at most ``seconds``."""
        self._closing = True
        async with anyio.create_task_group() as tasks:
            for running in self._running.values():
                tasks.start_soon(running.upstream.drain, seconds)
                tasks.start_soon(running.drain, seconds)
            for leaving in self._leaving:
                tasks.start_soon(leaving.drain, seconds)

    def __getitem__(self, name: str) -> AnyUpstream:
        return self._found(name).upstream

    def __iter__(self) -> Iterator[AnyUpstream]:
        return (running.upstream for running in self._running.values())

    def __len__(self) -> int:
        return len(self._running)

    def __contains__(self, name: object) -> bool:
        return name in self._running

    def call(self, call: Call, /) -> Coroutine[Any, Any, Reply]:
        """Send a call through the tower in front of the upstream that it names.

        Raises:
            UnknownServer: there is none of that name.
            UpstreamError: as the tower does.
        """
        running = self._running.get(call.upstream) or self._found(call.upstream)
        return (_refuse if self._closing else running.tower.service)(call)  # no frame of its own

    def tower(self, name: str) -> Tower:
        """The tower itself, to look at.

        Raises:
            UnknownServer: there is none of that name.
        """
        return self._found(name).tower

    def forwards(self, name: str) -> tuple[str, ...]:
        """The headers of clients' requests that an upstream gets; none if there is no such upstream."""
        running = self._running.get(name)
        return () if running is None else running.upstream.config.forward_headers

    def wallet(self, name: str) -> Wallet:
        """What is shown to an upstream.

        Raises:
            UnknownServer: there is none of that name.
        """
        return self._found(name).wallet

    def whose(self, name: str, caller: Caller) -> str:
        """With whose credential a caller's requests are sent to an upstream; empty for everybody's."""
        running = self._running.get(name)
        return "" if running is None else running.wallet.whose(caller)

    async def braked(self, name: str, error: ManifoldError) -> None:
        """Wait as long as one more error of an upstream has to; see ``Brake``. What it answers itself does not wait."""
        running = None if isinstance(error, Rejected) else self._running.get(name)
        if running is not None and (wait := running.brake.wait(SYSTEM.now())) > 0.0:
            await SYSTEM.sleep(wait)

    def listings(self) -> Mapping[str, Listing]:
        """What is known of every upstream, in the order of the configuration."""
        return {u.name: u.listing for u in self if u.listing is not None}

    def _found(self, name: str) -> Running:
        running = self._running.get(name)
        if running is None:
            known = sorted(self._running)[:8]
            raise UnknownServer(f"There is no upstream {name!r}", name=name, suggestions=known)
        return running


async def _refuse(call: Call, /) -> Reply:
    raise Draining("Manifold is being stopped", upstream=call.upstream)


def _patience(config: UpstreamConfig) -> float:
    """How long calls under way may still take when their upstream leaves, in seconds."""
    return max((config.deadline or PATIENCE, *config.timeouts.values()))
