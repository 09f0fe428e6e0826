"""``Manifold``: everything that stands behind the server's doors, inside a program."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from proxy.config.load import load
from proxy.config.model import AgentConfig, Config, UpstreamConfig
from proxy.errors import ManifoldError
from proxy.model import Caller, Era
from proxy.runtime import Runtime, background
from proxy.service.observe import Observe
from proxy.store.asking import Handlers
from proxy.store.caching import CacheFigures
from proxy.store.context import Context
from proxy.store.engine import Engine, Errors, Validate
from proxy.store.extensions import Middleware, installed_layers, layers_of
from proxy.store.figures import Recorder
from proxy.store.listeners import Listeners, StatusCallback
from proxy.store.patience import patient
from proxy.store.registration import Registration, Spec, config_of
from proxy.store.status import ConnectionTest, Status
from proxy.store.storage import Storage, StoredListings, kept_figures, opened
from proxy.telemetry import logging
from proxy.upstream.pool import canonical

if TYPE_CHECKING:
    from proxy.store.sync import SyncManifold


class Manifold:
    """Upstreams, catalog, names and towers in one's own process, as an async context manager.

    Args:
        config: a path of a configuration file, a mapping in any dialect of it, a checked ``Config``, or nothing.
        handlers: what the program answers when upstreams ask; an agent may have its own.
        validate: ``off``, ``warn`` or ``strict``: whether arguments are checked against schemas, unless a call says.
        errors: ``raise`` or ``result``: how a failed ``call_tool`` comes back, unless a call says.
        storage: where last-known listings, figures and the agents' data are kept: ``memory://`` (the default; nothing
            survives), a directory, ``redis://host:port/number``, or any object with ``Storage``'s three methods.
        middleware: goes around all requests to upstreams, the first one outermost.
        tool_handlers: glob over ``server.tool`` -> what handles calls of these tools.
        entry_points: whether to use the middleware and tool handlers of installed packages too.

    Raises:
        ConfigError: the configuration cannot be used; with everything that is wrong with it.
    """

    def __init__(  # noqa: PLR0913 - each is a choice of the embedding program, by keyword
        self,
        config: str | Path | Mapping[str, Any] | Config | None = None,
        *,
        handlers: Handlers | None = None,
        validate: Validate = "off",
        errors: Errors = "raise",
        storage: str | Path | Storage | None = None,
        middleware: Sequence[Middleware] = (),
        tool_handlers: Mapping[str, Middleware] | None = None,
        entry_points: bool = True,
    ) -> None:
        self._config = load(config).config if isinstance(config, str | Path) else config_of(config)
        self._handlers = handlers or Handlers()
        self._manner = (validate, errors)
        self._storage = storage
        self._recorder = Recorder()
        extensions = [*(installed_layers() if entry_points else ()), *layers_of(middleware, tool_handlers)]
        self._layers = (Observe(self._recorder), patient, *extensions)
        self._listeners = Listeners()
        self._stack = AsyncExitStack()
        self._engine: Engine | None = None
        self._contexts: dict[str | None, Context] = {}
        self._registration = Registration(lambda: self.runtime)

    async def __aenter__(self) -> Self:
        """Start the upstreams in the background; nothing is waited for.

        Raises:
            ConfigError: the storage cannot be used.
        """
        logging.embed()
        async with AsyncExitStack() as stack:
            storage = await stack.enter_async_context(opened(self._storage))
            if self._storage is not None:
                await stack.enter_async_context(kept_figures(self._recorder, storage))
            tasks = await stack.enter_async_context(background())
            state = self._config.server.state_dir
            keeper = StoredListings(storage) if state is None and self._storage is not None else state
            runtime = await stack.enter_async_context(Runtime(self._config, state=keeper, layers=self._layers))
            self._engine = Engine(runtime, self._recorder, storage, *self._manner)
            runtime.on_status.append(self._listeners.into(tasks))
            told = self._handlers.capabilities
            runtime.start(Caller(era=Era.MODERN, capabilities=told, told=canonical(told)) if told else None)
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop everything, bounded; no process and no connection is left."""
        try:
            await self._stack.__aexit__(kind, error, trace)
        finally:
            self._engine = None
            self._contexts.clear()

    @classmethod
    def sync(cls, config: str | Path | Mapping[str, Any] | Config | None = None, **options: Any) -> "SyncManifold":
        """The same for scripts and notebooks, without ``await``: ``with Manifold.sync(...) as manifold``.

        Args:
            config: as for ``Manifold``.
            options: as for ``Manifold``; and ``console``, where the start-up is shown.
        """
        from proxy.store.sync import SyncManifold  # noqa: PLC0415 - it imports this module

        return SyncManifold(config, **options)

    @property
    def runtime(self) -> Runtime:
        """The machinery itself, for ``CatalogProvider`` and others.

        Raises:
            ManifoldError: this is not entered.
        """
        return self._running.runtime

    @property
    def _running(self) -> Engine:
        if self._engine is None:
            raise ManifoldError("This Manifold is not running.", hint="Use it inside `async with Manifold(...)`.")
        return self._engine

    # -- contexts ------------------------------------------------------------------------------------------------------

    def for_store(self, *, handlers: Handlers | None = None) -> Context:
        """The context that sees everything, under full names."""
        return self._context(None, handlers)

    def for_agent(self, name: str, *, handlers: Handlers | None = None) -> Context:
        """The context of an agent: what it may see, under local names.

        Args:
            name: an agent of the configuration, or one made by ``create_agent``.
            handlers: what is answered to upstreams in this context, instead of the program's general answers.

        Raises:
            UnknownServer: there is no such agent.
        """
        self.runtime.view(name)
        return self._context(name, handlers)

    def _context(self, agent: str | None, handlers: Handlers | None) -> Context:
        if handlers is not None:
            return Context(self._running, agent, handlers)
        if agent not in self._contexts:
            self._contexts[agent] = Context(self._running, agent, self._handlers)
        return self._contexts[agent]

    async def create_agent(
        self, name: str, settings: AgentConfig | Mapping[str, Any] | None = None, *, handlers: Handlers | None = None
    ) -> Context:
        """Create an agent, or change one, and return its context.

        Args:
            name: letters, digits, ``-`` and ``_``, at most 64.
            settings: as under ``agents`` in a configuration file: ``servers``, ``tools``, ``names`` ...; without any it
                sees every server.
            handlers: as for ``for_agent``.

        Raises:
            ConfigError: the settings cannot be used.
        """
        await self._registration.set_agent(name, settings or {})
        return self.for_agent(name, handlers=handlers)

    async def remove_agent(self, name: str) -> None:
        """Remove an agent. Its contexts find nothing any more; its data stays in the storage.

        Raises:
            UnknownServer: there is no such agent.
        """
        await self._registration.set_agent(name, None)
        self._contexts.pop(name, None)
        self._running.forget_agent(name)

    # -- upstreams -----------------------------------------------------------------------------------------------------

    async def register(self, name: str, spec: Spec) -> Status:
        """Take on an upstream and start it. Waits for its first listing until its grace is over.

        Args:
            name: its name.
            spec: a URL, a mapping as in a configuration file (``${env:NAME}`` is filled in), or an ``UpstreamConfig``.

        Raises:
            ConfigError: the specification cannot be used, or the name is taken.
        """
        await self._registration.register(name, spec)
        return self.status(name)

    async def unregister(self, name: str) -> None:
        """Give up an upstream; its calls under way finish in the background. Raises UnknownServer."""
        await self._registration.unregister(name)

    async def ensure_registered(self, name: str, spec: Spec) -> bool:
        """Register an upstream, unless it is there as specified and in good order; returns whether it was not.

        One whose address, transport, headers or command differ, or which cannot be reached, is connected anew.

        Raises:
            ConfigError: the specification cannot be used.
        """
        return await self._registration.ensure_registered(name, spec)

    def is_registered(self, name: str) -> bool:
        """Whether there is an upstream of that name, connected or not."""
        return name in self.runtime.config.upstreams

    async def connect(self, *names: str) -> dict[str, Status]:
        """Connect upstreams, or all; waits until it is known how that ended, and returns how they stand.

        Raises:
            UnknownServer: there is none of that name.
        """
        return await self._registration.connect(names)

    async def disconnect(self, *names: str) -> None:
        """Disconnect upstreams, or all: exactly their tools go until ``connect``. Raises UnknownServer."""
        await self._registration.disconnect(names)

    async def test_connection(self, target: str | Mapping[str, Any] | UpstreamConfig) -> ConnectionTest:
        """Reach an upstream once, on a connection of its own, and say how that went.

        Args:
            target: the name of a registered upstream, a URL, or a specification as for ``register``.

        Raises:
            ConfigError: the specification cannot be used.
            UnknownServer: it is neither a URL nor a registered name.
        """
        return await self._registration.test(target)

    def status(self, name: str) -> Status:
        """How an upstream stands. Raises UnknownServer."""
        return self._registration.status(name)

    def statuses(self) -> dict[str, Status]:
        """How all upstreams stand."""
        return self._registration.statuses()

    def on_status_change(self, callback: StatusCallback) -> Callable[[], None]:
        """Call a function or a coroutine function on every change of an upstream's state; returns how to end that.

        A callback that fails is logged and harms nobody.
        """
        return self._listeners.add(callback)

    # -- caches and figures --------------------------------------------------------------------------------------------

    async def refresh(self, *names: str) -> dict[str, Status]:
        """List upstreams anew now, or all; one that cannot be reached keeps its last-known tools.

        Without this, each is listed anew when it says that something changed, and at the age of ``refresh`` (30 min).

        Raises:
            UnknownServer: there is none of that name.
        """
        chosen = names or tuple(upstream.name for upstream in self.runtime.registry)
        for name in chosen:
            self.status(name)
        await self._running.refresh(name for name in chosen if name in self.runtime.registry)
        return {name: self.status(name) for name in chosen}

    def clear_cache(self, *, agent: str | None = None, server: str | None = None) -> None:
        """Forget what is known of what an agent sees, of one server, or everything: it is listed anew when asked for.

        Raises:
            UnknownServer: there is no such agent.
        """
        self._running.clear(agent, server)

    def caches(self) -> dict[str, CacheFigures]:
        """How the caches do: ``tools`` ready made for each view, ``names`` resolved, ``schemas`` prepared."""
        return self._running.caches()

    def reset_metrics(self) -> None:
        """Forget all figures of calls."""
        self._recorder.forget(None)
