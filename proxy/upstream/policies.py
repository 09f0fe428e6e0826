"""From the options of an upstream to the policies of its layers; None switches a layer off. Pure."""

from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from typing import Final

from proxy.config.tower import TowerConfig
from proxy.service.attempt import AttemptPolicy
from proxy.service.backoff import BackoffPolicy
from proxy.service.breaker_state import BreakerPolicy
from proxy.service.budget import BudgetPolicy
from proxy.service.bulkhead import BulkheadPolicy
from proxy.service.cache import CachePolicy
from proxy.service.deadline import DeadlinePolicy
from proxy.service.health import HealthPolicy
from proxy.service.hedge import HedgePolicy
from proxy.service.ratelimit import RatePolicy
from proxy.service.retry import RetryPolicy

MAX_TARGETS: Final = 4096
"""Names whose limits are remembered: more than an upstream has tools, but URIs come without end."""


class ByName(Mapping[str, DeadlinePolicy]):
    """Name or glob -> limits, asked by name; the first that fits counts."""

    def __init__(self, limits: Mapping[str, DeadlinePolicy]) -> None:
        self._limits = dict(limits)
        self._known: dict[str, DeadlinePolicy | None] = {}

    def __getitem__(self, name: str) -> DeadlinePolicy:
        if name not in self._known:
            if len(self._known) >= MAX_TARGETS:
                self._known.clear()
            fitting = (limits for glob, limits in self._limits.items() if name == glob or fnmatchcase(name, glob))
            self._known[name] = next(fitting, None)
        found = self._known[name]
        if found is None:
            raise KeyError(name)
        return found

    def __iter__(self) -> Iterator[str]:
        return iter(self._limits)

    def __len__(self) -> int:
        return len(self._limits)


def deadline_of(config: TowerConfig) -> DeadlinePolicy:
    """How long a call may take. Who gives a tool more time than the deadline means that it may have it."""
    limits = {
        name: DeadlinePolicy(idle=seconds, total=None if config.deadline is None else max(config.deadline, seconds))
        for name, seconds in config.timeouts.items()
    }
    return DeadlinePolicy(idle=config.timeout, total=config.deadline, targets=ByName(limits) if limits else {})


def rate_of(config: TowerConfig) -> RatePolicy | None:
    """How many calls may begin."""
    limit = config.rate_limit
    return None if limit is None else RatePolicy(rate=limit.rate, burst=limit.burst)


def bulkhead_of(config: TowerConfig) -> BulkheadPolicy:
    """How many calls run, and how many wait."""
    return BulkheadPolicy(limit=config.concurrency, queue=config.queue, wait=config.queue_wait)


def retry_of(config: TowerConfig) -> RetryPolicy | None:
    """How calls are repeated. Within the timeout, so that waiting for another attempt does not look like a hang."""
    retry = config.retry
    if retry.attempts <= 1:
        return None
    return RetryPolicy(
        attempts=retry.attempts,
        give_up=config.timeout,
        backoff=BackoffPolicy(base=retry.backoff, cap=retry.max_backoff),
        budget=BudgetPolicy(ratio=retry.budget),
    )


def attempt_of(config: TowerConfig) -> AttemptPolicy | None:
    """How long one attempt may take."""
    return None if config.attempt_timeout is None else AttemptPolicy(timeout=config.attempt_timeout)


def breaker_of(config: TowerConfig) -> BreakerPolicy | None:
    """When a link that keeps failing is left alone."""
    breaker = config.breaker
    if not breaker.enabled:
        return None
    return BreakerPolicy(
        failure_rate=breaker.failure_rate,
        window=breaker.window,
        min_calls=breaker.min_calls,
        open_for=BackoffPolicy(base=breaker.open_for, cap=breaker.max_open),
        probes=breaker.probes,
    )


def health_of(config: TowerConfig) -> HealthPolicy:
    """When an upstream that fails often is shown as degraded or in error."""
    degraded = config.degraded
    return HealthPolicy(degraded.warning, degraded.critical, degraded.min_requests, degraded.window)


def cache_of(config: TowerConfig) -> CachePolicy | None:
    """How results of reads are remembered."""
    cache = config.cache
    return None if cache is None else CachePolicy(ttl=cache.ttl, max_entries=cache.max_entries)


def hedge_of(config: TowerConfig) -> HedgePolicy | None:
    """When a read is sent a second time."""
    return None if config.hedge is None else HedgePolicy(delay=config.hedge)
