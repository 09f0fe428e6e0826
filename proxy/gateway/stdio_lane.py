"""The express lane of the door on standard input and output: hot requests of both eras, on bytes.

It looks at each line before the SDK does. What it can serve completely (a hot method, nothing to find fault with) it
takes; all else is the SDK's, untouched, and so is every line until the SDK has opened the connection. What is said
on the way of a call, and its answer, leave by the same outlet as what the SDK says (docs/decisions/0006).
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, Final

import anyio
import msgspec
import structlog
from mcp.server.connection import Connection
from mcp_types import CONNECTION_CLOSED

from proxy.errors import INTERNAL_ERROR
from proxy.gateway.admission import enveloped
from proxy.gateway.answerer import HANDSHAKE_HOT, HOT, PING, Answerer, question
from proxy.gateway.downstream import Who
from proxy.gateway.onlane import OnLane, token_of
from proxy.gateway.opened import Open
from proxy.gateway.outlet import Outlet
from proxy.gateway.pieces import Parts
from proxy.gateway.remember import Remember
from proxy.model import META_VERSION, MODERN_VERSIONS, Caller, Era, Params
from proxy.runtime import Runtime
from proxy.wire import envelope
from proxy.wire.asked import Asked, plain

log = structlog.get_logger(__name__)

CANCELS: Final = "notifications/cancelled"
ROOTS: Final = "notifications/roots/list_changed"
STOP: Final = 2.0
"""Seconds that what is under way may take to end."""


class StdioLane:
    """Serves the hot requests of one downstream.

    Args:
        runtime: the upstreams.
        answerer: knows the answers.
        agent: as which agent the downstream is served.
    """

    def __init__(self, runtime: Runtime, answerer: Answerer, agent: str | None) -> None:
        self._runtime = runtime
        self._answerer = answerer
        self._who = Who(agent)
        self.outlet = Outlet()
        """Where everything leaves."""
        self.session: Open | None = None
        """Of the handshake era."""
        self._modern = False
        self.running: dict[object, _Request] = {}
        """By the id, as the SDK compares ids."""
        self._tasks: set[asyncio.Task[None]] = set()
        self._known: Callable[[object], bool] = lambda _number: False

    # -- what the SDK's side finds out ---------------------------------------------------------------------------------

    def remembered_by(self, remember: Remember) -> None:
        """Somebody remembers what lists say, and which requests were answered before they came here."""
        self._known = remember.was_answered
        self._answerer.on_listed = remember.listed

    def began(self, caller: Caller) -> None:
        """The downstream has said what it can do: the upstreams are started for it."""
        self._runtime.start(caller)
        self._modern = caller.era is Era.MODERN

    def opened(self, connection: Connection) -> None:
        """A handshake is complete: its client may be told of changes."""
        if self.session is None:
            self.session = Open("", "", lambda _session: None)
        self.session.connection = connection

    @asynccontextmanager
    async def over(self, outlet: Outlet) -> AsyncIterator[None]:
        """Serve as long as the block runs; what is under way at its end is answered with an error."""
        self.outlet = outlet
        try:
            yield
        finally:
            for task in self._tasks:
                task.cancel()
            with anyio.move_on_after(STOP, shield=True):
                if self._tasks:
                    await asyncio.wait(self._tasks)

    # -- lines ---------------------------------------------------------------------------------------------------------

    def take(self, line: bytes) -> bool:
        """Serve a line, or say that it was not touched. Nobody has to look at how deeply it is nested any more."""
        if not self._modern and (self.session is None or not self._ready(self.session)):
            return False
        text = line if isinstance(line, bytes) else bytes(line)
        asked = plain(text)
        if asked is not None:
            return self._asked(asked)
        try:
            message = envelope.decode(text)
            if message.id is msgspec.UNSET:
                return self._noted(message, message.decoded_params() or {})
            return self.answered(message) if message.method is msgspec.UNSET else self._asked(Asked.of(message))
        except envelope.Malformed:
            return False

    def _asked(self, asked: Asked) -> bool:
        key = _coerced(asked.id)
        caller = None if key is None or key in self.running or self._known(asked.id) else self._caller(asked)
        if key is None or caller is None:
            return False
        request = self.running[key] = _Request(self, asked, key, caller)
        request.task = self._start(self._serve(request), partial(self._ended, request))
        return True

    def answered(self, message: envelope.Message) -> bool:
        """Take the answer to a question of this lane."""
        asked = None if self.session is None else self.session.questions.get(str(message.id))
        if asked is not None and not asked.done():
            asked.set_result(message)
        return asked is not None

    def _noted(self, message: envelope.Message, params: Params) -> bool:
        """A notification: that a request of this lane is given up, or that roots have changed."""
        if message.method == CANCELS:
            request = self.running.get(_coerced(params.get("requestId")))
            if request is not None:
                request.give_up()
            return request is not None
        if message.method == ROOTS and self.session is not None and not params:
            # Here, for otherwise a call that comes next would overtake it.
            self._start(self._runtime.roots_changed(self.session.caller(self._who)), self._told)
            return True
        return False

    def _ready(self, session: Open) -> bool:
        return session.connection is not None and session.connection.initialize_accepted

    def _caller(self, asked: Asked) -> Caller | None:
        """Who asks; None if nothing of this is to be served here."""
        meta = asked.params.get("_meta")
        version = meta.get(META_VERSION) if isinstance(meta, dict) else None
        if self._modern:
            fit = asked.method in HOT and version in MODERN_VERSIONS
            return enveloped(meta, self._who) if fit and isinstance(meta, dict) else None
        fit = asked.method in HANDSHAKE_HOT and version is None and not (asked.method == PING and asked.params)
        return self.session.caller(self._who) if fit and self.session is not None else None

    # -- requests ------------------------------------------------------------------------------------------------------

    def _start(
        self, work: Coroutine[Any, Any, None], ended: Callable[[asyncio.Task[None]], None]
    ) -> asyncio.Task[None]:
        # Owned by ``over``, which does not end before they have.
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(ended)
        return task

    async def _serve(self, request: "_Request") -> None:
        if self.outlet.crowded:
            await self.outlet.room()  # who does not read what was answered gets no more of it
        await self._answerer.answer(request, request.asked)

    def _ended(self, request: "_Request", task: asyncio.Task[None]) -> None:
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

    def _told(self, task: asyncio.Task[None]) -> None:
        """The upstreams know that roots have changed, or not."""
        self._tasks.discard(task)
        if not task.cancelled() and (fault := task.exception()) is not None:
            log.error("downstream.roots.untold", exc_info=fault)


class _Request(OnLane):
    """One request on the lane."""

    open = True
    """Whether it is to be answered yet."""
    task: "asyncio.Task[None] | None" = None

    def __init__(self, lane: StdioLane, asked: Asked, key: int | str, caller: Caller) -> None:
        self.caller = caller
        self.progress_token = token_of(asked.params)
        self.session = lane.session
        if lane.session is not None:
            self.asking = question
        self.asked = asked
        self.key = key
        self._lane = lane

    async def event(self, frame: bytes | Parts) -> None:
        await self._lane.outlet.send(frame)

    async def finish(self, frame: bytes | Parts, status: int = 200) -> None:
        del status
        self.answer(frame)

    def finish_at_once(self, frame: bytes | Parts, status: int = 200) -> bool:
        del status
        self.answer(frame)
        return True

    def answer(self, frame: bytes | Parts) -> None:
        """Send the answer, unless it is not wanted any more. From now on nothing can cancel it."""
        if self.open:
            self._close()
            self._lane.outlet.put(frame)

    def abandon(self, key: str) -> None:
        self._lane.outlet.put(envelope.notification(CANCELS, {"requestId": key, "reason": "caller cancelled"}))

    def give_up(self) -> None:
        """Its downstream does not want the answer any more."""
        self._close()
        if self.task is not None:
            self.task.cancel()

    def _close(self) -> None:
        self.open = False
        self.asking = None
        self._lane.running.pop(self.key, None)


def _coerced(number: object) -> int | str | None:
    """An id as the SDK compares them: a text of digits is a number. None for what is no id."""
    if isinstance(number, str):
        try:
            return int(number)
        except ValueError:
            return number
    return number if isinstance(number, int) and not isinstance(number, bool) else None
