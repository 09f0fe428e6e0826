"""``GET /metrics``: what Manifold counts, for Prometheus. Made from the figures in memory when somebody asks.

Imported on the first request: the client library is of no use to a Manifold that nobody scrapes.
"""

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.registry import Collector

from proxy import __version__
from proxy.model import Kind, UpstreamState
from proxy.runtime import Runtime
from proxy.service.breaker_state import State
from proxy.telemetry.metrics import BOUNDS, Series
from proxy.upstream.instances import Group

TYPE: Final = CONTENT_TYPE_LATEST

EVERY: Final = 6
"""Of our fine buckets every sixth bound is shown: each is 2.8 times the one before, from 0.1 ms to 16 min."""
_SHOWN: Final = tuple(range(EVERY - 2, len(BOUNDS), EVERY))

_CALL: Final = "tools/call"
_METHODS: Final = frozenset(
    {
        *("prompts/get", "resources/read", "completion/complete"),
        *("tasks/get", "tasks/result", "tasks/update", "tasks/cancel", "tasks/list"),
    }
)
"""What a tower counts under its method; anything else is the name of a tool."""
_OK: Final = "ok"


@dataclass(frozen=True, slots=True)
class Figures(Collector):
    """Gives the figures of a runtime to a registry. No label names a tool: there may be thousands."""

    runtime: Runtime
    sessions: int
    """Sessions of downstreams over streamable HTTP."""

    def collect(self) -> Iterable[Metric]:
        """All families."""
        info = GaugeMetricFamily("manifold_info", "Which Manifold this is.", labels=["version"])
        info.add_metric([__version__], 1)
        yield info
        yield from self._calls()
        yield from self._towers()
        yield from self._upstreams()
        yield GaugeMetricFamily("manifold_sessions", "Downstream sessions over streamable HTTP.", self.sessions)
        catalog = self.runtime.holder.current
        offered = GaugeMetricFamily("manifold_catalog_entries", "What is on offer, by kind.", labels=["kind"])
        for kind in Kind:
            offered.add_metric([kind.value], len(catalog.of(kind)))
        yield offered
        yield from self._audit()

    def _calls(self) -> Iterator[Metric]:
        calls = CounterMetricFamily(
            "manifold_calls", "Calls that have ended, by outcome.", labels=["upstream", "method", "outcome"]
        )
        latency = HistogramMetricFamily(
            "manifold_call_duration_seconds", "How long upstreams took to answer.", labels=["upstream", "method"]
        )
        whole: defaultdict[tuple[str, str], Series] = defaultdict(Series)
        for upstream, tool, series in self.runtime.registry.metrics.series():
            whole[upstream, _method(tool)].add(series)
        for (upstream, method), series in sorted(whole.items()):
            calls.add_metric([upstream, method, _OK], series.successes)
            for code, count in sorted(series.failures.items()):
                calls.add_metric([upstream, method, code], count)
            latency.add_metric([upstream, method], _buckets(series), series.sum)
        yield calls
        yield latency
        retries = CounterMetricFamily("manifold_retries", "Attempts beyond a call's first.", labels=["upstream"])
        for upstream, count in sorted(self.runtime.registry.metrics.retries.items()):
            retries.add_metric([upstream], count)
        yield retries

    def _towers(self) -> Iterator[Metric]:
        running = GaugeMetricFamily("manifold_calls_in_flight", "Calls under way.", labels=["upstream"])
        waiting = GaugeMetricFamily("manifold_calls_queued", "Calls that wait for a slot.", labels=["upstream"])
        breakers = GaugeMetricFamily(
            "manifold_breaker_state", "1 for the state that the breaker is in.", labels=["upstream", "member", "state"]
        )
        for one in self.runtime.registry:
            tower = self.runtime.registry.tower(one.name)
            if (bulkhead := tower.layers.bulkhead) is not None:
                running.add_metric([one.name], bulkhead.running)
                waiting.add_metric([one.name], bulkhead.waiting)
            for name, guard in tower.guards.items():
                breaker = guard.breaker
                for state in State if breaker is not None else ():
                    breakers.add_metric([one.name, name, state.value], breaker is not None and breaker.state is state)
        yield from (running, waiting, breakers)

    def _upstreams(self) -> Iterator[Metric]:
        states = GaugeMetricFamily(
            "manifold_upstream_state",
            "1 for the state that the upstream is in.",
            labels=["upstream", "member", "state"],
        )
        for one in self.runtime.registry:
            for member in one.upstreams if isinstance(one, Group) else (one,):
                for state in UpstreamState:
                    states.add_metric([one.name, member.name, state.value], member.state is state)
        yield states

    def _audit(self) -> Iterator[Metric]:
        journal = self.runtime.audit.journal
        if journal is not None:
            yield CounterMetricFamily("manifold_audit_lines", "Lines written to the audit log.", journal.written)
            yield CounterMetricFamily("manifold_audit_lost", "Lines that the audit log lost.", journal.lost)
            yield GaugeMetricFamily("manifold_audit_failing", "1 while it cannot be written.", bool(journal.failing))


def rendered(runtime: Runtime, sessions: int) -> bytes:
    """Everything in the text format of Prometheus."""
    registry = CollectorRegistry()
    ProcessCollector(registry=registry)
    registry.register(Figures(runtime, sessions))
    return generate_latest(registry)


def _buckets(series: Series) -> list[tuple[str, float]]:
    out: list[tuple[str, float]] = []
    count, done = 0, 0
    for index in _SHOWN:
        count += sum(series.buckets[done : index + 1])
        done = index + 1
        out.append((f"{BOUNDS[index]:.6g}", count))
    return [*out, ("+Inf", series.timed)]


def _method(tool: str) -> str:
    return tool if tool in _METHODS else _CALL
