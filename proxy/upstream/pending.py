"""A request under way: its answer, and what is said about it meanwhile."""

import asyncio
from collections import deque
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from proxy.errors import ProtocolFault, Rejected, UpstreamError
from proxy.model import Backchannel, Params, Reply
from proxy.upstream.share import Share, Turns
from proxy.wire.envelope import Id, Kind, Message, integral
from proxy.wire.large import Scanned

PROGRESS: Final = "notifications/progress"
CANCELLED: Final = "notifications/cancelled"

TELL_TIMEOUT: Final = 2.0
"""How long, in seconds, we try to tell an upstream that we no longer wait for something."""

_MAX_WAITING: Final = 1024
"""Notifications of one call that may wait for a slow downstream; the oldest give way."""
_LAGGING: Final = _MAX_WAITING // 2

LAG: Final = 0.02
"""Seconds for which a link is not read when a downstream lags behind: as long as there is room, and no longer, so that
one which takes nothing at all does not hold up the other calls of that upstream."""


class Pending(msgspec.Struct, eq=False):
    """A request on a stream that somebody else reads.

    The reader calls ``deliver`` and ``resolve`` and never waits; the task that made the request does everything that
    takes time, in ``outcome``. So a slow downstream slows down nobody else, and no call needs a task of its own.
    """

    method: str
    back: Backchannel | None
    wake: asyncio.Future[None]
    """Done when there is something to do."""
    share: Share
    """Pays for passing notifications on."""
    dropped: int = 0
    """How many notifications gave way because the downstream was too slow."""
    answer: Message | None = None
    """The answer, if it came when nothing had to be passed on before it."""
    _box: deque[tuple[str, Params | None]] | None = None
    _outcome: Message | UpstreamError | None = None

    @property
    def open(self) -> bool:
        """Whether the answer is still to come."""
        return self._outcome is None

    @property
    def lags(self) -> bool:
        """Whether many notifications wait for the downstream, and there is room for more."""
        return self._box is not None and _LAGGING <= len(self._box) < _MAX_WAITING

    def resolve(self, outcome: Message | UpstreamError) -> None:
        """The request has its answer, or never will. The first outcome holds."""
        if self._outcome is None:
            self._outcome = outcome
            if not self._box and isinstance(outcome, Message):
                self.answer = outcome
            if not self.wake.done():
                self.wake.set_result(None)

    def deliver(self, method: str, params: Params | None) -> None:
        """A notification that belongs to this request."""
        if self.back is not None and self._outcome is None:
            if self._box is None:
                self._box = deque(maxlen=_MAX_WAITING)
            self.dropped += len(self._box) == _MAX_WAITING
            self._box.append((method, params))
            if not self.wake.done():
                self.wake.set_result(None)

    async def outcome(self) -> Message:
        """Wait for the answer, passing notifications on to the downstream in their order, all before the answer.

        Raises:
            UpstreamError: what ``resolve`` was given.
        """
        while self._outcome is None or self._box:
            if not self._box:
                await self.wake
                if self._outcome is None:
                    self.wake = self.wake.get_loop().create_future()
            if self._box and self.back is not None:
                await _pass_on(self._box, self.back, self.share)
        if isinstance(self._outcome, UpstreamError):
            raise self._outcome
        return self._outcome


async def _pass_on(box: deque[tuple[str, Params | None]], back: Backchannel, share: Share) -> None:
    turns = Turns(share)
    while box:
        await back.notify(*box.popleft())
        await turns.pause()  # a downstream that takes them at once does not make us wait


def with_own_token(params: Params | None, back: Backchannel | None, number: int) -> Params | None:
    """Params that ask for progress under a token of ours if the downstream wants any; a copy where they change.

    A token that is not ours never goes out: it could be that of another call.
    """
    wanted = back is not None and back.progress_token is not None
    meta = params.get("_meta") if params else None
    if meta is None and not wanted:
        return params  # as nearly always
    meta = meta if isinstance(meta, Mapping) else {}
    if wanted:
        return {**(params or {}), "_meta": {**meta, "progressToken": number}}
    if params and "progressToken" in meta:
        return {**params, "_meta": {key: value for key, value in meta.items() if key != "progressToken"}}
    return params


def own_number(value: object) -> int | None:
    """A request id or progress token of ours as a peer echoes it; some turn numbers into texts."""
    number = integral(value)
    if isinstance(number, str):
        return int(number) if number.isdecimal() and number.isascii() else None
    return number


def reply_of(message: Message, upstream: str) -> Reply:
    """The reply in an answer.

    Raises:
        Rejected: the answer is an error.
    """
    if message.error and message.kind is Kind.ERROR:
        fault = message.fault
        raise Rejected(fault.code, fault.message, fault.data, upstream=upstream)
    if isinstance(message, Scanned):
        return Reply(b"", body=message.body)
    return Reply(bytes(message.result))


def too_large(upstream: str, size: int, limit: int) -> ProtocolFault:
    """The fault of an answer over ``max_message``."""
    return ProtocolFault(
        f"the answer has {size} bytes, more than the {limit} allowed",
        upstream=upstream,
        hint="Raise max_message of this upstream if such answers are wanted.",
    )


def cancellation(number: Id) -> dict[str, Any]:
    """The params of ``notifications/cancelled`` for a request of ours."""
    return {"requestId": number, "reason": "the caller no longer waits for it"}
