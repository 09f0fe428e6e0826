"""The observation: exactly one for every logical call, whatever happened inside."""

from asyncio import CancelledError
from enum import StrEnum
from typing import Protocol

import msgspec
import structlog

from proxy.errors import Rejected
from proxy.model import Call, Reply
from proxy.service.base import Service
from proxy.service.clock import SYSTEM, Clock
from proxy.service.notes import NOTES, Notes
from proxy.service.verdict import ResultKind, kind_of

log = structlog.get_logger(__name__)


class Outcome(StrEnum):
    """How a logical call ended."""

    OK = "ok"
    TOOL_ERROR = "tool_error"
    """The upstream answered with ``isError``: the tool failed, the upstream works."""
    REJECTED = "rejected"
    """The upstream answered with a JSON-RPC error."""
    FAILED = "failed"
    """There was no answer; ``error`` says why."""
    CANCELLED = "cancelled"
    """The downstream left."""


class Observation(msgspec.Struct, frozen=True):
    """One logical call, after its end."""

    call: Call
    outcome: Outcome
    seconds: float
    """From its arrival to its end, by the monotonic clock."""
    attempts: int
    source: str
    """Who answered: ``upstream``, ``cache``, or ``flight`` (shared with another call)."""
    queued: float
    """Seconds it waited for a slot."""
    hedged: bool
    error: BaseException | None = None
    reply: Reply | None = None


class Observer(Protocol):
    """Who hears about calls: metrics, access log, health, traces."""

    def observed(self, observation: Observation, /) -> None:
        """Take note. Runs on the call's path: no I/O, no waiting."""
        ...


class Observe:
    """Tells an observer about every call. An observer that raises is logged and harms no call."""

    def __init__(self, observer: Observer, *, clock: Clock = SYSTEM) -> None:
        self._observer = observer
        self._now = clock.now

    def __call__(self, service: Service) -> Service:
        """Wrap a service."""
        now = self._now

        async def run(call: Call) -> Reply:
            notes = Notes()
            token = NOTES.set(notes)
            began = now()
            try:
                reply = await service(call)
            except BaseException as error:
                self._tell(_ended(call, notes, now() - began, error=error))
                raise
            else:
                self._tell(_ended(call, notes, now() - began, reply=reply))
                return reply
            finally:
                outer = token.old_value
                if isinstance(outer, Notes):  # observed from further out as well: the same call, the same cost
                    outer.attempts, outer.source, outer.queued = notes.attempts, notes.source, notes.queued
                NOTES.reset(token)

        return run

    def _tell(self, observation: Observation) -> None:
        try:
            self._observer.observed(observation)
        except Exception:  # a defect of an observer must not cost a reply which the upstream has already given
            log.exception("observer.failed", upstream=observation.call.upstream)


def _ended(
    call: Call, notes: Notes, seconds: float, *, error: BaseException | None = None, reply: Reply | None = None
) -> Observation:
    outcome = _failure(error) if reply is None else _success(reply)
    return Observation(
        call, outcome, seconds, notes.attempts, notes.source, notes.queued, notes.hedged, error=error, reply=reply
    )


def _success(reply: Reply) -> Outcome:
    return Outcome.TOOL_ERROR if kind_of(reply) is ResultKind.TOOL_ERROR else Outcome.OK


def _failure(error: BaseException | None) -> Outcome:
    if isinstance(error, Rejected):
        return Outcome.REJECTED
    return Outcome.CANCELLED if isinstance(error, CancelledError) else Outcome.FAILED
