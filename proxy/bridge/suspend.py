"""Suspend: a modern downstream calls a handshake upstream, which asks back in the middle of the call.

The modern era has no requests from servers to clients. So the upstream's call goes on in a task of ours, its question
is parked, and the downstream gets ``input_required``; when it comes back with answers, the parked question gets them
and the same upstream call goes on (spec 2026-07-28, multi round-trip requests). A parked call is bound to who made it
and to what was asked; it ends when nobody comes back in time, and then the upstream is told.
"""

import secrets
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import anyio
import structlog
from anyio.abc import TaskGroup

from proxy.bridge.questions import ELICIT, check_permitted, for_modern, key_for, usable
from proxy.errors import INVALID_PARAMS, QueueFull, Rejected
from proxy.model import Backchannel, Json, Params, Reply
from proxy.service.clock import Clock

log = structlog.get_logger(__name__)

GATHER: Final = 0.02
"""Seconds after a question in which further ones are gathered into the same round."""
TTL: Final = 600.0
"""Seconds a parked call waits for its downstream."""
MAX_PARKED: Final = 1024
"""Parked calls altogether; more are refused."""
MAX_EACH: Final = 64
"""Parked calls of one downstream."""

Send = Callable[[Backchannel], Awaitable[Reply]]
"""Sends the call upstream with the given back channel."""


@dataclass(frozen=True, slots=True)
class Asked:
    """The upstream has questions: the downstream must answer them and come back with the handle."""

    handle: str
    requests: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Claim:
    """What a parked call is bound to."""

    principal: str
    digest: str


class _Question:
    def __init__(self, method: str, params: Params | None) -> None:
        self.method = method
        self.params = params
        self.answer: Json = None
        self.answered = anyio.Event()


@dataclass(eq=False)
class _Parked:
    """One upstream call whose downstream comes and goes. It is the call's back channel."""

    claim: Claim
    capabilities: Params
    progress_token: str | int | None
    back: Backchannel | None
    handle: str = field(default_factory=lambda: secrets.token_urlsafe(18))
    questions: dict[str, _Question] = field(default_factory=dict)
    scope: anyio.CancelScope = field(default_factory=anyio.CancelScope)
    changed: anyio.Event = field(default_factory=anyio.Event)
    outcome: Reply | Exception | None = None
    expires: float | None = None
    used: set[str] = field(default_factory=set)

    async def notify(self, method: str, params: Params | None) -> None:
        """Deliver on the live round; between rounds there is no stream it could go on, so it is dropped."""
        if method == "notifications/elicitation/complete":
            return  # gone from the modern era: the downstream's next round is the sign
        if self.back is not None:
            if method == "notifications/progress" and params is not None:
                params = {**params, "progressToken": self.back.progress_token}
            await self.back.notify(method, params)

    async def ask(self, method: str, params: Params | None) -> Json:
        """Park a question until the downstream brings the answer."""
        check_permitted(method, params, self.capabilities)
        key, question = key_for(method, params, self.used), _Question(method, params)
        self.used.add(key)
        self.questions[key] = question
        self.ring()
        try:
            await question.answered.wait()
            return question.answer
        finally:
            self.questions.pop(key, None)

    def ring(self) -> None:
        """Wake every round that waits; a downstream may have sent the same one twice."""
        self.changed.set()
        self.changed = anyio.Event()

    def take(self, answers: Mapping[str, Any]) -> int:
        """Give the answers that fit to their questions; how many fitted."""
        fitting = 0
        for key, answer in answers.items():
            question = self.questions.get(key)
            if question is not None and not question.answered.is_set() and usable(question.method, answer):
                question.answer = answer
                question.answered.set()
                fitting += 1
        return fitting

    @property
    def open(self) -> dict[str, Any]:
        """The questions still to be answered, as ``inputRequests``."""
        return {
            key: for_modern(question.method, question.params)
            for key, question in self.questions.items()
            if not question.answered.is_set()
        }


class Suspender:
    """All parked calls. ``run`` in a task group for as long as calls are taken."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._parked: dict[str, _Parked] = {}
        self._tasks: TaskGroup | None = None
        self._due = anyio.Event()

    def __len__(self) -> int:
        return len(self._parked)

    async def run(self) -> None:
        """Own the upstream calls, and end those whose downstream does not come back."""
        try:
            async with anyio.create_task_group() as tasks:
                self._tasks = tasks
                while True:
                    await self._expire()
        finally:
            self._tasks = None
            self._parked.clear()

    async def start(self, claim: Claim, capabilities: Params, back: Backchannel, send: Send) -> Reply | Asked:
        """Make a call; the answer, or the upstream's questions.

        Raises:
            ManifoldError: as ``send`` does.
            QueueFull: too many calls are parked.
        """
        if self._tasks is None:
            return await send(back)
        self._check_room(claim)
        parked = _Parked(claim, capabilities, back.progress_token, back)
        self._tasks.start_soon(self._own, parked, send)
        return await self._round(parked, back)

    async def resume(self, handle: str, claim: Claim, answers: Mapping[str, Any], back: Backchannel) -> Reply | Asked:
        """Go on with a parked call.

        Raises:
            ManifoldError: as the upstream call does.
            Rejected: there is no such call for this caller, or it is over.
        """
        parked = self._parked.get(handle)
        if parked is None or parked.claim != claim:
            raise Rejected(INVALID_PARAMS, "Invalid or expired requestState", {"reason": "invalid_request_state"})
        if not parked.take(answers) and parked.open and parked.outcome is None:
            return self._park(parked)  # nothing usable: ask again (spec: rather than fail)
        return await self._round(parked, back)

    def abandon(self) -> None:
        """Give up every parked call: nobody will come back for them in time."""
        for parked in tuple(self._parked.values()):
            self._drop(parked)

    async def _own(self, parked: _Parked, send: Send) -> None:
        with parked.scope:
            try:
                parked.outcome = await send(parked)
            except Exception as error:  # noqa: BLE001 - it is raised again in the round that waits for it
                parked.outcome = error
        parked.ring()

    async def _round(self, parked: _Parked, back: Backchannel) -> Reply | Asked:
        parked.back, parked.expires = back, None
        try:
            while parked.outcome is None and not parked.open:
                await parked.changed.wait()
            if parked.outcome is None:
                await anyio.sleep(GATHER)
        except BaseException:
            # The downstream gave up while its request was open: that is a cancellation, and the upstream hears of it.
            self._drop(parked)
            raise
        if parked.outcome is None:
            return self._park(parked)
        self._parked.pop(parked.handle, None)
        if isinstance(parked.outcome, Exception):
            raise parked.outcome
        return parked.outcome

    def _park(self, parked: _Parked) -> Asked:
        parked.back = None
        parked.expires = self._clock.now() + TTL
        self._parked[parked.handle] = parked
        self._due.set()
        return Asked(parked.handle, parked.open)

    def _drop(self, parked: _Parked) -> None:
        self._parked.pop(parked.handle, None)
        parked.scope.cancel()

    def _check_room(self, claim: Claim) -> None:
        theirs = sum(one.claim.principal == claim.principal for one in self._parked.values())
        if theirs >= MAX_EACH or len(self._parked) >= MAX_PARKED:
            raise QueueFull(
                "too many calls wait for answers of their clients",
                hint="Answer or abandon some of the open input requests first.",
            )

    async def _expire(self) -> None:
        waiting = [one for one in self._parked.values() if one.expires is not None]
        if not waiting:
            self._due = anyio.Event()
            await self._due.wait()
            return
        first = min(waiting, key=lambda one: one.expires or 0.0)
        await self._clock.sleep(max(0.0, (first.expires or 0.0) - self._clock.now()))
        if first.expires is not None and first.expires <= self._clock.now() and first.handle in self._parked:
            log.info("bridge.abandoned", principal=first.claim.principal, questions=len(first.questions))
            self._drop(first)


def url_requests(data: Any) -> dict[str, Any]:
    """The ``inputRequests`` for an error -32042 (2025-11-25: URL elicitation required); empty if it names none."""
    found = data.get("elicitations") if isinstance(data, Mapping) else None
    return {
        f"u{index}": for_modern(ELICIT, one)
        for index, one in enumerate(found if isinstance(found, list) else (), start=1)
        if isinstance(one, Mapping)
    }
