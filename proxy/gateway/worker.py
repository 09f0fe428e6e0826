"""The task that serves the hot requests of a connection, one after the other: one for each would take 2 µs more."""

import asyncio
from typing import Any

from proxy.gateway.taken import Direct, Taken


class Worker:
    """Serves requests that were taken, until one is out of the ordinary or the connection is gone.

    Whatever is left of such a request (a cancellation, context variables, an app that goes on) then stays in its task,
    and the next one gets another worker.

    Args:
        loop: the event loop.
        app: serves what is left alone.
        direct: the same past ASGI.
        first: the first request.
    """

    __slots__ = ("_app", "_bell", "_direct", "_loop", "_next", "_over", "task")

    def __init__(self, loop: asyncio.AbstractEventLoop, app: Any, direct: Direct, first: Taken) -> None:
        self._loop = loop
        self._app = app
        self._direct = direct
        self._next: Taken | None = first
        self._bell: asyncio.Future[None] | None = None
        """What it waits for; None while it serves."""
        self._over = False
        self.task = loop.create_task(self._run())

    def take(self, taken: Taken) -> bool:
        """Serve this one; False if it is busy or has ended."""
        bell = self._bell
        if bell is None or bell.done():
            return False
        self._next, self._bell = taken, None
        bell.set_result(None)
        return True

    def end(self) -> None:
        """The connection is gone: end after what is being served."""
        self._over = True
        if self._bell is not None and not self._bell.done():
            self._bell.set_result(None)

    async def _run(self) -> None:
        task, direct = self.task, self._direct
        while (taken := self._next) is not None:
            self._next, taken.task = None, task
            try:
                serving = direct.begin(taken)
                if serving is not None:
                    try:
                        await serving
                    finally:
                        direct.closed()
            except BaseException as error:  # noqa: BLE001 - uvicorn answers and logs it
                await taken.fail(error)
                return
            if serving is None or not (taken.response_complete or taken.disconnected):
                await taken.leave(self._app)
                return
            taken.end()
            if self._over or task.cancelling():
                return
            taken = serving = None  # an idle connection keeps nothing of its last request
            self._bell = bell = self._loop.create_future()
            await bell
