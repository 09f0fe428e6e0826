"""What was called, how it went and how long it took: counters in memory, per tool and per upstream.

Theory of operation. Each tool of each upstream has one series; what an upstream did altogether is the sum of its
series, made when somebody asks. Latencies are counted in buckets which grow by a fifth each, so a percentile is exact
to about a tenth, costs one binary search a call, and needs no samples to be kept. Everything counts since the start.
"""

import math
import time
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import copy
from dataclasses import dataclass
from typing import Any, Final

FASTEST: Final = 50e-6
"""The upper bound of the first bucket, in seconds."""
GROWTH: Final = 1.189207115002721  # the fourth root of two
HALF_STEP: Final = math.sqrt(GROWTH)
BUCKETS: Final = 100
"""Enough for 27 minutes; the last bucket has everything beyond."""
BOUNDS: Final = tuple(FASTEST * GROWTH**number for number in range(BUCKETS - 1))
"""Upper bounds of all buckets but the last, in seconds."""

MAX_SERIES: Final = 4096
"""Series that are kept; further tools of an upstream share one."""
OTHERS: Final = "(others)"

CANCELLED: Final = "cancelled"
"""The code of calls whose downstream left: neither successes nor failures."""


class Series:
    """The calls of one tool. Mutable state: counts only."""

    __slots__ = ("buckets", "calls", "failures", "last", "longest", "successes", "sum", "timed")

    def __init__(self) -> None:
        self.calls = 0
        self.successes = 0
        self.failures: dict[str, int] = {}
        """Code -> how often."""
        self.timed = 0
        """Calls whose duration says something about the upstream."""
        self.sum = 0.0
        self.longest = 0.0
        self.buckets = [0] * BUCKETS
        self.last = 0.0
        """When the last call ended, in seconds since the epoch."""

    def quantile(self, share: float) -> float:
        """The duration in seconds that this share of the calls did not exceed; 0.0 without calls."""
        wanted, seen = share * self.timed, 0
        for number, count in enumerate(self.buckets):
            seen += count
            if count and seen >= wanted:
                middle = (BOUNDS[number] if number < len(BOUNDS) else self.longest) / HALF_STEP
                return min(middle, self.longest)
        return 0.0

    def add(self, other: "Series") -> None:
        """Count another series' calls as well."""
        self.calls += other.calls
        self.successes += other.successes
        self.timed += other.timed
        self.sum += other.sum
        self.longest = max(self.longest, other.longest)
        self.last = max(self.last, other.last)
        self.buckets = [mine + theirs for mine, theirs in zip(self.buckets, other.buckets, strict=True)]
        for code, count in other.failures.items():
            self.failures[code] = self.failures.get(code, 0) + count


@dataclass(frozen=True, slots=True)
class Summary:
    """What a series says. Durations are seconds, of calls that the upstream answered or let time out."""

    upstream: str
    tool: str
    """The tool's own name, or the method for what is no tool; empty for the upstream as a whole."""
    calls: int
    successes: int
    failures: Mapping[str, int]
    mean: float
    p50: float
    p95: float
    p99: float
    longest: float
    last: float
    """When the last call ended, in seconds since the epoch; 0.0 if there was none."""

    @property
    def rate(self) -> float:
        """The part of calls that went well, from 0 to 1, cancelled ones left out; 1 if there were none."""
        ended = self.calls - self.failures.get(CANCELLED, 0)
        return self.successes / ended if ended else 1.0


class Metrics:
    """All series. ``wall`` gives seconds since the epoch."""

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._series: dict[tuple[str, str], Series] = {}
        self.retries: dict[str, int] = {}
        """Upstream -> second and further attempts."""

    def record(self, upstream: str, tool: str, code: str | None, seconds: float | None) -> None:
        """Count a call that has ended.

        Args:
            upstream: who was called.
            tool: the tool's own name, or the method of what is no tool.
            code: why it failed; None if it did not.
            seconds: how long it took; None if that says nothing about the upstream.
        """
        series = self._series.get((upstream, tool)) or self._new(upstream, tool)
        series.calls += 1
        if code is None:
            series.successes += 1
        else:
            series.failures[code] = series.failures.get(code, 0) + 1
        series.last = self._wall()
        if seconds is not None:
            series.timed += 1
            series.sum += seconds
            if seconds > series.longest:  # noqa: PLR1730 - a call of max costs three times as much
                series.longest = seconds
            series.buckets[bisect_left(BOUNDS, seconds)] += 1

    def retried(self, upstream: str, times: int) -> None:
        """Count attempts beyond the first."""
        self.retries[upstream] = self.retries.get(upstream, 0) + times

    def forget(self, upstream: str) -> None:
        """Drop what is known of an upstream that is gone."""
        for key in [key for key in self._series if key[0] == upstream]:
            del self._series[key]
        self.retries.pop(upstream, None)

    def tools(self) -> list[Summary]:
        """A summary of each series."""
        return [_summary(upstream, tool, series) for (upstream, tool), series in self._series.items()]

    def upstreams(self) -> dict[str, Summary]:
        """A summary of each upstream as a whole."""
        whole: dict[str, Series] = {}
        for (upstream, _), series in self._series.items():
            whole.setdefault(upstream, Series()).add(series)
        return {upstream: _summary(upstream, "", series) for upstream, series in whole.items()}

    def series(self) -> Iterator[tuple[str, str, Series]]:
        """Upstream, tool or method, and counts."""
        for (upstream, tool), series in tuple(self._series.items()):
            yield upstream, tool, series

    def dump(self) -> list[dict[str, Any]]:
        """All series as plain JSON, for ``restore`` in another process."""
        return [
            {"upstream": upstream, "tool": tool, **{name: getattr(series, name) for name in Series.__slots__}}
            for (upstream, tool), series in self._series.items()
        ]

    def restore(self, dumped: Iterable[Mapping[str, Any]]) -> None:
        """Go on counting from what ``dump`` gave; what has another shape is left out."""
        for one in dumped:
            if len(one.get("buckets", ())) == BUCKETS and set(Series.__slots__) <= one.keys():
                series = self._series[str(one["upstream"]), str(one["tool"])] = Series()
                for name in Series.__slots__:
                    setattr(series, name, copy(one[name]))

    def _new(self, upstream: str, tool: str) -> Series:
        if len(self._series) >= MAX_SERIES:
            tool = OTHERS
        return self._series.setdefault((upstream, tool), Series())


def slowest(summaries: Iterable[Summary], count: int = 10) -> list[Summary]:
    """Those with the highest 95th percentile, the slowest first."""
    timed = [one for one in summaries if one.longest > 0.0]
    return sorted(timed, key=lambda one: (one.p95, one.mean), reverse=True)[:count]


def _summary(upstream: str, tool: str, series: Series) -> Summary:
    return Summary(
        upstream,
        tool,
        series.calls,
        series.successes,
        dict(series.failures),
        mean=series.sum / series.timed if series.timed else 0.0,
        p50=series.quantile(0.5),
        p95=series.quantile(0.95),
        p99=series.quantile(0.99),
        longest=series.longest,
        last=series.last,
    )
