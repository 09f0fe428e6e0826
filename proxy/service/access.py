"""The access log: one structured event for a call, at its end. Which calls get one is a matter of taste."""

import time
from collections.abc import Callable
from typing import Any, Final, Literal

import structlog

from proxy.errors import ManifoldError, UpstreamError
from proxy.model import Call, Caller
from proxy.service.observe import Observation, Outcome
from proxy.telemetry.ration import Rations

log = structlog.get_logger(__name__)

Mode = Literal["off", "errors", "sampled", "all"]

SAMPLE: Final = 100
"""One of so many calls that went well gets an event, where they are sampled."""

GUESSES: Final = 20
"""Requests of one caller that lead nowhere and are told of at once; after that one in a second is."""

FAILURES: Final = (5.0, 20)
"""Failures with one code of one upstream that get an event where not all calls do: a second in the long run, and at
once. Each line costs the event loop, and whoever reads the log, more than the failure itself; the metrics count all."""

_WELL: Final = (Outcome.OK, Outcome.CANCELLED)


class AccessLog:
    """Logs ``call.done``, and ``call.refused`` for requests that lead nowhere."""

    def __init__(self, mode: Mode = "errors", clock: Callable[[], float] = time.monotonic) -> None:
        self._every = 0
        self._count = 0
        self._told = 0
        """The last error that was told of, by its identity: it is on its way outwards when ``failed`` asks."""
        self._mode: Mode = mode
        self._guesses = Rations(rate=1.0, burst=GUESSES, clock=clock)
        rate, burst = FAILURES
        self._failures = Rations(rate, burst, clock)
        self.configure(mode)

    def configure(self, mode: Mode) -> None:
        """Go over to another mode."""
        self._mode = mode
        self._every = {"off": 0, "errors": 0, "sampled": SAMPLE, "all": 1}[mode]

    def observed(self, observation: Observation, /) -> None:
        """A call has ended."""
        outcome = observation.outcome
        if outcome in _WELL:
            if not self._every:
                return
            self._count += 1
            if self._count % self._every:
                return
        elif self._mode == "off":
            return
        self._told = id(observation.error)
        more = {} if outcome in _WELL else self._more(observation.call, observation.error)
        if more is None:
            return
        say: Callable[..., Any] = log.info if outcome in (*_WELL, Outcome.TOOL_ERROR) else log.warning
        say("call.done", outcome=outcome.value, **_who(observation.call), **_how(observation), **more)

    def failed(self, call: Call, error: ManifoldError) -> None:
        """A call ends in an error: of the tower, which is told already, or of a layer around it (an agent's limits)."""
        if self._mode == "off" or id(error) == self._told:
            return
        if (more := self._more(call, error)) is not None:
            log.warning("call.done", outcome=Outcome.FAILED.value, **_who(call), **_why(error), **more)

    def refused(self, method: str, target: str, caller: Caller, error: ManifoldError) -> None:
        """A request leads nowhere that its sender may see. Who guesses on and on is not told of each time."""
        if self._mode == "off":
            return
        more = _suppressed(self._guesses.take((caller.agent, caller.principal.id)))
        if more is not None:
            log.info("call.refused", method=method, target=target[:200], agent=caller.agent, error=error.code, **more)

    def _more(self, call: Call, error: BaseException | None) -> dict[str, int] | None:
        """What an event says of those that were left out before it; None for one that is left out itself."""
        if self._mode == "all":
            return {}
        return _suppressed(self._failures.take((call.upstream, _code(error))))


def _suppressed(before: int | None) -> dict[str, int] | None:
    return {"suppressed": before} if before else None if before is None else {}


def _who(call: Call) -> dict[str, Any]:
    principal = call.caller.principal
    told = {
        "method": call.method,
        "target": (call.public or call.target)[:200],
        "upstream": call.upstream,
        "agent": call.caller.agent,
        "principal": principal.name or principal.id,
        "request": call.number,
    }
    return {key: value for key, value in told.items() if value not in (None, "")}


def _how(observation: Observation) -> dict[str, Any]:
    error = observation.error
    told: dict[str, Any] = {"ms": round(observation.seconds * 1000, 3)}
    if error is not None and observation.outcome is not Outcome.CANCELLED:
        told |= _why(error)
    if observation.attempts != 1:
        told["attempts"] = observation.attempts
    if observation.queued:
        told["queued_ms"] = round(observation.queued * 1000, 3)
    if observation.source != "upstream":
        told["source"] = observation.source
    return told


def _why(error: BaseException) -> dict[str, Any]:
    sent = {"sent": error.sent.value} if isinstance(error, UpstreamError) else {}
    return {"error": _code(error), "reason": str(error)[:400], **sent}


def _code(error: BaseException | None) -> str:
    return error.code if isinstance(error, ManifoldError) else type(error).__name__
