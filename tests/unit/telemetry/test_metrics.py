"""Counters and percentiles in memory (proxy/telemetry/metrics.py)."""

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.telemetry.metrics import GROWTH, MAX_SERIES, OTHERS, Metrics, slowest

DURATIONS = st.lists(st.floats(100e-6, 1000.0), min_size=1, max_size=200)


def of(durations: list[float]) -> Metrics:
    metrics = Metrics(wall=lambda: 5.0)
    for seconds in durations:
        metrics.record("up", "tool", None, seconds)
    return metrics


@given(DURATIONS)
def test_percentiles_are_right_to_the_width_of_a_bucket(durations: list[float]) -> None:
    [seen] = of(durations).tools()
    ordered = sorted(durations)
    for share, found in ((0.5, seen.p50), (0.95, seen.p95), (0.99, seen.p99)):
        rank = max(0, -int(-share * len(ordered) // 1) - 1)
        assert ordered[rank] / GROWTH <= found <= ordered[rank] * GROWTH
    assert seen.p50 <= seen.p95 <= seen.p99 <= seen.longest == ordered[-1]
    assert seen.mean == pytest.approx(statistics.fmean(durations))


@given(DURATIONS, DURATIONS)
def test_an_upstream_is_the_sum_of_its_tools(first: list[float], second: list[float]) -> None:
    metrics = Metrics(wall=lambda: 5.0)
    for tool, durations in (("a", first), ("b", second)):
        for seconds in durations:
            metrics.record("up", tool, None, seconds)
    whole, together = metrics.upstreams()["up"], of(first + second).tools()[0]
    assert (whole.calls, whole.p50, whole.p95, whole.p99) == (
        together.calls,
        together.p50,
        together.p95,
        together.p99,
    )


def test_failures_are_counted_by_their_codes_and_timed_only_where_that_means_something() -> None:
    metrics = Metrics(wall=lambda: 1.0)
    metrics.record("up", "a", None, 0.5)
    metrics.record("up", "a", "queue-full", None)
    metrics.record("up", "a", "queue-full", None)
    metrics.record("up", "a", "deadline-exceeded", 60.0)
    [seen] = metrics.tools()
    assert (seen.calls, seen.successes) == (4, 1)
    assert seen.failures == {"queue-full": 2, "deadline-exceeded": 1}
    assert (seen.mean, seen.longest, seen.last) == (30.25, 60.0, 1.0)


def test_the_slowest_come_first_and_what_was_never_timed_is_not_among_them() -> None:
    metrics = Metrics()
    for tool, seconds in (("quick", 0.001), ("slow", 2.0), ("middling", 0.1)):
        metrics.record("up", tool, None, seconds)
    metrics.record("up", "refused", "queue-full", None)
    assert [one.tool for one in slowest(metrics.tools())] == ["slow", "middling", "quick"]
    assert [one.tool for one in slowest(metrics.tools(), 1)] == ["slow"]


def test_tools_without_end_share_one_series() -> None:
    metrics = Metrics()
    for number in range(MAX_SERIES + 100):
        metrics.record("up", f"tool {number}", None, 0.1)
    seen = {one.tool: one.calls for one in metrics.tools()}
    assert len(seen) == MAX_SERIES + 1
    assert seen[OTHERS] == 100


def test_what_is_forgotten_is_gone_and_the_rest_stays() -> None:
    metrics = Metrics()
    metrics.record("a", "x", None, 0.1)
    metrics.record("b", "x", None, 0.1)
    metrics.forget("a")
    assert [one.upstream for one in metrics.tools()] == ["b"]


def test_without_calls_there_is_nothing_to_tell() -> None:
    assert Metrics().tools() == []
    assert Metrics().upstreams() == {}
