"""The observation: exactly one for every logical call, whatever happened inside."""

from asyncio import CancelledError
from enum import StrEnum
from typing import Final, Protocol

import anyio
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


_OK: Final = Outcome.OK
_TOOL_ERROR: Final = ResultKind.TOOL_ERROR
# Looked up once: each call asks for them, and a member of an enum is slow to find.


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
    """Tells an observer about every call. An observer that raises is logged and harms no call.

    Mutable state: how many calls are under way, and an event for who waits until there are none.
    """

    def __init__(self, observer: Observer, *, clock: Clock = SYSTEM) -> None:
        self._observer = observer
        self._now = clock.now
        self._none: anyio.Event | None = None
        self.running = 0
        """How many calls are under way, those included that wait for something further in."""

    async def quiet(self) -> None:
        """Wait until no call is under way."""
        while self.running:
            self._none = self._none or anyio.Event()
            await self._none.wait()

    def __call__(self, service: Service) -> Service:
        """Wrap a service."""
        now = self._now

        async def run(call: Call) -> Reply:
            notes = Notes()
            token = NOTES.set(notes)
            self.running += 1
            began = now()
            try:
                reply = await service(call)
            except BaseException as error:
                self._tell(_failed(call, notes, now() - began, error))
                raise
            else:
                self._tell(_answered(call, notes, now() - began, reply))
                return reply
            finally:
                outer = token.old_value
                if isinstance(outer, Notes):  # observed from further out as well: the same call, the same cost
                    outer.attempts, outer.source, outer.queued = notes.attempts, notes.source, notes.queued
                NOTES.reset(token)
                self.running -= 1
                if self._none is not None and not self.running:
                    self._none.set()
                    self._none = None

        return run

    def _tell(self, observation: Observation) -> None:
        try:
            self._observer.observed(observation)
        except Exception:  # a defect of an observer must not cost a reply which the upstream has already given
            log.exception("observer.failed", upstream=observation.call.upstream)


def _answered(call: Call, notes: Notes, seconds: float, reply: Reply) -> Observation:
    outcome = Outcome.TOOL_ERROR if kind_of(reply) is _TOOL_ERROR else _OK
    return Observation(call, outcome, seconds, notes.attempts, notes.source, notes.queued, notes.hedged, None, reply)


def _failed(call: Call, notes: Notes, seconds: float, error: BaseException) -> Observation:
    outcome = _failure(error)
    return Observation(call, outcome, seconds, notes.attempts, notes.source, notes.queued, notes.hedged, error)


def _failure(error: BaseException) -> Outcome:
    if isinstance(error, Rejected):
        return Outcome.REJECTED
    return Outcome.CANCELLED if isinstance(error, CancelledError) else Outcome.FAILED
