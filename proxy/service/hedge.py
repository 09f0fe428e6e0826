"""The hedge: a second attempt beside a slow first one. Opt-in, for calls that do no harm when they run twice."""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context, copy_context
from dataclasses import dataclass, field
from functools import partial

import msgspec
from anyio import CancelScope
from anyio.abc import TaskGroup

from proxy.errors import UpstreamError
from proxy.model import Call, Reply
from proxy.service.base import Service
from proxy.service.budget import Budget, BudgetPolicy
from proxy.service.clock import SYSTEM, Clock
from proxy.service.expiry import Interrupt, Lanes
from proxy.service.notes import noted
from proxy.service.pulse import Pulse, watched, with_back
from proxy.service.wording import subject

HEDGED = "manifold: the second attempt was faster"


@dataclass(frozen=True, slots=True)
class HedgePolicy:
    """When to start a second attempt."""

    delay: float = 1.0
    """Seconds after the first; about the 95th percentile of the upstream's latency is a good choice."""
    budget: BudgetPolicy = field(default_factory=lambda: BudgetPolicy(ratio=0.1, per_second=0.1, burst=5.0))
    """How many second attempts there may be."""


class Hedge:
    """Takes whichever of two attempts answers first, and cancels the other.

    The first attempt runs in the caller's task, so a call that is answered in time costs no task; the second runs in
    ``tasks``, without a backchannel. There is none once the first has put a question to the downstream. Attempts that
    fail do not win; when both fail, the error of the first goes out.
    """

    def __init__(self, tasks: TaskGroup, policy: HedgePolicy | None = None, *, clock: Clock = SYSTEM) -> None:
        self._tasks = tasks
        self._policy = policy or HedgePolicy()
        self._now = clock.now
        self._lanes = Lanes(clock)
        self._budget = Budget(self._policy.budget, clock.now())

    def retune(self, policy: HedgePolicy) -> None:
        """Use another delay from the next call on; what was spent of the budget stays spent."""
        self._policy = policy
        self._budget.retune(policy.budget, self._now())

    def __call__(self, service: Service) -> Service:
        """Wrap a service."""

        async def run(call: Call) -> Reply:
            if not call.safe:
                return await service(call)
            self._budget.deposit()
            call, pulse = watched(call)
            race = _Race(call=call, pulse=pulse, start=partial(self._second, service))
            lane = self._lanes.of(self._policy.delay)
            lane.start(race)
            try:
                return await race.first(service)
            finally:
                lane.stop(race)
                race.stop()

        return run

    def _second(self, service: Service, race: "_Race") -> None:
        if not self._budget.withdraw(self._now()):
            return
        with suppress(RuntimeError):  # the task group is closing: no second attempt then
            self._tasks.start_soon(race.second, service, name=f"hedge {subject(race.call)}")
            race.started()


class _Race(Interrupt, kw_only=True):
    """Two attempts of one call. Mutable state: whether the first still runs, and the second's result when it began."""

    call: Call
    pulse: Pulse | None
    start: Callable[["_Race"], None]
    at: float = 0.0
    # A timer's callback runs in the context of whoever armed it; the second attempt belongs to this call.
    _context: Context = msgspec.field(default_factory=copy_context)
    _first_runs: bool = True
    _result: asyncio.Future[Reply | None] | None = None
    _scope: CancelScope | None = None

    def ring(self) -> None:
        """The first attempt is slow."""
        if self.pulse is None or not self.pulse.asked:
            self._context.run(self.start, self)

    def started(self) -> None:
        """The second attempt is on its way."""
        self._result = asyncio.get_running_loop().create_future()
        self._scope = CancelScope()
        if (notes := noted()) is not None:
            notes.hedged = True

    async def first(self, service: Service) -> Reply:
        """Run the first attempt in the caller's task."""
        try:
            return await service(self.call)
        except asyncio.CancelledError:
            if self.end() and self._result is not None and (reply := self._result.result()) is not None:
                return reply
            raise
        except UpstreamError:
            self._first_runs = False
            reply = None if self._result is None else await self._result
            if reply is None:
                raise
            return reply

    async def second(self, service: Service) -> None:
        """Run the second attempt in a task of its own."""
        result, scope, reply = self._result, self._scope, None
        if result is None or scope is None:
            raise RuntimeError("The second attempt runs before it was started.")
        try:
            with scope:
                reply = None if self._ended else await service(with_back(self.call, None))
        except Exception:  # noqa: BLE001  a second attempt that fails has lost; the first one's error will tell
            reply = None
        finally:
            if not result.done():
                result.set_result(reply)
            if reply is not None and self._first_runs:
                self.cancel(HEDGED)

    def stop(self) -> None:
        """The call is over: whatever still runs has lost."""
        self.end()
        if self._scope is not None:
            self._scope.cancel()
