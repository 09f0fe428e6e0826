"""Health by error rate (proxy/service/health.py)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.service.health import Health, HealthPolicy, HealthStatus
from proxy.service.verdict import Verdict


def fed(good: int, bad: int, neither: int = 0) -> Health:
    health = Health()
    for verdict, count in ((Verdict.SUCCESS, good), (Verdict.FAILURE, bad), (Verdict.NEITHER, neither)):
        for _ in range(count):
            health.record(verdict, 0.0)
    return health


@pytest.mark.parametrize(
    ("good", "bad", "status"),
    [
        (0, 0, HealthStatus.ACTIVE),
        (0, 9, HealthStatus.ACTIVE),
        (8, 2, HealthStatus.ACTIVE),
        (7, 3, HealthStatus.DEGRADED),
        (51, 49, HealthStatus.DEGRADED),
        (5, 5, HealthStatus.ERROR),
        (0, 10, HealthStatus.ERROR),
    ],
)
def test_the_thresholds_are_30_and_50_percent_of_at_least_ten(good: int, bad: int, status: HealthStatus) -> None:
    assert fed(good, bad).status(0.0) is status


def test_what_says_nothing_counts_nowhere() -> None:
    assert fed(0, 9, neither=100).status(0.0) is HealthStatus.ACTIVE


def test_an_upstream_recovers_as_its_failures_grow_old() -> None:
    health = fed(0, 20)
    assert health.status(30.0) is HealthStatus.ERROR
    assert health.status(61.0) is HealthStatus.ACTIVE
    assert health.error_rate(61.0) == 0.0


def test_a_restart_forgets() -> None:
    health = fed(0, 20)
    health.clear()
    assert health.status(0.0) is HealthStatus.ACTIVE


def test_retuning_keeps_what_was_counted() -> None:
    health = fed(8, 2)
    health.retune(HealthPolicy(warning=0.1, critical=0.2, window=600.0), 0.0)
    assert health.status(100.0) is HealthStatus.ERROR


def test_successes_count_in_a_window_of_another_length() -> None:
    health = fed(5, 5)
    health.retune(HealthPolicy(window=600.0), 0.0)
    assert health.status(0.0) is HealthStatus.ERROR
    for _ in range(90):
        health.record(Verdict.SUCCESS, 0.0)
    assert health.status(0.0) is HealthStatus.ACTIVE


@given(st.integers(0, 60), st.integers(0, 60))
def test_more_failures_never_look_better(good: int, bad: int) -> None:
    order = list(HealthStatus)
    health = fed(good, bad)
    before = order.index(health.status(0.0))
    health.record(Verdict.FAILURE, 0.0)
    assert order.index(health.status(0.0)) >= before
