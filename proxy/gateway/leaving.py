"""Noticing that the downstream of a modern call went away: closing the response cancels, in that era."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

from starlette.types import Message

from proxy.gateway.channel import Channel
from proxy.service.expiry import Lane

WATCH_AFTER: Final = 0.05
"""Seconds after which a call that still runs is watched for a downstream that went away; most are over by then."""


async def unless_left(channel: Channel, answering: Awaitable[None], slow: Lane) -> None:
    """Answer, and give up when the downstream has gone; ``slow`` says from when on that is looked at."""
    task = channel.task
    assert task is not None  # noqa: S101 - a request is served in a task
    watch = _Watch(channel.receive, task)
    slow.start(watch)
    try:
        await answering
    except asyncio.CancelledError:
        if not watch.gone:
            raise
        task.uncancel()
    finally:
        slow.stop(watch)
        watch.stop()


class _Watch:
    """Waits for a disconnect beside a call that takes long."""

    def __init__(self, receive: Callable[[], Awaitable[Message]], task: "asyncio.Task[Any]") -> None:
        self.at = 0.0
        self._receive = receive
        self._task = task
        self._waiter: asyncio.Task[None] | None = None
        self.gone = False

    def ring(self) -> None:
        """Begin to wait."""
        # Owned by the call beside which it waits: ``stop`` is in its finally, so it cannot outlive it.
        self._waiter = asyncio.get_running_loop().create_task(self._wait())

    def stop(self) -> None:
        """Wait no longer."""
        if self._waiter is not None:
            self._waiter.cancel()

    async def _wait(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        self._task.cancel()
