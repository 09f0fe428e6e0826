"""THE order of the layers before an upstream, each line with its reason; and the tower that is built of them."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from anyio.abc import TaskGroup

from proxy.config.model import Scope, UpstreamConfig
from proxy.errors import ManifoldError, TimedOut
from proxy.model import Call, Listing, Params, Reply, StatusEvent, UpstreamState
from proxy.service.access import AccessLog
from proxy.service.attempt import Attempt
from proxy.service.balance import Balance
from proxy.service.base import Layer, Service, stack
from proxy.service.bulkhead import Bulkhead
from proxy.service.cache import Cache
from proxy.service.ceiling import Ceiling
from proxy.service.clock import SYSTEM, Clock
from proxy.service.coalesce import Coalesce
from proxy.service.deadline import Deadline
from proxy.service.hedge import Hedge
from proxy.service.keys import Whose, among, by_agent, by_session
from proxy.service.observe import Observation, Observe, Outcome
from proxy.service.ratelimit import RateLimit
from proxy.service.retry import Retry
from proxy.telemetry.metrics import CANCELLED, Metrics
from proxy.upstream import policies
from proxy.upstream.guard import Guard, Member, fitted

TOOL_ERROR: Final = "tool-error"
"""The metrics' code for a tool that answered ``isError``."""

_OK: Final = Outcome.OK
"""Looked up once: each call asks for it, and a member of an enum is slow to find."""

_READS: Final = frozenset({"resources/read", "prompts/get", "completion/complete"})
_CALL: Final = "tools/call"


@dataclass(slots=True)
class Layers:
    """The layers of one tower, each with its state. None is switched off, and then it is not in the stack."""

    observe: Observe | None = None
    deadline: Deadline | None = None
    cache: Cache | None = None
    ceiling: Ceiling | None = None
    coalesce: Coalesce | None = None
    rate: RateLimit | None = None
    bulkhead: Bulkhead | None = None
    retry: Retry | None = None
    attempt: Attempt | None = None
    hedge: Layer | None = None


def ordered(layers: Layers, innermost: Service) -> Service:
    """The order, the outermost first. ``innermost`` has the breaker of each link (``guard.py``)."""
    return stack(
        layers.observe,  # sees each logical call once, with all that it cost: waiting, repeating, an answer from memory
        layers.deadline,  # is what the downstream waits for, so it is outside of everything that waits or repeats
        layers.cache,  # before all that rations: an answer from memory costs the upstream nothing
        layers.coalesce,  # the same for another call's answer; inside the deadline, so that each who waits has its own
        layers.ceiling,  # before anybody remembers or shares what is too large; outside of retry, which cannot help
        layers.rate,  # before the queue: what is refused must not hold a place in it
        layers.bulkhead,  # outside of retry: a call keeps its slot between attempts, and does not queue again
        layers.retry,  # outside of all that makes a single attempt fail
        layers.attempt,  # inside retry, so that there is time for another attempt
        layers.hedge,  # inside the attempt, whose limit both share; outside of balance, so that they go different ways
    )(innermost)


@dataclass(frozen=True, slots=True)
class Shared:
    """What all towers have in common."""

    tasks: TaskGroup
    """Where second attempts and shared flights run."""
    metrics: Metrics = field(default_factory=Metrics)
    """Counts the calls."""
    clock: Clock = SYSTEM
    """Monotonic seconds."""
    access: AccessLog = field(default_factory=AccessLog)
    """Logs single calls."""


class Tower:
    """The layers before one upstream. ``service`` answers calls; ``retune`` changes figures and keeps all state.

    Args:
        config: which layers there are, and their figures.
        members: name -> the upstream, or several equal ones of it.
        shared: what all towers have in common.
        whose: with whose credential a caller's requests are sent, where that differs: results are never shared across.
    """

    def __init__(
        self, config: UpstreamConfig, members: Mapping[str, Member], shared: Shared, whose: Whose | None = None
    ) -> None:
        self._shared = shared
        self._clock = clock = shared.clock
        self._isolate = among(by_agent if config.session is Scope.SHARED else by_session, whose)
        self._tools: tuple[Listing | None, frozenset[str]] = (None, frozenset())
        self._hedge: Hedge | None = None
        self.guards = {name: Guard(name, member, config, clock) for name, member in members.items()}
        self.observe = Observe(self, clock=clock)
        """Knows how many calls are under way."""
        self.layers = Layers(observe=self.observe)
        self.balance: Balance | None = None
        self.service: Service
        self.retune(config)

    def retune(self, config: UpstreamConfig) -> None:
        """Go over to other figures. Layers that stay keep their state; calls under way finish in the old stack."""
        for guard in self.guards.values():
            guard.retune(config)
        layers, clock = self.layers, self._clock
        layers.deadline = fitted(layers.deadline, policies.deadline_of(config), lambda p: Deadline(p, clock=clock))
        layers.cache = fitted(layers.cache, policies.cache_of(config), self._cache)
        layers.ceiling = fitted(layers.ceiling, config.max_result, Ceiling)
        if not config.coalesce:
            layers.coalesce = None
        elif layers.coalesce is None:
            layers.coalesce = Coalesce(self._shared.tasks, reads=self._reads, isolate=self._isolate)
        layers.rate = fitted(layers.rate, policies.rate_of(config), lambda p: RateLimit(p, clock=clock))
        layers.bulkhead = fitted(layers.bulkhead, policies.bulkhead_of(config), lambda p: Bulkhead(p, clock=clock))
        layers.retry = fitted(layers.retry, policies.retry_of(config), lambda p: Retry(p, clock=clock))
        layers.attempt = fitted(layers.attempt, policies.attempt_of(config), lambda p: Attempt(p, clock=clock))
        self._hedge = fitted(
            self._hedge, policies.hedge_of(config), lambda p: Hedge(self._shared.tasks, p, clock=clock)
        )
        layers.hedge = None if self._hedge is None else only(self._reads, self._hedge)
        self.service = ordered(layers, self._innermost(config))

    def moved(self, event: StatusEvent) -> None:
        """A member's state has changed."""
        guard = self.guards.get(event.upstream)
        if guard is not None and event.old is UpstreamState.CONNECTING and event.new is UpstreamState.READY:
            guard.reconnected()
            self.outdated()  # another process may know other things
        self._spread()

    def outdated(self) -> None:
        """What was read before may not be true any more."""
        if self.layers.cache is not None:
            self.layers.cache.clear()

    def observed(self, observation: Observation, /) -> None:
        """Count a call that has ended."""
        call, metrics = observation.call, self._shared.metrics
        timed, code = observation.source == "upstream", None
        if observation.outcome is not _OK:
            code = _code_of(observation)
            timed = timed and _tells_time(observation)
        tool = call.target if call.method == _CALL else call.method
        metrics.record(call.upstream, tool, code, observation.seconds if timed else None)
        if observation.attempts > 1:
            metrics.retried(call.upstream, observation.attempts - 1)
        self._shared.access.observed(observation)

    # -- what is inside ------------------------------------------------------------------------------------------------

    def _innermost(self, config: UpstreamConfig) -> Service:
        services = {name: guard.service for name, guard in self.guards.items()}
        if len(services) == 1:
            return next(iter(services.values()))
        if self.balance is None:
            self.balance = Balance(services, sticky=_STICKY[config.session], clock=self._clock)
        self._spread()
        return self.balance

    def _spread(self) -> None:
        """Spread calls over the members that have a session; over all while none has."""
        if self.balance is not None:
            live = {name: guard.service for name, guard in self.guards.items() if guard.member.is_live}
            self.balance.pool.replace(live or {name: guard.service for name, guard in self.guards.items()})

    def _cache(self, policy: Any) -> Cache:
        return Cache(policy, reads=self._reads, writes=self._writes, isolate=self._isolate, clock=self._clock)

    def _reads(self, call: Call) -> bool:
        """Whether a call changes nothing: a tool only if it says so itself; being idempotent is not enough."""
        return call.target in self._read_only() if call.method == _CALL else call.method in _READS

    def _writes(self, call: Call) -> bool:
        return not self._reads(call)

    def _read_only(self) -> frozenset[str]:
        listings = (guard.member.listing for guard in self.guards.values())
        listing = next((one for one in listings if one is not None), None)
        if listing is not self._tools[0]:
            names = (
                frozenset(str(tool.get("name")) for tool in listing.tools if _says_read_only(tool)) if listing else ()
            )
            self._tools = (listing, frozenset(names))
        return self._tools[1]


def only(test: Callable[[Call], bool], layer: Layer) -> Layer:
    """The layer for those calls alone that pass the test."""

    def wrap(service: Service) -> Service:
        inside = layer(service)

        async def run(call: Call) -> Reply:
            return await (inside(call) if test(call) else service(call))

        return run

    return wrap


def _code_of(observation: Observation) -> str:
    """The metrics' code of a call that did not go well."""
    if observation.outcome is Outcome.TOOL_ERROR:
        return TOOL_ERROR
    if observation.outcome is Outcome.CANCELLED:
        return CANCELLED
    error = observation.error
    return error.code if isinstance(error, ManifoldError) else ManifoldError.code


def _tells_time(observation: Observation) -> bool:
    """Whether the time that a call took says something about the upstream: it answered, or let the time run out."""
    answered = observation.outcome in (Outcome.TOOL_ERROR, Outcome.REJECTED)
    return answered or (observation.outcome is Outcome.FAILED and isinstance(observation.error, TimedOut))


def _says_read_only(tool: Params) -> bool:
    notes = tool.get("annotations")
    return isinstance(notes, Mapping) and notes.get("readOnlyHint") is True


_STICKY: Final[Mapping[Scope, Callable[[Call], str | None]]] = {
    Scope.SHARED: lambda _call: None,
    Scope.AGENT: lambda call: f"agent {call.caller.agent or ''}",
    Scope.CLIENT: lambda call: call.caller.session or call.caller.owner or None,
}
"""Whose calls must meet the same member, because its state is theirs."""
