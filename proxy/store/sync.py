"""The same without ``await``, for scripts and notebooks: one event loop in a thread behind everything."""

import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from functools import partial, wraps
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, Final, Generic, ParamSpec, Self, TypeVar

import anyio
from anyio.from_thread import BlockingPortal, start_blocking_portal
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from proxy.config.model import Config
from proxy.store.asking import Handlers
from proxy.store.context import Context
from proxy.store.manifold import Manifold
from proxy.store.storage import Shelf

PATIENCE: Final = 0.5
"""Seconds of start-up after which its progress is shown."""

A = TypeVar("A")
A_co = TypeVar("A_co", covariant=True)
P = ParamSpec("P")
R = TypeVar("R")


class _Facade(Generic[A_co]):
    """Something asynchronous, and the loop that it lives in."""

    def __init__(self, portal: BlockingPortal, inner: A_co) -> None:
        self._portal = portal
        self._inner = inner

    def _run(self, work: Callable[[], Awaitable[R]]) -> R:
        return _waited(self._portal, work)


class _Work(Generic[R]):
    """Something that is run in the loop behind, and can be given up at any moment, also before it has begun."""

    def __init__(self, work: Callable[[], Awaitable[R]]) -> None:
        self._work = work
        self._scope: anyio.CancelScope | None = None
        self._given_up = False
        self.over = False

    async def run(self) -> R:
        with anyio.CancelScope() as self._scope:
            if self._given_up:
                self._scope.cancel()
            try:
                return await self._work()
            finally:
                self.over = True
        raise TimeoutError("nobody waits for it")  # and so nobody hears this

    async def give_up(self) -> None:
        self._given_up = True
        if self._scope is not None:
            self._scope.cancel()


def _waited(portal: BlockingPortal, work: Callable[[], Awaitable[R]]) -> R:
    """Run something in the loop behind; whoever gives up waiting (Ctrl-C) cancels it, however early that is."""
    under_way = _Work(work)
    try:
        return portal.start_task_soon(under_way.run).result()
    except BaseException:
        if not under_way.over:
            with suppress(RuntimeError):  # the loop has ended, and everything in it
                portal.start_task_soon(under_way.give_up)
        raise


def _waits(method: Callable[Concatenate[A, P], Awaitable[R]]) -> Callable[Concatenate[_Facade[A], P], R]:
    """A coroutine method as a plain one, with the same parameters."""

    @wraps(method)
    def run(self: _Facade[A], /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._run(partial(method, self._inner, *args, **kwargs))

    return run


def _in_loop(method: Callable[Concatenate[A, P], R]) -> Callable[Concatenate[_Facade[A], P], R]:
    """A plain method, run where its object lives: nothing there is made for several threads."""

    @wraps(method)
    def run(self: _Facade[A], /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._portal.call(partial(method, self._inner, *args, **kwargs))

    return run


class SyncShelf(_Facade[Shelf]):
    """``Shelf`` without ``await``."""

    get = _waits(Shelf.get)
    put = _waits(Shelf.put)
    delete = _waits(Shelf.delete)


class SyncContext(_Facade[Context]):
    """``Context`` without ``await``."""

    list_tools = _waits(Context.list_tools)
    get_tool = _waits(Context.get_tool)
    call_tool = _waits(Context.call_tool)
    batch_call = _waits(Context.batch_call)
    openai_tools = _waits(Context.openai_tools)
    responses_tools = _waits(Context.responses_tools)
    answer_responses = _waits(Context.answer_responses)
    anthropic_tools = _waits(Context.anthropic_tools)
    answer_openai = _waits(Context.answer_openai)
    answer_anthropic = _waits(Context.answer_anthropic)
    parse_function_name = _waits(Context.parse_function_name)
    list_resources = _waits(Context.list_resources)
    list_resource_templates = _waits(Context.list_resource_templates)
    list_prompts = _waits(Context.list_prompts)
    read_resource = _waits(Context.read_resource)
    get_prompt = _waits(Context.get_prompt)
    register = _waits(Context.register)
    unregister = _waits(Context.unregister)
    ensure_registered = _waits(Context.ensure_registered)
    connect = _waits(Context.connect)
    disconnect = _waits(Context.disconnect)
    test_connection = _waits(Context.test_connection)
    is_registered = _in_loop(Context.is_registered)
    status = _in_loop(Context.status)
    statuses = _in_loop(Context.statuses)
    on_status_change = _in_loop(Context.on_status_change)
    tool_metrics = _in_loop(Context.tool_metrics)
    server_metrics = _in_loop(Context.server_metrics)
    slowest_tools = _in_loop(Context.slowest_tools)

    @property
    def agent(self) -> str | None:
        """The agent's name; None for the store."""
        return self._inner.agent

    @property
    def storage(self) -> SyncShelf:
        """A place for data of this agent alone."""
        return SyncShelf(self._portal, self._inner.storage)


class SyncManifold(_Facade[Manifold], AbstractContextManager["SyncManifold"]):
    """``Manifold`` without ``await``. Entering waits until the upstreams are listed, or their grace is over.

    Args:
        config: as for ``Manifold``.
        console: where a start-up of more than half a second is shown; by default standard error, if it is a terminal.
        options: as for ``Manifold``.
    """

    def __init__(
        self,
        config: str | Path | Mapping[str, Any] | Config | None = None,
        *,
        console: Console | None = None,
        **options: Any,
    ) -> None:
        self._inner = Manifold(config, **options)
        self._console = console or Console(file=sys.stderr)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        """Start the loop and the upstreams."""
        with ExitStack() as stack:
            self._portal = stack.enter_context(start_blocking_portal())
            stack.enter_context(self._portal.wrap_async_context_manager(self._inner))
            _waited(self._portal, partial(_started, self._inner, self._console))
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop everything, and the loop."""
        self._stack.__exit__(kind, error, trace)

    def for_store(self, *, handlers: Handlers | None = None) -> SyncContext:
        """The context that sees everything, under full names."""
        return SyncContext(self._portal, self._portal.call(partial(self._inner.for_store, handlers=handlers)))

    def for_agent(self, name: str, *, handlers: Handlers | None = None) -> SyncContext:
        """The context of an agent. Raises UnknownServer."""
        return SyncContext(self._portal, self._portal.call(partial(self._inner.for_agent, name, handlers=handlers)))

    def create_agent(self, name: str, settings: Any = None, *, handlers: Handlers | None = None) -> SyncContext:
        """Create an agent, or change one, and return its context. Raises ConfigError."""
        made = self._run(partial(self._inner.create_agent, name, settings, handlers=handlers))
        return SyncContext(self._portal, made)

    remove_agent = _waits(Manifold.remove_agent)
    register = _waits(Manifold.register)
    unregister = _waits(Manifold.unregister)
    ensure_registered = _waits(Manifold.ensure_registered)
    connect = _waits(Manifold.connect)
    disconnect = _waits(Manifold.disconnect)
    test_connection = _waits(Manifold.test_connection)
    refresh = _waits(Manifold.refresh)
    is_registered = _in_loop(Manifold.is_registered)
    status = _in_loop(Manifold.status)
    statuses = _in_loop(Manifold.statuses)
    on_status_change = _in_loop(Manifold.on_status_change)
    clear_cache = _in_loop(Manifold.clear_cache)
    caches = _in_loop(Manifold.caches)
    reset_metrics = _in_loop(Manifold.reset_metrics)


async def _started(manifold: Manifold, console: Console) -> None:
    """The smart wait; with a progress bar if it takes long and somebody looks."""
    with anyio.move_on_after(PATIENCE):
        await manifold.runtime.ready(None)
        return
    if not console.is_terminal:
        await manifold.runtime.ready(None)
        return
    with _bar(manifold, console):
        await manifold.runtime.ready(None)


@contextmanager
def _bar(manifold: Manifold, console: Console) -> Iterator[None]:
    columns = (TextColumn("Starting servers"), BarColumn(), MofNCompleteColumn(), TextColumn("{task.description}"))
    with Progress(*columns, TimeElapsedColumn(), console=console, transient=True) as progress:
        task = progress.add_task("", total=None)

        def show(_event: object = None) -> None:
            waiting = [one.name for one in manifold.runtime.registry if one.listing is None and not one.has_settled]
            total = len(manifold.runtime.registry)
            progress.update(task, total=total, completed=total - len(waiting), description=", ".join(waiting[:3]))

        stop = manifold.on_status_change(show)
        show()
        try:
            yield
        finally:
            stop()
