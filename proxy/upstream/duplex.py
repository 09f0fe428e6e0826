"""Correlation for links whose two directions are one stream each (stdio, HTTP+SSE of 2024-11-05)."""

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Mapping
from itertools import count
from typing import Any, Final

import anyio
import structlog
from anyio.abc import TaskGroup
from msgspec import UNSET

from proxy.errors import ConnectFailed, Lost, ProtocolFault, UpstreamError
from proxy.model import META_SUBSCRIPTION_ID, Backchannel, Params, Reply
from proxy.upstream.answering import Answering
from proxy.upstream.fair import here
from proxy.upstream.link import Incoming
from proxy.upstream.pending import (
    CANCELLED,
    LAG,
    PROGRESS,
    TELL_TIMEOUT,
    Pending,
    cancellation,
    own_number,
    reply_of,
    too_large,
    with_own_token,
)
from proxy.upstream.writing import written
from proxy.wire import envelope, large
from proxy.wire.envelope import Kind, Malformed, Message
from proxy.wire.large import Frame
from proxy.wire.lines import Oversized

OPENINGS: Final = ("server/discover", "initialize")
"""What begins a conversation: whoever is gone before its answer has never worked."""

_LISTEN: Final = "subscriptions/listen"

log = structlog.get_logger(__name__)


class DuplexLink(ABC):
    """A link over two one-way streams. Subclasses write frames, and hand in the frames they read.

    Mutable state: the pending requests by number, and the reason of death.
    """

    not_started = ""
    """What an operator can do when it is gone before it has answered anything."""

    def __init__(self, upstream: str, incoming: Incoming, tasks: TaskGroup, max_message: int) -> None:
        self.upstream = upstream
        self.log = log.bind(upstream=upstream)
        self._incoming = incoming
        self._tasks = tasks
        self._max_message = max_message
        self._numbers = count(1)
        self._loop = asyncio.get_running_loop()  # asking which one runs costs a system call
        self._pending: dict[int, Pending] = {}
        self._spoken: set[Pending] = set()
        """Those of which the upstream has said something before its answer; mostly none."""
        fair = here()
        self._share = fair.unasked(upstream)
        self._large = fair.large(upstream)
        self._unasked = False
        """Whether something was read that answers nothing."""
        self._answering = Answering(upstream, tasks, self._send, self._share)
        self._reason: str | None = None
        self._dead = anyio.Event()

    def _put(self, frame: bytes) -> bool:
        """Write a frame if there is room for it now; False where that takes ``_ready`` and ``_write``."""
        del frame
        return False

    @abstractmethod
    async def _ready(self) -> None:
        """Wait until there is room for a frame. Cancelled here, nothing was sent.

        Raises:
            ConnectFailed: the link died.
        """

    @abstractmethod
    async def _write(self, frame: bytes) -> None:
        """Write one frame, whole.

        Raises:
            UpstreamError: ConnectFailed if nothing of it was sent; others by what became of it.
        """

    @property
    def closed(self) -> str | None:
        """Why the link is dead, or None while it lives."""
        return self._reason

    async def wait_closed(self) -> str:
        """Wait until the link is dead and say why."""
        await self._dead.wait()
        return self._reason or ""

    def agree(self, version: str) -> None:
        """Nothing to do: a pipe names no protocol revision."""
        del version

    def listen(self) -> None:  # noqa: B027 - not abstract: most links have nothing to do
        """Nothing to do: a pipe hears everything on its one stream."""

    @property
    def attributes(self) -> bool:
        """False: nothing but progress tokens and subscription ids ties what an upstream says to a request."""
        return False

    async def request(
        self,
        method: str,
        params: Params | None,
        *,
        back: Backchannel | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Reply:
        """Send one request and wait for its answer; see ``Link.request``. ``headers`` mean nothing here."""
        del headers
        number = next(self._numbers)
        frame = written(envelope.request, number, method, with_own_token(params, back, number))
        if not (sent := self._put(frame)):
            await self._ready()
        pending = self._pending[number] = Pending(method, back, self._loop.create_future(), self._share)
        try:
            if not sent:
                await self._write(frame)
            await pending.wake
            return reply_of(pending.answer or await pending.outcome(), self.upstream)
        except UpstreamError:
            raise
        except BaseException:
            if pending.open and method != "initialize" and self.closed is None:
                self._tasks.start_soon(self._tell_cancelled, number)
            raise
        finally:
            del self._pending[number]
            self._spoken.discard(pending)
            if pending.dropped:
                self.log.warning("link.notifications.dropped", method=method, count=pending.dropped)

    async def notify(self, method: str, params: Params | None, *, headers: Mapping[str, str] | None = None) -> None:
        """Send a notification; see ``Link.notify``. ``headers`` mean nothing here."""
        del headers
        await self._send(written(envelope.notification, method, params))

    def _check_open(self) -> None:
        if (reason := self.closed) is not None:
            raise ConnectFailed(f"the connection is gone: {reason}", upstream=self.upstream)

    async def _send(self, frame: bytes) -> None:
        await self._ready()
        await self._write(frame)

    async def _tell_cancelled(self, number: int) -> None:
        with anyio.move_on_after(TELL_TIMEOUT):
            try:
                await self.notify(CANCELLED, cancellation(number))
            except UpstreamError as error:
                self.log.debug("link.cancel.undeliverable", reason=error.message)

    def _die(self, reason: str) -> None:
        """The link is dead; everybody who waits learns it. The first reason holds."""
        if self._reason is None:
            self._reason = reason
            for pending in self._pending.values():
                pending.resolve(self._lost(pending.method, reason))
            self._dead.set()

    def _lost(self, method: str, reason: str) -> Lost:
        if method in OPENINGS:
            return Lost(f"it was gone before it had answered: {reason}", upstream=self.upstream, hint=self.not_started)
        return Lost(f"the connection was lost during the call: {reason}", upstream=self.upstream)

    def _receive(self, frame: bytes | Frame) -> None:
        """Take a frame from the upstream, in the order of the wire."""
        for message in large.read(frame):
            if isinstance(message, Malformed):
                self._misread(frame, message)
            elif message.method is UNSET:
                self._answered(message)
            else:
                self._unasked = True
                self._said(message)

    def _charge(self, began: float) -> None:
        """What was read and taken since ``began`` is on the account of the share; mere answers are not."""
        if self._unasked:
            self._unasked = False
            self._share.charge(began)

    def rest(self) -> float:
        """Seconds for which nothing more is to be read: the upstream has had its share, or a downstream lags behind."""
        lags = self._answering.busy or any(pending.lags for pending in self._spoken)
        return max(LAG if lags else 0.0, self._share.rest(), self._large.rest())

    def turn(self) -> float:
        """Seconds for which it may keep the event loop to itself."""
        return self._large.reading()

    def _said(self, message: Message) -> None:
        """Take what nobody asked for."""
        if message.kind is Kind.REQUEST:
            self._answering.take(message, self._incoming.request)
        else:
            self._notified(message)

    def _receive_oversized(self, frame: Oversized) -> None:
        pending = self._pending_for(envelope.answered(frame))
        self.log.warning("link.frame.oversized", size=frame.size, limit=self._max_message, answer=pending is not None)
        if pending is not None:
            pending.resolve(too_large(self.upstream, frame.size, self._max_message))

    def _misread(self, frame: bytes | Frame, fault: Malformed) -> None:
        pending = self._pending_for(fault.id)
        if pending is None:
            self._unasked = True
            self._strange(frame)
        else:
            text = f"the answer is not a JSON-RPC message: {fault.reason}"
            pending.resolve(ProtocolFault(text, upstream=self.upstream))

    def _strange(self, frame: bytes | Frame) -> None:
        """Note a frame that is no message and answers nothing."""
        start = frame.ends.head if isinstance(frame, Frame) else frame
        self.log.warning("link.frame.strange", size=len(frame), start=start[:200].decode(errors="replace"))

    def _pending_for(self, echo: object) -> Pending | None:
        number = own_number(echo)
        return None if number is None else self._pending.get(number)

    def _answered(self, message: Message) -> None:
        number = message.id if type(message.id) is int else own_number(message.id)
        pending = None if number is None else self._pending.get(number)
        if pending is not None:
            pending.resolve(message)
        elif message.kind is Kind.ERROR and message.answers is None:
            self.log.warning("link.error.unattributed", code=message.fault.code, message=message.fault.message)
        else:
            self.log.debug("link.answer.unexpected", id=message.answers)

    def _notified(self, message: Message) -> None:
        method = str(message.method)
        try:
            params = message.decoded_params()
            if not self._attributed(method, params or {}) and not self._owned(method, params):
                self._incoming.notification(method, params)
        except Malformed as fault:
            self.log.warning("link.notification.malformed", method=method, reason=fault.reason)
        except Exception:
            # The reader must survive whatever a listener does: all other calls depend on it.
            self.log.exception("link.notification.failed", method=method)

    def _attributed(self, method: str, params: dict[str, Any]) -> bool:
        """Deliver a notification to the request it belongs to; False when it belongs to none."""
        if method == PROGRESS:
            pending = self._pending_for(params.get("progressToken"))
            token = pending.back.progress_token if pending is not None and pending.back is not None else None
            if pending is not None and token is not None:
                self._tell(pending, method, {**params, "progressToken": token})
            return True  # progress of a request that is over is of no use to anybody
        if method == CANCELLED:
            return self._cancelled(params.get("requestId"))
        meta = params.get("_meta")
        pending = self._pending_for(meta.get(META_SUBSCRIPTION_ID)) if isinstance(meta, dict) else None
        if pending is None and (owner := self._incoming.owner(method)) is not None:
            pending = next((each for each in self._pending.values() if each.back is owner), None)
        if pending is not None:
            self._tell(pending, method, params)
        return pending is not None

    def _owned(self, method: str, params: Params | None) -> bool:
        """Deliver a notification to the call that it can only be about; False when that cannot be told."""
        back = self._incoming.owner(method)
        if back is None:
            return False
        for pending in self._pending.values():
            if pending.back is back:
                self._tell(pending, method, params)
                return True
        return False

    def _tell(self, pending: Pending, method: str, params: Params | None) -> None:
        self._spoken.add(pending)
        pending.deliver(method, params)

    def _cancelled(self, number: object) -> bool:
        """The upstream gives up its own request, or ends a subscription (2026-07-28: on stdio only)."""
        if not self._answering.cancel(number):
            pending = self._pending_for(number)
            if pending is not None and pending.method == _LISTEN:
                pending.resolve(Lost("the upstream ended the subscription", upstream=self.upstream))
        return True
