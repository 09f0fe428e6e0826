"""The rig of the end-to-end tests, and the stages on which conformance is tried."""

import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, TypeVar

import anyio
import pytest
from anyio.abc import TaskGroup, TaskStatus

from tests.conformance.cells import Cell, Theatre, direct, opened
from tests.conformance.scripts import FULL, SCRIPTS, normal
from tests.conformance.stage import Cast, Stage, staged, upstream_of
from tests.conformance.wire import Client
from tests.e2e.conftest import peers, pytest_collection_finish, pytest_collection_modifyitems

__all__ = ["peers", "pytest_collection_finish", "pytest_collection_modifyitems"]


Opened = TypeVar("Opened")


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="session")
def stage(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stage]:
    """A Manifold over HTTP with the fixture behind it; the parameter is how it is set up."""
    with staged(tmp_path_factory.mktemp("stage"), request.param) as built:
        yield built


class Owners:
    """Keeps things open in tasks of their own, so that they may be closed in any order."""

    def __init__(self, tasks: TaskGroup) -> None:
        self._tasks = tasks

    @asynccontextmanager
    async def own(self, opened: AbstractAsyncContextManager[Opened]) -> AsyncIterator[Opened]:
        """Enter and leave a context manager in one task, whichever task asks."""
        over, gone = anyio.Event(), anyio.Event()

        async def hold(*, task_status: TaskStatus[Opened]) -> None:
            held = False
            try:
                async with opened as value:
                    held = True
                    task_status.started(value)
                    await over.wait()
            except Exception as error:
                if not held:
                    raise
                # Whoever uses it finds out; nobody else's things must be closed for that.
                print(f"{value} broke: {error!r}", file=sys.stderr)
            finally:
                gone.set()

        yield await self._tasks.start(hold)
        over.set()
        await gone.wait()


@pytest.fixture(scope="session")
async def owners() -> AsyncIterator[Owners]:
    async with anyio.create_task_group() as tasks:
        yield Owners(tasks)


@pytest.fixture(scope="session")
async def theatre(
    request: pytest.FixtureRequest, owners: Owners, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Theatre]:
    """A cell, running; the parameter is which."""
    cell: Cell = request.param
    async with owners.own(opened(cell, tmp_path_factory.mktemp(cell.id))) as built:
        yield built


@pytest.fixture(scope="session")
async def client(theatre: Theatre, owners: Owners) -> AsyncIterator[Client]:
    """A client of the cell that can do everything."""
    async with owners.own(theatre.client(FULL)) as connected:
        yield connected


@pytest.fixture(scope="session")
async def plain(theatre: Theatre, owners: Owners) -> AsyncIterator[Client]:
    """A client of the cell that cannot be asked anything.

    On a pipe it shares the session that the upstream was listed on: one process, so what it changes there is heard.
    """
    async with owners.own(theatre.client({})) as connected:
        yield connected


class Direct:
    """What scripts see at the fixture itself, each run once."""

    def __init__(self, stack: AsyncExitStack, owners: Owners, url: str) -> None:
        self._stack = stack
        self._owners = owners
        self._url = url
        self._clients: dict[tuple[str, str], Client] = {}
        self._seen: dict[tuple[str, str, str], Any] = {}

    async def seen(self, name: str, cell: Cell) -> Any:
        """What the script sees, normalised."""
        at = (cell.downstream, cell.door)
        if at not in self._clients:
            self._clients[at] = await self._stack.enter_async_context(self._owners.own(direct(*at, self._url)))
        if (name, *at) not in self._seen:
            self._seen[name, *at] = normal(await SCRIPTS[name](self._clients[at]))
        return self._seen[name, *at]


@pytest.fixture(scope="session")
async def baseline(owners: Owners, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Direct]:
    """The fixture itself, in both eras."""
    with upstream_of(tmp_path_factory.mktemp("direct"), "direct", Cast("dual")) as (_, url):
        async with AsyncExitStack() as stack:
            yield Direct(stack, owners, url)
