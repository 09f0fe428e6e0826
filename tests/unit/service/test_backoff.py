"""Exponential backoff with full jitter (proxy/service/backoff.py)."""

from hypothesis import given
from hypothesis import strategies as st

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
