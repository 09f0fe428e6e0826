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
        self._clock = clock
        self._lanes = Lanes(clock)
        self.retune(policy or DeadlinePolicy())

    def retune(self, policy: DeadlinePolicy) -> None:
        """Use other limits from the next call on."""
        self._policy = policy
        self._lane = self._lane_of(policy)

    def __call__(self, service: Service) -> Service:
        """Wrap a service."""

        async def run(call: Call) -> Reply:
            policy, lane = self._policy, self._lane
            if policy.targets and (own := policy.targets.get(call.target)) is not None:
                policy, lane = own, self._lane_of(own)
            if lane is None:
                return await service(call)
            call, pulse = watched(call)
            limit = _Deadline(lane=lane, policy=policy, clock=self._clock, exceeded=lane.seconds)
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

    def _lane_of(self, policy: DeadlinePolicy) -> Lane | None:
        """The lane of the limit that runs out first, if nothing is heard of a call."""
        limits = [seconds for seconds in (policy.idle, policy.total) if seconds is not None]
        return self._lanes.of(min(limits)) if limits else None


class _Deadline(Limit, kw_only=True):
    """The limit that runs out first; from the first sign of life on, with a timer of its own for the total.

    ``exceeded`` says which limit ran out, in seconds. A question stops both, for whoever is asked may be a person; it
    has a limit of its own.
    """

    policy: DeadlinePolicy
    clock: Clock
    exceeded: float
    _last: float | None = None
    """When the total runs out; found out when it is needed."""
    _left: float = 0.0
    _cap: Timer | None = None

    @property
    def _total(self) -> float:
        return math.inf if self.policy.total is None else self.policy.total

    def touch(self) -> None:
        """Progress: begin the idle time again."""
        self._bound()
        super().touch()

    def hold(self) -> None:
        """A question to the downstream: nothing else counts until it is answered."""
        if not (self._held or self._ended):
            now = self.clock.now()
            self._left = self._end_of_all() - now
            self._unbind()
            self._cap = self.clock.call_at(now + self.policy.question, self._ring_question)
        super().hold()

    def resume(self) -> None:
        """An answer: go on with what was left."""
        if self._held == 1:
            self._last = self.clock.now() + self._left
            self._unbind()
        super().resume()
        self._bound()

    def end(self) -> bool:
        """The call is over."""
        if self._cap is not None:
            self._unbind()
        return Limit.end(self)

    def _end_of_all(self) -> float:
        if self._last is None:  # nothing has moved ``at`` so far
            self._last = self.at - self.lane.seconds + self._total
        return self._last

    def _bound(self) -> None:
        if self._cap is None and not (self._ended or self._held) and (last := self._end_of_all()) < math.inf:
            self._cap = self.clock.call_at(last, self._ring_last)

    def _unbind(self) -> None:
        if self._cap is not None:
            self._cap.cancel()
            self._cap = None

    def _ring_question(self) -> None:
        self.exceeded = self.policy.question
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
