"""The figures of a program's calls: those of each agent for itself, and all together for the store."""

from collections.abc import Callable, Mapping
from typing import Any, Final

from proxy.errors import ManifoldError
from proxy.service.observe import Observation, Outcome
from proxy.telemetry.metrics import CANCELLED, Metrics, Summary

TOOL_ERROR: Final = "tool-failed"
"""The code of calls that the tool itself answered with an error."""

_FORMAT: Final = 1


class Recorder:
    """Hears of every call (``service.observe.Observer``); outside of a call's own time limit, so that it counts it.

    Args:
        shared: whether the figures of an upstream are for the store too.
    """

    def __init__(self, shared: Callable[[str], bool] = lambda _upstream: True) -> None:
        self._shared = shared
        self._metrics: dict[str | None, Metrics] = {None: Metrics()}

    def observed(self, observation: Observation, /) -> None:
        """Count one call of a tool; other requests are not counted."""
        call = observation.call
        if call.method != "tools/call":
            return
        code = _code(observation)
        seconds = None if code == CANCELLED else observation.seconds
        for agent in {None, call.caller.agent} if self._shared(call.upstream) else {call.caller.agent}:
            self._of(agent).record(call.upstream, call.target, code, seconds)

    def tools(self, agent: str | None) -> dict[str, Summary]:
        """The figures of each tool that an agent called, or anybody (None), as ``server.tool``."""
        return {f"{one.upstream}.{one.tool}": one for one in self._of(agent).tools()}

    def upstreams(self, agent: str | None) -> dict[str, Summary]:
        """The figures of each upstream."""
        return self._of(agent).upstreams()

    def forget(self, agent: str | None) -> None:
        """Forget an agent's figures, or everything (None)."""
        self._metrics.pop(agent, None)
        if agent is None:
            self._metrics.clear()

    def snapshot(self) -> dict[str, Any]:
        """Everything, as plain JSON."""
        named = {agent: metrics.dump() for agent, metrics in self._metrics.items() if agent is not None}
        return {"format": _FORMAT, "store": self._of(None).dump(), "agents": named}

    def restore(self, snapshot: Mapping[str, Any] | None) -> None:
        """Go on from what ``snapshot`` gave in an earlier life; one of another format is ignored."""
        if snapshot is None or snapshot.get("format") != _FORMAT:
            return
        self._of(None).restore(snapshot["store"])
        for agent, dumped in snapshot["agents"].items():
            self._of(agent).restore(dumped)

    def _of(self, agent: str | None) -> Metrics:
        return self._metrics.setdefault(agent, Metrics())


def _code(observation: Observation) -> str | None:
    match observation.outcome:
        case Outcome.OK:
            return None
        case Outcome.TOOL_ERROR:
            return TOOL_ERROR
        case Outcome.CANCELLED:
            return CANCELLED
    error = observation.error
    return error.code if isinstance(error, ManifoldError) else ManifoldError.code
