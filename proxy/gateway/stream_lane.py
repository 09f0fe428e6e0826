"""The express lane of a downstream to which everything is said on one stream: hot requests, on bytes.

It looks at each message before the SDK does. What it can serve completely (a hot method, nothing to find fault with) it
takes; all else is the SDK's, untouched, and so is every message until the SDK has opened the connection. What is said
on the way of a call, and its answer, leave by the same outlet as what the SDK says (docs/decisions/0006).

How messages come and leave is the door's (``stdio_lane.py``, ``sse_lane.py``).
"""

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any, Final

import anyio
import msgspec
import structlog
from mcp.server.connection import Connection
from mcp_types import CONNECTION_CLOSED

from proxy.errors import INTERNAL_ERROR
from proxy.gateway.answerer import HANDSHAKE_HOT, PING, Answerer, question
from proxy.gateway.downstream import Who
from proxy.gateway.onlane import OnLane, token_of
from proxy.gateway.opened import Open
from proxy.gateway.outlet import Outlet
from proxy.gateway.pieces import Parts
from proxy.model import META_VERSION, Caller, Params
from proxy.runtime import Runtime
from proxy.wire import envelope
from proxy.wire.asked import Asked, plain

log = structlog.get_logger(__name__)

CANCELS: Final = "notifications/cancelled"
ROOTS: Final = "notifications/roots/list_changed"
STOP: Final = 2.0
"""Seconds that what is under way may take to end."""

Begin = Callable[[], object]
"""Serves a message that was looked at. A ``Request``, if it is one."""


class StreamLane:
    """Serves the hot requests of one downstream.

    Args:
        runtime: the upstreams.
        answerer: knows the answers.
        outlet: where everything leaves.
    """

    def __init__(self, runtime: Runtime, answerer: Answerer, outlet: Outlet) -> None:
        self._runtime = runtime
        self._answerer = answerer
        self.outlet = outlet
        """Where everything leaves."""
        self.session: Open | None = None
        """Of the handshake era."""
        self.running: dict[object, Request] = {}
        """By the id, as the SDK compares ids."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._over = False

    def opened(self, connection: Connection) -> None:
        """A handshake is complete: its client may be served, and told of changes."""
        if self.session is None:
            self.session = Open("", "", lambda _session: None)
        self.session.connection = connection

    async def end(self) -> None:
        """End what is under way: it is answered with an error. Nothing is begun any more."""
        self._over = True
        for task in self._tasks:
            task.cancel()
        with anyio.move_on_after(STOP, shield=True):
            if self._tasks:
                await asyncio.wait(self._tasks)

    # -- messages ------------------------------------------------------------------------------------------------------

    def look(self, text: bytes, who: Who) -> Begin | None:
        """What serves a message; or None: it was not touched, and is the SDK's.

        Args:
            text: the message. Nobody has to look at how deeply it is nested any more.
            who: whom it is from.
        """
        if not self._ready:
            return None
        asked = plain(text)
        if asked is not None:
            return self._asked(asked, who)
        try:
            message = envelope.decode(text)
            if message.id is msgspec.UNSET:
                return self._noted(message, message.decoded_params() or {}, who)
            if message.method is msgspec.UNSET:
                return self.answered(message)
            return self._asked(Asked.of(message), who)
        except envelope.Malformed:
            return None

    def answered(self, message: envelope.Message) -> Begin | None:
        """What takes the answer to a question of this lane."""
        asked = None if self.session is None else self.session.questions.get(str(message.id))
        return None if asked is None else partial(_settle, asked, message)

    def _asked(self, asked: Asked, who: Who) -> "Request | None":
        key = _coerced(asked.id)
        if key is None or key in self.running or self._was_answered(asked.id):
            return None
        caller = self._caller(asked, who)
        return None if caller is None else Request(self, asked, key, caller)

    def _noted(self, message: envelope.Message, params: Params, who: Who) -> Begin | None:
        """A notification: that a request of this lane is given up, or that roots have changed."""
        if message.method == CANCELS:
            request = self.running.get(_coerced(params.get("requestId")))
            return None if request is None else request.give_up
        if message.method == ROOTS and self.session is not None and not params:
            # Here, for otherwise a call that comes next would overtake it.
            return partial(self._tell_roots, self.session.caller(who))
        return None

    @property
    def _ready(self) -> bool:
        """Whether the SDK has opened the connection."""
        connection = None if self.session is None else self.session.connection
        return connection is not None and connection.initialize_accepted

    def _was_answered(self, _number: object) -> bool:
        """Whether a request with this id was answered before it came here."""
        return False

    def _caller(self, asked: Asked, who: Who) -> Caller | None:
        """Who asks; None if nothing of this is to be served here."""
        meta = asked.params.get("_meta")
        version = meta.get(META_VERSION) if isinstance(meta, dict) else None
        fit = asked.method in HANDSHAKE_HOT and version is None and not (asked.method == PING and asked.params)
        return self.session.caller(who) if fit and self.session is not None else None

    # -- requests ------------------------------------------------------------------------------------------------------

    def begin(self, request: "Request") -> None:
        """Serve a request."""
        if not self._over:
            self.running[request.key] = request
            request.task = self._start(self._serve(request), partial(self._ended, request))

    def _start(
        self, work: Coroutine[Any, Any, None], ended: Callable[[asyncio.Task[None]], None]
    ) -> asyncio.Task[None]:
        # Owned by the lane: ``end`` does not return before they have ended.
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(ended)
        return task

    async def _serve(self, request: "Request") -> None:
        if self.outlet.crowded:
            await self.outlet.room()  # who does not read what was answered gets no more of it
        await self._answerer.answer(request, request.asked)

    def _ended(self, request: "Request", task: asyncio.Task[None]) -> None:
        """A request is over; nobody waits for an answer that does not come."""
        self._tasks.discard(task)
        fault = None if task.cancelled() else task.exception()
        if fault is not None:
            log.error("downstream.request.failed", method=request.asked.method, exc_info=fault)
        if request.open:
            code, text = (
                (CONNECTION_CLOSED, "Connection closed") if fault is None else (INTERNAL_ERROR, "Internal error")
            )
            request.answer(envelope.error(request.asked.id, code, text))

    def _tell_roots(self, caller: Caller) -> None:
        if not self._over:
            self._start(self._runtime.roots_changed(caller), self._told)

    def _told(self, task: asyncio.Task[None]) -> None:
        """The upstreams know that roots have changed, or not."""
        self._tasks.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None:
            log.error("downstream.roots.untold", exc_info=fault)


class Request(OnLane):
    """One request on the lane. Called, it begins."""

    open = True
    """Whether it is to be answered yet."""
    task: "asyncio.Task[None] | None" = None

    def __init__(self, lane: StreamLane, asked: Asked, key: int | str, caller: Caller) -> None:
        self.caller = caller
        self.progress_token = token_of(asked.params)
        self.session = lane.session
        if lane.session is not None:
            self.asking = question
        self.asked = asked
        self.key = key
        self._lane = lane

    def __call__(self) -> None:
        """Begin."""
        self._lane.begin(self)

    async def event(self, frame: bytes | Parts) -> None:
        """Send a message that belongs to it, and wait until there is room for another one."""
        await self._lane.outlet.send(frame, self.upstream)

    async def finish(self, frame: bytes | Parts, status: int = 200) -> None:
        """Send the answer; it has no status of its own."""
        del status
        self.answer(frame)

    def finish_at_once(self, frame: bytes | Parts, status: int = 200) -> bool:
        """The same: nobody waits for the reader."""
        del status
        self.answer(frame)
        return True

    def answer(self, frame: bytes | Parts) -> None:
        """Send the answer, unless it is not wanted any more. From now on nothing can cancel it."""
        if self.open:
            self._close()
            self._lane.outlet.put(frame, self.upstream)

    def abandon(self, key: str) -> None:
        """Take a question back."""
        self._lane.outlet.put(envelope.notification(CANCELS, {"requestId": key, "reason": "caller cancelled"}))

    def give_up(self) -> None:
        """Its downstream does not want the answer any more."""
        self._close()
        if self.task is not None:
            self.task.cancel()

    def _close(self) -> None:
        self.open = False
        self.asking = None
        if self._lane.running.get(self.key) is self:
            del self._lane.running[self.key]


def _settle(asked: "asyncio.Future[envelope.Message]", message: envelope.Message) -> None:
    if not asked.done():
        asked.set_result(message)


def _coerced(number: object) -> int | str | None:
    """An id as the SDK compares them: a text of digits is a number. None for what is no id."""
    if isinstance(number, str):
        try:
            return int(number)
        except ValueError:
            return number
    return number if isinstance(number, int) and not isinstance(number, bool) else None
