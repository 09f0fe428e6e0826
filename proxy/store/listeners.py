"""A program's callbacks for changes of upstreams' states. One that fails harms nobody."""

from collections.abc import Awaitable, Callable
from inspect import isawaitable

import structlog
from anyio.abc import TaskGroup

from proxy.model import StatusEvent

log = structlog.get_logger(__name__)

StatusCallback = Callable[[StatusEvent], Awaitable[None] | None]
Heard = Callable[[StatusEvent], StatusEvent | None]
"""An event as one listener is told of it; None if it is not its business."""


class Listeners:
    """Functions and coroutine functions that hear of every change of state."""

    def __init__(self) -> None:
        self._callbacks: dict[object, tuple[StatusCallback, Heard]] = {}

    def add(self, callback: StatusCallback, heard: Heard) -> Callable[[], None]:
        """From now on it is called, with what is its business. Returns how to end that."""
        ticket = object()
        self._callbacks[ticket] = (callback, heard)

        def remove() -> None:
            self._callbacks.pop(ticket, None)

        return remove

    def into(self, tasks: TaskGroup) -> Callable[[StatusEvent], None]:
        """What tells them; coroutines run in a task group."""

        def tell(event: StatusEvent) -> None:
            for callback, heard in tuple(self._callbacks.values()):
                told = heard(event)
                if told is None:
                    continue
                try:
                    waiting = callback(told)
                except Exception:
                    log.exception("status.callback_failed", upstream=event.upstream)
                else:
                    if isawaitable(waiting):
                        tasks.start_soon(_finish, waiting, event.upstream)

        return tell


async def _finish(waiting: Awaitable[None], upstream: str) -> None:
    try:
        await waiting
    except Exception:
        log.exception("status.callback_failed", upstream=upstream)
