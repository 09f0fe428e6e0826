"""The breaker layer: stops calling an upstream that keeps failing, and finds out when it is back."""

from typing import Final

from proxy.errors import CircuitOpen
from proxy.model import Call, Reply
from proxy.service.base import Service
from proxy.service.breaker_state import REFUSED, BreakerPolicy, BreakerState, Changed, Permit, State
from proxy.service.clock import SYSTEM, Clock
from proxy.service.verdict import Verdict, judge
from proxy.service.wording import NOTHING_SENT

_CLOSED: Final = State.CLOSED
"""Looked up once: each call asks for it, and a member of an enum is slow to find."""


class Breaker:
    """Raises CircuitOpen while the upstream is given time to recover; nothing was sent.

    ``changed`` hears of every change of state, on the path of the call that caused it: it must neither block nor raise.
    """

    def __init__(
        self,
        policy: BreakerPolicy | None = None,
        *,
        clock: Clock = SYSTEM,
        changed: Changed | None = None,
    ) -> None:
        self._policy = policy or BreakerPolicy()
        self._now = clock.now
        self._machine = BreakerState(self._policy, changed)
        self.record = self._machine.record
        """Reports how the call ended for which a permit was given: permit, verdict, time."""

    @property
    def state(self) -> State:
        """What it does with calls now."""
        return self._machine.state

    def retry_in(self) -> float:
        """Seconds until it will try the upstream again; 0.0 unless it is open."""
        return self._machine.retry_in(self._now())

    def retune(self, policy: BreakerPolicy) -> None:
        """Use other figures at once; state and counts stay."""
        self._policy = policy
        self._machine.retune(policy, self._now())

    def probe(self) -> None:
        """Let probes through from now on if it is open: there is another link to the upstream."""
        self._machine.probe(self._now())

    def reset(self) -> None:
        """Close it: the upstream is a new one, or has just proved that it is well."""
        self._machine.reset(self._now())

    def admit(self, call: Call) -> Permit:
        """Let a call through; its end must be reported, by ``record``. Raises CircuitOpen."""
        machine = self._machine
        if machine.state is _CLOSED:
            return machine.epoch
        permit = machine.admit(self._now())
        if permit == REFUSED:
            raise _open(call, self.retry_in())
        return permit

    def __call__(self, service: Service) -> Service:
        """Wrap a service."""

        async def run(call: Call) -> Reply:
            permit = self.admit(call)
            try:
                reply = await service(call)
            except BaseException as error:
                self.record(permit, judge(error, self._policy.faults), self._now())
                raise
            self.record(permit, Verdict.SUCCESS, self._now())
            return reply

        return run


def _open(call: Call, seconds: float) -> CircuitOpen:
    when = f"in {seconds:.1f} s" if seconds > 0.0 else "as soon as the trial call that is under way has succeeded"
    return CircuitOpen(
        f"{call.upstream} has failed too often just now and is left alone for a while.",
        upstream=call.upstream,
        hint=f"{NOTHING_SENT} It will take calls again {when}; use another server's tools meanwhile.",
    )
