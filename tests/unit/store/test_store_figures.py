"""The figures of each agent, and of all together."""

from typing import Any

import pytest

from proxy.errors import Lost
from proxy.model import Call, Caller, Reply
from proxy.service.observe import Observation, Outcome
from proxy.store.figures import Recorder
from proxy.telemetry.metrics import Metrics


def ended(
    agent: str | None, tool: str, outcome: Outcome = Outcome.OK, seconds: float = 0.5, **more: Any
) -> Observation:
    call = Call("web", more.pop("method", "tools/call"), {}, tool, Caller(agent=agent))
    return Observation(call, outcome, seconds, 1, "upstream", 0.0, hedged=False, reply=Reply.of({}), **more)


def test_each_agent_has_its_own_figures_and_the_store_those_of_all() -> None:
    recorder = Recorder()
    for agent, tool in (("a", "find"), ("a", "find"), ("b", "find"), (None, "read")):
        recorder.observed(ended(agent, tool))
    assert {name: one.calls for name, one in recorder.tools("a").items()} == {"web.find": 2}
    assert {name: one.calls for name, one in recorder.tools("b").items()} == {"web.find": 1}
    assert {name: one.calls for name, one in recorder.tools(None).items()} == {"web.find": 3, "web.read": 1}
    assert recorder.upstreams(None)["web"].calls == 4


def test_failures_are_told_by_code_and_cancelled_calls_are_neither_good_nor_bad() -> None:
    recorder = Recorder()
    for outcome in (Outcome.OK, Outcome.TOOL_ERROR, Outcome.CANCELLED):
        recorder.observed(ended(None, "find", outcome))
    recorder.observed(ended(None, "find", Outcome.FAILED, error=Lost("gone")))
    found = recorder.tools(None)["web.find"]
    assert found.failures == {"tool-failed": 1, "cancelled": 1, "lost": 1}
    assert (found.calls, found.successes) == (4, 1)
    assert found.rate == pytest.approx(1 / 3)


def test_other_requests_are_not_counted() -> None:
    recorder = Recorder()
    recorder.observed(ended(None, "x", method="resources/read"))
    assert recorder.tools(None) == {}


def test_figures_go_on_where_they_ended() -> None:
    first = Recorder()
    first.observed(ended("a", "find", seconds=0.2))
    second = Recorder()
    second.restore(first.snapshot())
    assert second.tools("a") == first.tools("a")
    second.observed(ended("a", "find", seconds=0.4))
    assert second.tools("a")["web.find"].calls == 2
    assert second.tools(None)["web.find"].mean == pytest.approx(0.3)
    assert first.tools("a")["web.find"].calls == 1


@pytest.mark.parametrize("snapshot", [None, {}, {"format": 99}])
def test_a_snapshot_of_another_format_is_ignored(snapshot: Any) -> None:
    recorder = Recorder()
    recorder.restore(snapshot)
    assert recorder.tools(None) == {}


def test_metrics_of_another_shape_are_left_out() -> None:
    metrics = Metrics()
    metrics.restore([{"upstream": "web", "tool": "x", "buckets": [1]}])
    assert metrics.tools() == []


def test_an_agent_that_is_gone_leaves_no_figures_of_its_own() -> None:
    recorder = Recorder()
    recorder.observed(ended("a", "find"))
    recorder.forget("a")
    assert recorder.tools("a") == {}
    assert recorder.tools(None)["web.find"].calls == 1
