"""The rate limit: a token bucket, and the layer which refuses what does not fit."""

from dataclasses import dataclass

from proxy.errors import RateLimited
from proxy.model import Call, Reply
from proxy.service.base import Service
from proxy.service.clock import SYSTEM, Clock
from proxy.service.wording import NOTHING_SENT


@dataclass(frozen=True, slots=True)
class RatePolicy:
    """How many calls may begin."""

    rate: float = 50.0
    """Calls per second, in the long run; more than zero."""
    burst: int = 100
    """Calls at once after a quiet time; at least one."""


class TokenBucket:
    """The pure bucket. Mutable state: the level (tokens), and when it was true. It begins full."""

    __slots__ = ("_at", "_level", "_policy")

    def __init__(self, policy: RatePolicy, now: float) -> None:
        self._policy = policy
        self._level = float(policy.burst)
        self._at = now

    def take(self, now: float) -> float:
        """Take a token and return 0.0; or take nothing and return the seconds until there is one."""
        self._fill(now)
        if self._level >= 1.0:
            self._level -= 1.0
            return 0.0
        return (1.0 - self._level) / self._policy.rate

    def level(self, now: float) -> float:
        """How many tokens there are."""
        self._fill(now)
        return self._level

    def retune(self, policy: RatePolicy, now: float) -> None:
        """Fill at another rate from now on. Tokens stay, as far as the new burst has room for them."""
        self._fill(now)
        self._policy = policy
        self._level = min(self._level, float(policy.burst))

    def _fill(self, now: float) -> None:
        if now > self._at:
            self._level = min(float(self._policy.burst), self._level + (now - self._at) * self._policy.rate)
            self._at = now


class RateLimit:
    """Refuses calls over the rate. Raises RateLimited with the seconds after which there is room; nothing was sent."""

    def __init__(self, policy: RatePolicy | None = None, *, clock: Clock = SYSTEM) -> None:
        self._now = clock.now
        self._bucket = TokenBucket(policy or RatePolicy(), clock.now())

    def retune(self, policy: RatePolicy) -> None:
        """Use another rate at once; what was spent stays spent."""
        self._bucket.retune(policy, self._now())

    def __call__(self, service: Service) -> Service:
        """Wrap a service."""

        async def run(call: Call) -> Reply:
            wait = self._bucket.take(self._now())
            if wait > 0.0:
                raise _limited(call, wait)
            return await service(call)

        return run


def _limited(call: Call, wait: float) -> RateLimited:
    return RateLimited(
        f"Too many calls to {call.upstream} at once: its configured rate is used up.",
        upstream=call.upstream,
        hint=f"{NOTHING_SENT} Repeat the call after {wait:.1f} s, or raise the upstream's rate limit.",
        retry_after=wait,
    )
