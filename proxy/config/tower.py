"""What a configuration says about the tower of one upstream. Durations are seconds."""

from collections.abc import Mapping
from typing import Annotated, Final, Self

from pydantic import BeforeValidator, Field, model_validator
from pydantic_core import PydanticCustomError

from proxy.config.base import Model
from proxy.config.units import Duration, Size, Whole, number

Share = Annotated[float, BeforeValidator(number), Field(gt=0, le=1)]
"""A part of one."""


class RateLimitConfig(Model):
    """How many calls may begin."""

    rate: Annotated[float, BeforeValidator(number), Field(gt=0, le=1_000_000)] = 50.0
    """Calls per second, in the long run."""
    burst: Whole = Field(default=100, ge=1, le=1_000_000)
    """Calls at once after a quiet time."""


class RetryConfig(Model):
    """How calls are repeated that were certainly not executed, or that do no harm when they run twice."""

    attempts: Whole = Field(default=3, ge=1, le=20)
    """Tries altogether, the first included; 1 switches repeating off."""
    backoff: Duration = 0.1
    """The longest first wait, in seconds; it doubles with each attempt, and any part of it may be waited."""
    max_backoff: Duration = 2.0
    """The longest wait of all, in seconds."""
    budget: Annotated[float, BeforeValidator(number), Field(ge=0, le=1)] = 0.2
    """Repetitions per call in the long run, so that an upstream that is down is not asked thrice as much."""


class BreakerConfig(Model):
    """When an upstream that keeps failing is left alone, and when it is tried again."""

    enabled: bool = True
    """Whether there is a breaker at all."""
    failure_rate: Share = 0.5
    """The share of failures at which it opens."""
    window: Duration = 30.0
    """The time over which outcomes are counted, in seconds."""
    min_calls: Whole = Field(default=10, ge=1, le=1_000_000)
    """Fewer outcomes than these are no reason to open."""
    open_for: Duration = 5.0
    """How long it stays open at first, in seconds; each relapse doubles it."""
    max_open: Duration = 60.0
    """The longest it stays open, in seconds."""
    probes: Whole = Field(default=2, ge=1, le=1000)
    """Calls that must succeed before it closes."""


class DegradedConfig(Model):
    """When an upstream counts as degraded (warning) or in error (critical). Its calls go on in both."""

    warning: Share = 0.3
    """The share of failed calls at which it is degraded."""
    critical: Share = 0.5
    """The share of failed calls at which it is in error."""
    min_requests: Whole = Field(default=10, ge=1, le=1_000_000)
    """Fewer calls than these are no reason for either."""
    window: Duration = 60.0
    """The time over which calls are counted, in seconds."""

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.warning > self.critical:
            what = {"what": "has a warning above critical", "hint": "degraded comes before error"}
            raise PydanticCustomError("rule", "{what}", what)
        return self


class CacheConfig(Model):
    """How results of read-only tools, of resources and prompts are remembered."""

    ttl: Duration = 60.0
    """How long a result is used again, in seconds."""
    max_entries: Whole = Field(default=1024, ge=1, le=1_000_000)
    """How many results are kept."""


class TowerConfig(Model):
    """How calls to one upstream are limited, repeated, and kept from doing harm."""

    timeout: Duration = 60.0
    """The longest silence of one call, in seconds; progress begins it anew, a question to the client stops it."""
    timeouts: Mapping[str, Duration] = Field(default_factory=dict)
    """Other timeouts for single tools: own name or glob, and seconds; the first that fits counts."""
    deadline: Duration | None = 600.0
    """The longest one call may take altogether, in seconds, without the time its questions to the client take."""
    attempt_timeout: Duration | None = None
    """The silence after which one attempt of a repeatable call is given up and made again; by default never."""
    concurrency: Whole = Field(default=64, ge=1, le=100_000)
    """How many calls may be under way at once."""
    queue: Whole = Field(default=256, ge=0, le=1_000_000)
    """How many calls may wait for a place."""
    queue_wait: Duration = 30.0
    """The longest a call may wait for a place, in seconds."""
    rate_limit: RateLimitConfig | None = None
    """How many calls may begin; by default any number."""
    retry: RetryConfig = RetryConfig()
    """How calls are repeated where that is safe."""
    breaker: BreakerConfig = BreakerConfig()
    """When an upstream that keeps failing is left alone."""
    degraded: DegradedConfig = DegradedConfig()
    """When an upstream that fails often is shown as degraded or in error."""
    max_result: Size | None = None
    """The largest result that is passed on, in bytes; by default whatever fits into a message (`max_message`)."""
    cache: CacheConfig | None = None
    """How results of reads are remembered; by default not at all."""
    coalesce: bool = False
    """Whether equal reads at the same time are sent once."""
    hedge: Duration | None = None
    """The time after which a read that has no answer yet is sent a second time, in seconds; by default never."""


PARTS: Final[Mapping[str, type[Model]]] = {
    "rate_limit": RateLimitConfig,
    "retry": RetryConfig,
    "breaker": BreakerConfig,
    "degraded": DegradedConfig,
    "cache": CacheConfig,
}
"""Option of an upstream -> what it is made of."""
