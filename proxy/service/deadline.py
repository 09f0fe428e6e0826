"""The deadline layer: how long a downstream waits for one call, whatever happens inside."""

import math
from asyncio import CancelledError
from collections.abc import Mapping
from dataclasses import dataclass, field

from proxy.errors import DeadlineExceeded
from proxy.model import Call, Reply, Sent
from proxy.service.base import Service
from proxy.service.clock import SYSTEM, Clock, Timer
from proxy.service.expiry import Lane, Lanes, Limit
from proxy.service.notes import noted
from proxy.service.pulse import watched
from proxy.service.wording import NOTHING_SENT, repeat_hint, subject


@dataclass(frozen=True, slots=True)
class DeadlinePolicy:
    """Seconds; None switches a limit off.

    The two follow the specification's advice (2025-06-18, basic/lifecycle: timeouts): progress may restart the clock,
    and a maximum holds all the same.
    """

    idle: float | None = 60.0
    """Without an answer or progress. Stops while the upstream waits for an answer of the downstream."""
    total: float | None = 600.0
    """Altogether, without the time for which it waits for answers of the downstream. Progress does not move it."""
    question: float = 900.0
    """The longest for which a question to the downstream may stay open."""
    targets: Mapping[str, "DeadlinePolicy"] = field(default_factory=dict)
    """Other limits for single tools, by the upstream's own name."""


class Deadline:
    """Ends calls that take too long. Raises DeadlineExceeded; the request may have run."""

    def __init__(self, policy: DeadlinePolicy | None = None, *, clock: Clock = SYSTEM) -> None:
        self._policy = policy or DeadlinePolicy()
        self._clock = clock
        self._lanes = Lanes(clock)

    def retune(self, policy: DeadlinePolicy) -> None:
        """Use other limits from the next call on."""
        self._policy = policy

    def __call__(self, service: Service) -> Service:
        """Wrap a service."""

        async def run(call: Call) -> Reply:
            policy = self._policy
            if policy.targets:
                policy = policy.targets.get(call.target, policy)
            seconds = policy.total if policy.idle is None else policy.idle
            if seconds is None:
                return await service(call)
            call, pulse = watched(call)
            limit = _Deadline(self._lanes.of(seconds), policy, self._clock)
            if pulse is not None and policy.idle is not None:
                pulse.limits.append(limit)
            try:
                return await service(call)
            except CancelledError:
                if limit.end():
                    raise _exceeded(call, limit) from None
                raise
            finally:
                limit.end()

        return run


class _Deadline(Limit):
    """The idle limit; from the first sign of life on, with a timer of its own for the total.

    ``exceeded`` says which limit ran out, in seconds. A question stops both, for whoever is asked may be a person; it
    has a limit of its own.
    """

    __slots__ = ("_cap", "_clock", "_last", "_left", "_question", "_total", "exceeded")

    def __init__(self, lane: Lane, policy: DeadlinePolicy, clock: Clock) -> None:
        super().__init__(lane)
        self._clock = clock
        self._total = math.inf if policy.total is None else policy.total
        self._last = self.at - lane.seconds + self._total
        self._question = policy.question
        self._left = 0.0
        self.exceeded = lane.seconds
        self._cap: Timer | None = None
        if self._last < self.at:
            self._bound()

    def touch(self) -> None:
        """Progress: begin the idle time again."""
        self._bound()
        super().touch()

    def hold(self) -> None:
        """A question to the downstream: nothing else counts until it is answered."""
        if not (self._held or self._ended):
            now = self._clock.now()
            self._left = self._last - now
            self._unbind()
            self._cap = self._clock.call_at(now + self._question, self._ring_question)
        super().hold()

    def resume(self) -> None:
        """An answer: go on with what was left."""
        if self._held == 1:
            self._last = self._clock.now() + self._left
            self._unbind()
        super().resume()
        self._bound()

    def end(self) -> bool:
        """The call is over."""
        self._unbind()
        return super().end()

    def _bound(self) -> None:
        if self._cap is None and self._last < math.inf and not (self._ended or self._held):
            self._cap = self._clock.call_at(self._last, self._ring_last)

    def _unbind(self) -> None:
        if self._cap is not None:
            self._cap.cancel()
            self._cap = None

    def _ring_question(self) -> None:
        self.exceeded = self._question
        self.ring()

    def _ring_last(self) -> None:
        self.exceeded = self._total
        self.ring()


def _exceeded(call: Call, limit: _Deadline) -> DeadlineExceeded:
    what = f"{subject(call)} on {call.upstream}: no answer within {limit.exceeded:g} s."
    if (notes := noted()) is None or notes.sent is not Sent.NO:
        return DeadlineExceeded(what, upstream=call.upstream, hint=repeat_hint(call))
    why = "The server was not ready to take the call; try again later."
    error = DeadlineExceeded(what, upstream=call.upstream, hint=f"{NOTHING_SENT} {why}")
    error.sent = Sent.NO
    return error
