"""The attempt timeout: how long one try may take, so that another one still has time."""

from asyncio import CancelledError
from dataclasses import dataclass

from proxy.errors import AttemptTimeout
from proxy.model import Call, Reply
from proxy.service.base import Service
from proxy.service.clock import SYSTEM, Clock
from proxy.service.expiry import Lanes, Limit
from proxy.service.pulse import watched
from proxy.service.wording import repeat_hint, subject


@dataclass(frozen=True, slots=True)
class AttemptPolicy:
    """How long one attempt may take."""

    timeout: float = 30.0
    """Seconds without an answer or progress; stops while the upstream waits for an answer of the downstream."""
    safe_only: bool = True
    """Leave calls alone that may not be repeated: nothing is won by giving up on them before the deadline."""


class Attempt:
    """Ends attempts that take too long. Raises AttemptTimeout; the request may have run."""

    def __init__(self, policy: AttemptPolicy | None = None, *, clock: Clock = SYSTEM) -> None:
        self._policy = policy or AttemptPolicy()
        self._lanes = Lanes(clock)

    def retune(self, policy: AttemptPolicy) -> None:
        """Use another timeout from the next attempt on."""
        self._policy = policy

    def __call__(self, service: Service) -> Service:
        """Wrap a service."""

        async def run(call: Call) -> Reply:
            policy = self._policy
            if policy.safe_only and not call.safe:
                return await service(call)
            call, pulse = watched(call)
            limit = Limit(lane=self._lanes.of(policy.timeout))
            if pulse is not None:
                pulse.limits.append(limit)
            try:
                return await service(call)
            except CancelledError:
                if limit.end():
                    raise _timeout(call, policy.timeout) from None
                raise
            finally:
                limit.end()

        return run


def _timeout(call: Call, seconds: float) -> AttemptTimeout:
    return AttemptTimeout(
        f"{subject(call)} on {call.upstream}: no answer within {seconds:g} s.",
        upstream=call.upstream,
        hint=repeat_hint(call),
    )
