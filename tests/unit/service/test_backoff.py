"""Exponential backoff with full jitter (proxy/service/backoff.py)."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from proxy.service.backoff import BackoffPolicy, ceiling, full_jitter

POLICIES = st.builds(
    BackoffPolicy,
    base=st.floats(0.0, 100.0),
    cap=st.floats(0.0, 1000.0),
    factor=st.floats(1.0, 1000.0),
)


@given(st.integers(0, 10**9), POLICIES, st.floats(0.0, 1.0, exclude_max=True))
def test_a_wait_lies_between_nothing_and_the_ceiling_however_many_failures(
    failures: int, policy: BackoffPolicy, draw: float
) -> None:
    wait = full_jitter(failures, policy, lambda: draw)

    assert 0.0 <= wait <= ceiling(failures, policy) <= policy.cap


@given(st.integers(1, 10**6), POLICIES)
def test_ceilings_never_fall(failures: int, policy: BackoffPolicy) -> None:
    assert ceiling(failures, policy) <= ceiling(failures + 1, policy)


def test_ceilings_double_up_to_the_cap() -> None:
    policy = BackoffPolicy(base=0.5, cap=5.0, factor=2.0)

    assert [ceiling(failures, policy) for failures in range(1, 7)] == [0.5, 1.0, 2.0, 4.0, 5.0, 5.0]


def test_at_the_cap_there_is_still_full_jitter() -> None:
    policy = BackoffPolicy(base=1.0, cap=5.0)

    assert full_jitter(1000, policy, lambda: 0.0) == 0.0
    assert full_jitter(1000, policy, lambda: 0.5) == 2.5


SENSIBLE = st.builds(
    BackoffPolicy,
    base=st.just(0.0) | st.floats(1e-6, 100.0),
    cap=st.just(0.0) | st.floats(1e-6, 1000.0),
    factor=st.floats(1.0, 1000.0),
)
"""Figures of which a machine's arithmetic can tell all waits apart."""


class Failing(RuleBasedStateMachine):
    """Somebody who fails, waits, fails again and succeeds at last, under figures that may change meanwhile.

    The model multiplies the ceiling step by step, where the code computes it from the number of failures.
    """

    @initialize(policy=SENSIBLE)
    def begin(self, policy: BackoffPolicy) -> None:
        self.policy = policy
        self.failures = 0
        self.grown = 0.0
        self.last = 0.0

    @rule(draw=st.floats(0.0, 1.0, exclude_max=True))
    def fail(self, draw: float) -> None:
        self.failures += 1
        self.grown = self.policy.base if self.failures == 1 else self.grown * self.policy.factor
        highest = min(self.grown, self.policy.cap)
        found = ceiling(self.failures, self.policy)
        assert found == pytest.approx(highest, rel=1e-9)
        assert found >= self.last
        self.last = found
        wait = full_jitter(self.failures, self.policy, lambda: draw)
        assert wait == draw * found
        assert wait < found or found == 0.0

    @rule(times=st.integers(2, 50))
    def fail_again_and_again(self, times: int) -> None:
        for _ in range(times):
            self.fail(0.5)

    @rule()
    def succeed(self) -> None:
        self.failures, self.grown, self.last = 0, 0.0, 0.0
        assert ceiling(1, self.policy) == min(self.policy.base, self.policy.cap)

    @rule(policy=SENSIBLE)
    def retune(self, policy: BackoffPolicy) -> None:
        """Other figures hold at once, for the failures that there were."""
        self.policy = policy
        self.grown = policy.base
        for _ in range(self.failures - 1):
            self.grown *= policy.factor
        self.last = 0.0

    @invariant()
    def no_wait_is_longer_than_the_cap(self) -> None:
        for failures in (0, self.failures, 10**9):
            assert 0.0 <= ceiling(failures, self.policy) <= self.policy.cap


TestFailing = Failing.TestCase
TestFailing.settings = settings(max_examples=60, stateful_step_count=30, deadline=None)
