"""The task group of a link, as a context manager that lets the body's own exception out bare."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio
from anyio.abc import TaskGroup


@asynccontextmanager
async def tasks_of_link() -> AsyncIterator[TaskGroup]:
    """Run tasks for as long as the body runs; then cancel them.

    A plain task group wraps what its body raises in an exception group, which callers of ``open_stdio`` & co. would
    have to take apart again to see that the upstream said no.
    """
    own: Exception | None = None
    try:
        async with anyio.create_task_group() as tasks:
            try:
                yield tasks
            except Exception as error:
                own = error
                raise
            finally:
                tasks.cancel_scope.cancel()
    except BaseExceptionGroup as group:
        if own is not None and group.exceptions == (own,):
            raise own from own.__cause__
        raise
