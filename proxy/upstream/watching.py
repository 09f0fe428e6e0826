"""What we want to hear from an upstream: changes of its lists, and of the resources that downstreams subscribed to.

A handshake server tells list changes unasked and resources one by one (``resources/subscribe``); a modern one tells
only what a ``subscriptions/listen`` stream asks for, and its filter is fixed while it is open (spec 2026-07-28,
subscriptions): another wish means another stream.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

import anyio
import structlog
from anyio.abc import TaskGroup, TaskStatus

from proxy.errors import METHOD_NOT_FOUND, Rejected, UpstreamError
from proxy.model import Call, Era, Json, Params
from proxy.service.clock import Clock
from proxy.upstream.session import Session

log = structlog.get_logger(__name__)

Heard = Callable[[str, Params | None], None]

LISTEN: Final = "subscriptions/listen"
AGAIN: Final = 1.0
"""Seconds after which a stream that ended is opened again."""

_ACKNOWLEDGED: Final = "notifications/subscriptions/acknowledged"
_FLAGS: Final = {
    "toolsListChanged": "tools",
    "promptsListChanged": "prompts",
    "resourcesListChanged": "resources",
}
"""What a listen request may ask for, and the capability that promises it."""


class Watched:
    """The resources that somebody is subscribed to, each with how many."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._changed = anyio.Event()

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._counts))

    def __len__(self) -> int:
        return len(self._counts)

    def add(self, uri: str) -> bool:
        """One more is subscribed; whether it is the first."""
        self._counts[uri] += 1
        first = self._counts[uri] == 1
        if first:
            self._ring()
        return first

    def remove(self, uri: str) -> bool:
        """One fewer is subscribed; whether it was the last."""
        if uri not in self._counts:
            return False
        self._counts[uri] -= 1
        last = self._counts[uri] <= 0
        if last:
            del self._counts[uri]
            self._ring()
        return last

    async def changed(self) -> None:
        """Wait until the set of resources differs."""
        await self._changed.wait()

    def _ring(self) -> None:
        self._changed.set()
        self._changed = anyio.Event()


class _Stream:
    """The back channel of one listen stream."""

    progress_token = None

    def __init__(self, heard: Heard) -> None:
        self._heard = heard
        self.acknowledged = anyio.Event()

    async def notify(self, method: str, params: Params | None) -> None:
        if method == _ACKNOWLEDGED:
            self.acknowledged.set()
        else:
            self._heard(method, params)

    async def ask(self, method: str, params: Params | None) -> Json:
        del params
        raise Rejected(METHOD_NOT_FOUND, f"{method} is no request of this era")


async def follow(session: Session, watched: Watched, heard: Heard, clock: Clock) -> None:
    """Hear what is wanted from an upstream for as long as the session lives."""
    if session.era is Era.HANDSHAKE:
        await _subscribe_again(session, watched)
    elif _wanted(session, watched) or _can_subscribe(session):
        await _listen(session, watched, heard, clock)


async def tell_of(session: Session, uri: str) -> None:
    """Subscribe to a resource. A modern upstream is told by ``follow``.

    Raises:
        UpstreamError: it refuses, or the link failed.
    """
    if session.era is Era.HANDSHAKE:
        await session.request(Call(session.name, "resources/subscribe", {"uri": uri}))


async def tell_of_roots(sessions: Iterable[Session]) -> None:
    """Tell sessions that the roots of their downstreams changed; that this fails is no harm."""
    for session in sessions:
        try:
            await session.notify("notifications/roots/list_changed")
        except UpstreamError as error:
            log.debug("upstream.notify.failed", upstream=session.name, error=error.message)


async def tell_off(session: Session, uri: str) -> None:
    """Unsubscribe from a resource; that this fails is no harm."""
    if session.era is Era.HANDSHAKE:
        try:
            await session.request(Call(session.name, "resources/unsubscribe", {"uri": uri}))
        except UpstreamError as error:
            log.debug("upstream.unsubscribe.failed", upstream=session.name, error=error.message)


async def _subscribe_again(session: Session, watched: Watched) -> None:
    """A new session knows nothing of the subscriptions of the one before."""
    for uri in watched:
        try:
            await tell_of(session, uri)
        except UpstreamError as error:
            log.warning("upstream.subscribe.failed", upstream=session.name, uri=uri, error=error.message)


async def _listen(session: Session, watched: Watched, heard: Heard, clock: Clock) -> None:
    """Keep one stream open; when the wishes change, the next one is open before the last one closes."""
    old: anyio.CancelScope | None = None
    async with anyio.create_task_group() as tasks:
        while True:
            scope = await _open(tasks, session, watched, heard, clock)
            if old is not None:
                old.cancel()
            old = scope
            await watched.changed()


async def _open(
    tasks: TaskGroup, session: Session, watched: Watched, heard: Heard, clock: Clock
) -> anyio.CancelScope | None:
    wanted = _wanted(session, watched)
    if not wanted:
        return None
    scope: anyio.CancelScope = await tasks.start(_keep_open, session, wanted, heard, clock)
    return scope


async def _keep_open(
    session: Session,
    wanted: Params,
    heard: Heard,
    clock: Clock,
    *,
    task_status: TaskStatus[anyio.CancelScope] = anyio.TASK_STATUS_IGNORED,
) -> None:
    told = False
    with anyio.CancelScope() as scope:
        while True:
            stream = _Stream(heard)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_until_ended, session, wanted, stream, tasks.cancel_scope)
                if not told:
                    with anyio.move_on_after(AGAIN):
                        await stream.acknowledged.wait()
                    task_status.started(scope)
                    told = True
            # What changed while no stream was open is not told again, so whoever listens must look for himself.
            heard("notifications/tools/list_changed", None)
            await clock.sleep(AGAIN)


async def _until_ended(session: Session, wanted: Params, stream: _Stream, scope: anyio.CancelScope) -> None:
    try:
        await session.request(Call(session.name, LISTEN, {"notifications": wanted}, back=stream))
    except Rejected as error:
        log.info("upstream.listen.refused", upstream=session.name, code=error.jsonrpc, error=error.message)
        stream.acknowledged.set()
        await anyio.sleep_forever()
    except UpstreamError as error:
        log.debug("upstream.listen.lost", upstream=session.name, error=error.message)
    scope.cancel()


def _wanted(session: Session, watched: Watched) -> dict[str, Json]:
    wanted: dict[str, Json] = {}
    for flag, capability in _FLAGS.items():
        offered = session.negotiated.capabilities.get(capability)
        if isinstance(offered, Mapping) and offered.get("listChanged"):
            wanted[flag] = True
    if len(watched) and _can_subscribe(session):
        wanted["resourceSubscriptions"] = list(watched)
    return wanted


def _can_subscribe(session: Session) -> bool:
    offered = session.negotiated.capabilities.get("resources")
    return isinstance(offered, Mapping) and offered.get("subscribe") is True
