"""``Manifold``: everything that stands behind the server's doors, inside a program."""

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from proxy.config.load import load
from proxy.config.model import AgentConfig, Config
from proxy.errors import ManifoldError
from proxy.keeping import users_state
from proxy.model import Caller, Era
from proxy.runtime import Runtime, background
from proxy.service.clock import SYSTEM, Clock
from proxy.service.observe import Observe
from proxy.store.asking import Handlers
from proxy.store.caching import CacheFigures
from proxy.store.context import Context
from proxy.store.engine import Engine, Errors, Validate
from proxy.store.extensions import Middleware, installed_layers, layers_of
from proxy.store.figures import Recorder
from proxy.store.patience import patient
from proxy.store.registration import Registration, config_of
from proxy.store.renewal import EVERY, renewed
from proxy.store.servers import Place, Servers
from proxy.store.status import Status
from proxy.store.storage import Storage, StoredListings, StoredPins, kept_figures, opened
from proxy.store.tokens import vault_for
from proxy.telemetry import logging
from proxy.upstream.pool import canonical

if TYPE_CHECKING:
    from proxy.store.sync import SyncManifold


class Manifold(Servers):
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
        refresh_every: seconds between automatic refreshes of everything that is connected; 0 makes none. Apart from
            this, each upstream is listed anew when it says so and at the age of its own ``refresh``.
        clock: monotonic seconds, for everything that waits; a test may give one that it moves by hand.

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
        refresh_every: float = EVERY,
        clock: Clock = SYSTEM,
    ) -> None:
        if refresh_every < 0:
            raise ValueError(f"refresh_every must not be negative, as {refresh_every} is")
        self._config = load(config).config if isinstance(config, str | Path) else config_of(config)
        self._handlers = handlers or Handlers()
        self._manner = (validate, errors)
        self._storage = storage
        self._refresh_every, self._clock = refresh_every, clock
        self._recorder = Recorder(lambda upstream: self._place.registration.owner(upstream) is None)
        extensions = [*(installed_layers() if entry_points else ()), *layers_of(middleware, tool_handlers)]
        self._layers = (Observe(self._recorder), patient, *extensions)
        self._stack = AsyncExitStack()
        self._engine: Engine | None = None
        self._contexts: dict[str | None, Context] = {}
        self._place = Place(Registration(lambda: self.runtime))

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
            made = Runtime(self._config, state=keeper, layers=self._layers, clock=self._clock)
            if self._storage is not None and made.registry.vault is None:
                made.registry.vault = vault_for(self._storage, storage, users_state())
            if isinstance(keeper, StoredListings):
                made.trust.keeper = StoredPins(storage)
            runtime = await stack.enter_async_context(made)
            self._engine = Engine(runtime, self._recorder, storage, self._place, *self._manner)
            runtime.on_status.append(self._place.listeners.into(tasks))
            told = self._handlers.capabilities
            runtime.start(Caller(era=Era.MODERN, capabilities=told, told=canonical(told)) if told else None)
            if self._refresh_every:
                tasks.start_soon(renewed, self._renew, self._refresh_every, self._clock)
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
        """Remove an agent and its own servers. Its contexts find nothing any more; its data stays in the storage.

        Raises:
            UnknownServer: there is no such agent.
        """
        await self._registration.set_agent(name, None)
        self._contexts.pop(name, None)
        self._running.forget_agent(name)

    # -- caches and figures --------------------------------------------------------------------------------------------

    async def refresh(self, *names: str) -> dict[str, Status]:
        """List upstreams anew now, or all; one that cannot be reached keeps its last-known tools.

        Without this, each is listed anew when it says that something changed, and at the age of ``refresh`` (30 min);
        and all of them every two hours (``refresh_every``).

        Raises:
            UnknownServer: there is none of that name.
        """
        chosen = names or tuple(name for name in self.statuses() if name in self.runtime.registry)
        for name in chosen:
            self.status(name)
        await self._running.refresh(name for name in chosen if name in self.runtime.registry)
        return {name: self.status(name) for name in chosen}

    async def _renew(self) -> None:
        # What is switched off by its idle time, or not needed yet, is not started for this.
        await self._running.refresh([one.name for one in self.runtime.registry if one.is_live])

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
