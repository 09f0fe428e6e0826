"""What comes on the streams of an HTTP link: sorted by the stream it came on."""

from typing import Final

import anyio
import structlog
from anyio.abc import TaskGroup

from proxy.errors import ProtocolFault
from proxy.model import Backchannel, Params
from proxy.upstream.answering import Answering
from proxy.upstream.link import Incoming
from proxy.upstream.pending import CANCELLED, LAG, PROGRESS, own_number, too_large
from proxy.wire import envelope
from proxy.wire.envelope import Kind, Malformed, Message
from proxy.wire.lines import Oversized

_STRAY_TIMEOUT: Final = 5.0
"""Seconds which a downstream may take for progress that came on a stream of somebody else."""

_MAX_STRAYS: Final = 64
"""Such notifications that may wait for their downstreams; more are dropped."""

_FOR_ALL: Final = ("/list_changed", "/resources/updated")
"""News of the upstream and of no request, whatever stream they come on: downstreams are told in our own way."""

log = structlog.get_logger(__name__)


class Inbox:
    """Takes the messages of all streams of one link.

    ``backs`` has the calls under way that asked for progress, by number: some servers send it on the GET stream.
    """

    def __init__(self, incoming: Incoming, tasks: TaskGroup, answering: Answering, upstream: str, limit: int) -> None:
        self.backs: dict[int, Backchannel] = {}
        self._incoming = incoming
        self._tasks = tasks
        self._answering = answering
        self._upstream = upstream
        self._limit = limit
        self._strays = 0
        self._dropped = 0
        self._log = log.bind(upstream=upstream)

    async def take(
        self, item: Message | Malformed | Oversized, number: int | None = None, back: Backchannel | None = None
    ) -> Message | None:
        """Take one message; return it if it answers request ``number``, whose stream it came on.

        Waits for the downstream where that is slow: nobody else's messages come on this stream.

        Raises:
            ProtocolFault: it is the answer, but cannot be used.
        """
        if not isinstance(item, Message):
            self._misread(item, number)
        elif item.kind is Kind.REQUEST:
            if self._answering.busy:
                await anyio.sleep(LAG)
            self._answering.take(item, self._incoming.request if back is None else back.ask)
        elif item.kind is Kind.NOTIFICATION:
            await self._notified(item, number, back)
        elif number is not None and own_number(item.id) == number:
            return item
        elif number is not None and item.kind is Kind.ERROR and item.answers is None:
            return item  # an error in reading the request: it has no id to name
        else:
            self._log.debug("link.answer.unexpected", id=item.answers)
        return None

    def _misread(self, item: Malformed | Oversized, number: int | None) -> None:
        oversized = isinstance(item, Oversized)
        answers = own_number(envelope.answered(item) if isinstance(item, Oversized) else item.id)
        if number is None or answers != number:
            event = "link.frame.oversized" if oversized else "link.frame.strange"
            self._log.warning(
                event, **({"size": item.size} if isinstance(item, Oversized) else {"reason": item.reason})
            )
        elif isinstance(item, Oversized):
            raise too_large(self._upstream, item.size, self._limit)
        else:
            text = f"the answer is not a JSON-RPC message: {item.reason}"
            raise ProtocolFault(text, upstream=self._upstream)

    async def _notified(self, message: Message, number: int | None, back: Backchannel | None) -> None:
        method = str(message.method)
        try:
            params = message.decoded_params()
        except Malformed as fault:
            self._log.warning("link.notification.malformed", method=method, reason=fault.reason)
            return
        if method == PROGRESS:
            await self._progressed(params or {}, number, back)
        elif method == CANCELLED:
            self._answering.cancel((params or {}).get("requestId"))
        elif back is not None and not method.endswith(_FOR_ALL):
            await back.notify(method, params)
        else:
            self._unasked(method, params)

    async def _progressed(self, params: Params, number: int | None, back: Backchannel | None) -> None:
        """Hand progress to the call it belongs to; that of a call which is over is of no use to anybody."""
        token = own_number(params.get("progressToken"))
        owner = None if token is None else self.backs.get(token)
        if owner is None:
            return
        told = {**params, "progressToken": owner.progress_token}
        if token == number and back is not None:
            await back.notify(PROGRESS, told)
        elif self._strays < _MAX_STRAYS:
            self._strays += 1
            self._tasks.start_soon(self._tell_stray, owner, told)
        else:
            self._dropped += 1

    async def _tell_stray(self, owner: Backchannel, params: Params) -> None:
        try:
            with anyio.move_on_after(_STRAY_TIMEOUT) as scope:
                await owner.notify(PROGRESS, params)
            self._dropped += scope.cancelled_caught
        finally:
            self._strays -= 1
            if self._dropped and not self._strays:
                self._log.warning("link.notifications.dropped", method=PROGRESS, count=self._dropped)
                self._dropped = 0

    def _unasked(self, method: str, params: Params | None) -> None:
        try:
            self._incoming.notification(method, params)
        except Exception:
            # The stream must survive whatever a listener does.
            log.exception("link.notification.failed", upstream=self._upstream, method=method)
