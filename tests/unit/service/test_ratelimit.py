"""The rate limit (proxy/service/ratelimit.py)."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from proxy.errors import RateLimited
from proxy.model import Sent
from proxy.service.ratelimit import RateLimit, RatePolicy, TokenBucket
from tests.support.clock import ManualClock
from tests.support.services import OK, Scripted, make_call

POLICIES = st.builds(RatePolicy, rate=st.floats(0.1, 1000.0), burst=st.integers(1, 50))


class BucketMachine(RuleBasedStateMachine):
    """The bucket against its promise: never more than burst + rate x time, and never less either."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 100.0
        self.policy = RatePolicy(rate=10.0, burst=5)
        self.bucket = TokenBucket(self.policy, self.now)
        self.allowance = 5.0

    @rule(seconds=st.floats(0.0, 20.0))
    def wait(self, seconds: float) -> None:
        before, self.now = self.now, self.now + seconds
        self.allowance = min(float(self.policy.burst), self.allowance + (self.now - before) * self.policy.rate)

    @rule()
    def take(self) -> None:
        wait = self.bucket.take(self.now)
        if wait == 0.0:
            assert self.allowance >= 1.0 - 1e-6
            self.allowance -= 1.0
        else:
            assert self.allowance < 1.0 + 1e-6
            assert wait * self.policy.rate == pytest.approx(1.0 - self.allowance, abs=1e-6)

    @rule()
    def take_after_the_wait_it_asks_for(self) -> None:
        wait = self.bucket.take(self.now)
        self.allowance -= wait == 0.0
        if wait:
            self.wait(wait + 1e-6)
            assert self.bucket.take(self.now) == 0.0
            self.allowance -= 1.0

    @rule(policy=POLICIES)
    def retune(self, policy: RatePolicy) -> None:
        self.bucket.retune(policy, self.now)
        self.policy = policy
        self.allowance = min(self.allowance, float(policy.burst))

    @rule(seconds=st.floats(0.0, 20.0))
    def time_that_goes_back_counts_as_none(self, seconds: float) -> None:
        assert self.bucket.level(self.now - seconds) == pytest.approx(self.bucket.level(self.now), abs=1e-6)

    @invariant()
    def the_level_is_what_is_allowed(self) -> None:
        assert self.bucket.level(self.now) == pytest.approx(self.allowance, abs=1e-4)
        assert 0.0 <= self.bucket.level(self.now) <= self.policy.burst


TestBucket = BucketMachine.TestCase


async def test_calls_over_the_rate_are_refused_with_the_time_to_wait() -> None:
    clock, upstream = ManualClock(), Scripted()
    service = RateLimit(RatePolicy(rate=2.0, burst=3), clock=clock)(upstream)
    for _ in range(3):
        assert await service(make_call()) is OK

    with pytest.raises(RateLimited) as caught:
        await service(make_call())

    assert caught.value.retry_after == pytest.approx(0.5)
    assert caught.value.sent is Sent.NO
    assert len(upstream.calls) == 3
    await clock.advance(0.5)
    assert await service(make_call()) is OK


async def test_retuning_keeps_what_was_spent() -> None:
    clock = ManualClock()
    limit = RateLimit(RatePolicy(rate=1.0, burst=2), clock=clock)
    service = limit(Scripted())
    for _ in range(2):
        await service(make_call())

    limit.retune(RatePolicy(rate=10.0, burst=100))

    with pytest.raises(RateLimited) as caught:
        await service(make_call())
    assert caught.value.retry_after == pytest.approx(0.1)
