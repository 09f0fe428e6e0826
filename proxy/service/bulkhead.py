"""The bulkhead: so many calls at once to one upstream, a bounded queue for the rest, and no more."""

import asyncio
from collections import OrderedDict
from dataclasses import dataclass

from proxy.errors import QueueFull
from proxy.model import Call, Reply
from proxy.service.base import Service
from proxy.service.clock import SYSTEM, Clock
from proxy.service.expiry import Lanes
from proxy.service.notes import noted
from proxy.service.wording import NOTHING_SENT, subject


@dataclass(frozen=True, slots=True)
class BulkheadPolicy:
    """How much of one upstream there is to go round."""

    limit: int = 64
    """Calls at once; at least one."""
    queue: int = 256
    """Calls that may wait for a slot."""
    wait: float | None = 30.0
    """Seconds that a call may wait; None leaves it to the deadline. Shorter than the deadline, so that a call which
    never began is reported as not sent."""


class _Waiter:
    """One call in the queue. Its future is done when it has a slot, and fails when it waited too long."""

    __slots__ = ("at", "future", "granted")

    def __init__(self) -> None:
        self.at = 0.0
        self.granted = False
        self.future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def grant(self) -> bool:
        if not self.future.done():
            self.granted = True
            self.future.set_result(None)
        return self.granted

    def ring(self) -> None:
        if not self.future.done():
            self.future.set_exception(TimeoutError())


class Bulkhead:
    """Admits calls up to the limit, then queues them, then refuses them with QueueFull; nothing was sent.

    Mutable state: how many slots are taken, and who waits, first come first. A slot which becomes free is handed to
    the first waiter without ever being free in between, so nobody overtakes.

    Args:
        policy: how many.
        clock: monotonic seconds.
        owner: whose limits they are, as errors say it; empty for the upstream's.
    """

    def __init__(self, policy: BulkheadPolicy | None = None, *, clock: Clock = SYSTEM, owner: str = "") -> None:
        self._policy = policy or BulkheadPolicy()
        self._owner = owner
        self._clock = clock
        self._lanes = Lanes(clock)
        self._taken = 0
        self._queue: OrderedDict[_Waiter, None] = OrderedDict()

    @property
    def running(self) -> int:
        """How many calls hold a slot."""
        return self._taken

    @property
    def waiting(self) -> int:
        """How many calls are in the queue."""
        return len(self._queue)

    def retune(self, policy: BulkheadPolicy) -> None:
        """Use other limits. More slots are handed out at once; fewer take effect as calls end."""
        self._policy = policy
        while self._taken < policy.limit and self._hand_over():
            self._taken += 1

    def __call__(self, service: Service) -> Service:
        """Wrap a service."""

        async def run(call: Call) -> Reply:
            if self._taken < self._policy.limit:
                self._taken += 1
            else:
                await self._enqueue(call)
            try:
                return await service(call)
            finally:
                self._release()

        return run

    def _release(self) -> None:
        if not self._queue or self._taken > self._policy.limit or not self._hand_over():
            self._taken -= 1

    def _hand_over(self) -> bool:
        """Give a slot to the first who waits; False if nobody does."""
        while self._queue:
            waiter, _ = self._queue.popitem(last=False)
            if waiter.grant():
                return True
        return False

    async def _enqueue(self, call: Call) -> None:
        policy = self._policy
        if len(self._queue) >= policy.queue:
            raise self._full(call, f"{self._taken} calls run and {len(self._queue)} wait")
        began, waiter = self._clock.now(), _Waiter()
        self._queue[waiter] = None
        try:
            await self._wait(waiter, policy.wait)
        except TimeoutError:
            raise self._full(call, f"no slot became free within {policy.wait:g} s") from None
        finally:
            self._queue.pop(waiter, None)
            if (notes := noted()) is not None:
                notes.queued += self._clock.now() - began

    async def _wait(self, waiter: _Waiter, seconds: float | None) -> None:
        lane = None if seconds is None else self._lanes.of(seconds)
        if lane is not None:
            lane.start(waiter)
        try:
            await waiter.future
        except asyncio.CancelledError:
            if waiter.granted:  # in the same moment: the slot goes to the next
                self._release()
            raise
        finally:
            if lane is not None:
                lane.stop(waiter)

    def _full(self, call: Call, why: str) -> QueueFull:
        whose = f" among those of {self._owner}" if self._owner else ""
        return QueueFull(
            f"{subject(call)} on {call.upstream} did not get its turn{whose}: {why}.",
            upstream=call.upstream,
            hint=f"{NOTHING_SENT} Repeat the call later, with fewer at once, or raise the concurrency of "
            f"{self._owner or 'the upstream'}.",
        )
