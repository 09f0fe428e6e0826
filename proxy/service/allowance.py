"""The limits of agents: how much each of them may do, over all upstreams together.

One layer around all towers. What belongs to one agent, or to one principal of it, is made when it is first needed and
forgotten when it says nothing any more: a full bucket and no call under way.
"""

from collections import OrderedDict
from collections.abc import Callable, Coroutine, Mapping
from types import MappingProxyType
from typing import Any, Final

from proxy.config.access import LimitsConfig, Per
from proxy.config.model import Config
from proxy.errors import ProtocolFault, RateLimited
from proxy.model import Call, Caller, Reply
from proxy.service.base import Service
from proxy.service.bulkhead import Bulkhead, BulkheadPolicy
from proxy.service.clock import SYSTEM, Clock
from proxy.service.ratelimit import RatePolicy, TokenBucket
from proxy.service.wording import NOTHING_SENT, subject

MAX_SHARES: Final = 4096
"""Agents and principals of agents whose limits are kept in mind; of more, the least recent ones begin anew."""
MAX_JOINS: Final = 1024
"""Combinations of agents whose limits are looked up only once."""

FREE: Final = frozenset({"tasks/cancel", "resources/unsubscribe"})
"""What ends something is never refused."""

_Named = tuple[str, LimitsConfig]


def limits_of(config: Config) -> dict[str, LimitsConfig]:
    """The limits of every agent that has some."""
    return {name: agent.limits for name, agent in config.agents.items() if agent.limits is not None}


class Allowances:
    """Refuses what is over an agent's limits. Without any limit a call passes as if there were no layer.

    Raises, from the wrapped service: RateLimited and QueueFull, before anything is sent; ProtocolFault for a result
    that is too large.

    Args:
        parts: the agents that a joined name stands for; the limits of all of them apply.
        limits: agent -> its limits.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        parts: Callable[[str], tuple[str, ...]],
        limits: Mapping[str, LimitsConfig] = MappingProxyType({}),
        *,
        clock: Clock = SYSTEM,
    ) -> None:
        self._parts = parts
        self._clock = clock
        self._limits = limits
        self._known: dict[str, tuple[_Named, ...]] = {}
        self._shares: OrderedDict[tuple[str, str], _Share] = OrderedDict()

    def __len__(self) -> int:
        return len(self._shares)

    def configure(self, limits: Mapping[str, LimitsConfig]) -> None:
        """Use other limits from now on: agent -> its limits. What was spent stays spent."""
        self._limits = limits
        self._known.clear()

    def __call__(self, service: Service) -> Service:
        """Wrap a service."""

        def run(call: Call, /) -> Coroutine[Any, Any, Reply]:  # no frame of its own where nothing is limited
            agent = call.caller.agent
            named = self._of(agent) if agent is not None and self._limits and call.method not in FREE else ()
            return self._within(named, call, service) if named else service(call)

        return run

    def _of(self, agent: str) -> tuple[_Named, ...]:
        known = self._known.get(agent)
        if known is None:
            if len(self._known) >= MAX_JOINS:
                self._known.clear()
            names = self._parts(agent)
            known = self._known[agent] = tuple((name, self._limits[name]) for name in names if name in self._limits)
        return known

    async def _within(self, named: tuple[_Named, ...], call: Call, service: Service) -> Reply:
        shares = [self._share(name, limits, call.caller) for name, limits in named]
        try:
            now = self._clock.now()
            for share in shares:
                share.check_rate(call, now)
            for share in shares:
                share.take(now)
                service = service if share.bulkhead is None else share.bulkhead(service)
            reply = await service(call)
        finally:
            for share in shares:
                share.users -= 1
        for share in shares:
            share.check_size(call, reply)
        return reply

    def _share(self, agent: str, limits: LimitsConfig, caller: Caller) -> "_Share":
        key = (agent, caller.principal.id if limits.per is Per.PRINCIPAL else "")
        share = self._shares.get(key)
        if share is None:
            self._forget_idle()
            share = self._shares[key] = _Share(agent, limits, self._clock)
        self._shares.move_to_end(key)
        share.follow(limits)
        share.users += 1
        return share

    def _forget_idle(self) -> None:
        now = self._clock.now()
        while self._shares and next(iter(self._shares.values())).idle(now):
            self._shares.popitem(last=False)
        if len(self._shares) >= MAX_SHARES:
            self._shares.popitem(last=False)


class _Share:
    """What one agent, or one principal of it, has left."""

    def __init__(self, agent: str, limits: LimitsConfig, clock: Clock) -> None:
        self._agent = agent
        self._clock = clock
        self._limits = LimitsConfig()
        self.users = 0
        """Calls under way."""
        self._bucket: TokenBucket | None = None
        self.bulkhead: Bulkhead | None = None
        self.follow(limits)

    def follow(self, limits: LimitsConfig) -> None:
        """Go over to other limits, unless they are the same."""
        if limits is self._limits:
            return
        self._limits = limits
        now, policy = self._clock.now(), _rate_policy(limits)
        if policy is None or self._bucket is None:
            self._bucket = None if policy is None else TokenBucket(policy, now)
        else:
            self._bucket.retune(policy, now)
        places = _bulkhead_policy(limits)
        if places is None or self.bulkhead is None:
            owner = f'the agent "{self._agent}"'
            self.bulkhead = None if places is None else Bulkhead(places, clock=self._clock, owner=owner)
        else:
            self.bulkhead.retune(places)

    def idle(self, now: float) -> bool:
        """Whether nothing is lost when it is forgotten."""
        if self.users:
            return False
        return self._bucket is None or self._limits.calls is None or self._bucket.level(now) >= self._limits.calls.count

    def check_rate(self, call: Call, now: float) -> None:
        """See that a call may begin."""
        rate = self._limits.calls
        if self._bucket is None or rate is None or (level := self._bucket.level(now)) >= 1.0:
            return
        wait = (1.0 - level) * rate.seconds / rate.count
        raise RateLimited(
            f'{_named(call)} is over the limit of the agent "{self._agent}": {rate}.',
            upstream=call.upstream,
            hint=f"{NOTHING_SENT} Repeat the call after {wait:.1f} s; the operator may raise the agent's limits.calls.",
            retry_after=wait,
        )

    def take(self, now: float) -> None:
        """A call begins."""
        if self._bucket is not None:
            self._bucket.take(now)

    def check_size(self, call: Call, reply: Reply) -> None:
        """See that a result may be passed on."""
        largest = self._limits.max_result
        if largest is not None and reply.size > largest:
            raise ProtocolFault(
                f"The result of {subject(call)} on {call.upstream} has {reply.size} bytes, "
                f'more than the {largest} that the agent "{self._agent}" takes.',
                upstream=call.upstream,
                hint="The call was executed. Ask for less; the operator may raise the agent's limits.max_result.",
            )


def _named(call: Call) -> str:
    return f"{subject(call)} on {call.upstream}" if call.upstream else call.method


def _rate_policy(limits: LimitsConfig) -> RatePolicy | None:
    rate = limits.calls
    return None if rate is None else RatePolicy(rate.count / rate.seconds, rate.count)


def _bulkhead_policy(limits: LimitsConfig) -> BulkheadPolicy | None:
    return None if limits.concurrency is None else BulkheadPolicy(limits.concurrency, limits.queue)
