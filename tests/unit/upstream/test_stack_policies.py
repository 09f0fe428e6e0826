"""From options to policies (proxy/upstream/policies.py)."""

from typing import Any

import pytest

from proxy.config.model import UpstreamConfig
from proxy.upstream import policies


def options(**changes: Any) -> UpstreamConfig:
    return UpstreamConfig.model_validate({"command": "x", **changes})


def test_by_default_only_what_is_right_for_a_desktop_is_on() -> None:
    config = options()
    assert policies.rate_of(config) is None
    assert policies.cache_of(config) is None
    assert policies.hedge_of(config) is None
    assert policies.attempt_of(config) is None
    assert policies.deadline_of(config).total == 600.0
    assert policies.breaker_of(config) is not None
    assert policies.retry_of(config) is not None


@pytest.mark.parametrize(
    ("tool", "idle", "total"),
    [("build", 1800.0, 1800.0), ("build_docs", 300.0, 600.0), ("other", 60.0, 600.0), ("Build", 60.0, 600.0)],
)
def test_the_first_name_or_glob_that_fits_gives_a_tool_its_limits(tool: str, idle: float, total: float) -> None:
    policy = policies.deadline_of(options(timeouts={"build": "30m", "build*": "5m"}))
    found = policy.targets.get(tool, policy)
    assert (found.idle, found.total) == (idle, total)


def test_names_without_end_do_not_fill_the_memory() -> None:
    limits = policies.deadline_of(options(timeouts={"a*": "5m"})).targets
    for number in range(2 * policies.MAX_TARGETS):
        limits.get(f"file:///{number}")
    assert isinstance(limits, policies.ByName)
    assert len(limits._known) <= policies.MAX_TARGETS


def test_without_a_deadline_a_tool_of_its_own_has_none_either() -> None:
    policy = policies.deadline_of(options(deadline=None, timeouts={"a": 5}))
    assert policy.total is None
    assert policy.targets["a"].total is None


def test_no_attempt_begins_after_the_timeout() -> None:
    policy = policies.retry_of(options(timeout="20s"))
    assert policy is not None
    assert policy.give_up == 20.0


def test_every_figure_reaches_its_policy() -> None:
    config = options(
        concurrency=3,
        queue=4,
        queue_wait="5s",
        attempt_timeout="6s",
        hedge="7s",
        rate_limit={"rate": 8, "burst": 9},
        retry={"attempts": 10, "backoff": "11s", "max_backoff": "12s", "budget": 0.13},
        breaker={"failure_rate": 0.14, "window": 15, "min_calls": 16, "open_for": 17, "max_open": 18, "probes": 19},
        degraded={"warning": 0.2, "critical": 0.21, "min_requests": 22, "window": 23},
        cache={"ttl": 24, "max_entries": 25},
    )
    bulkhead, retry, breaker = policies.bulkhead_of(config), policies.retry_of(config), policies.breaker_of(config)
    attempt, hedge, rate = policies.attempt_of(config), policies.hedge_of(config), policies.rate_of(config)
    health, cache = policies.health_of(config), policies.cache_of(config)
    assert retry is not None
    assert breaker is not None
    assert attempt is not None
    assert hedge is not None
    assert rate is not None
    assert cache is not None
    assert (bulkhead.limit, bulkhead.queue, bulkhead.wait) == (3, 4, 5.0)
    assert (attempt.timeout, hedge.delay, rate.rate, rate.burst) == (6.0, 7.0, 8.0, 9)
    assert (retry.attempts, retry.backoff.base, retry.backoff.cap, retry.budget.ratio) == (10, 11.0, 12.0, 0.13)
    assert (breaker.failure_rate, breaker.window, breaker.min_calls) == (0.14, 15.0, 16)
    assert (breaker.open_for.base, breaker.open_for.cap, breaker.probes) == (17.0, 18.0, 19)
    assert (health.warning, health.critical, health.min_requests, health.window) == (0.2, 0.21, 22, 23.0)
    assert (cache.ttl, cache.max_entries) == (24.0, 25)
