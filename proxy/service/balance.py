"""Equal instances of one upstream: the least busy answers, failing ones are left alone, nobody loses its place."""

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field

from proxy.errors import Draining, QueueFull, RateLimited, Rejected, UpstreamError
from proxy.model import Call, Reply, Sent
from proxy.service.backoff import BackoffPolicy, ceiling
from proxy.service.base import Service
from proxy.service.clock import SYSTEM, Clock
from proxy.service.notes import noted
from proxy.service.pulse import watched
from proxy.service.verdict import Verdict, judge


@dataclass(frozen=True, slots=True)
class BalancePolicy:
    """When an instance is left alone, and how many sticky keys are remembered."""

    eject_after: int = 3
    """Failures in a row."""
    ejection: BackoffPolicy = field(default_factory=lambda: BackoffPolicy(base=5.0, cap=60.0, factor=2.0))
    """Seconds for which an instance is left alone: growing with every failure after that, up to a cap."""
    max_keys: int = 10_000


class Instance:
    """One of the equal instances. Mutable state: what it has to do, and how it does."""

    __slots__ = ("_failures", "ejected_until", "name", "outstanding", "service")

    def __init__(self, name: str, service: Service) -> None:
        self.name = name
        self.service = service
        self.outstanding = 0
        self.ejected_until = 0.0
        self._failures = 0

    def ended(self, verdict: Verdict, policy: BalancePolicy, now: float) -> None:
        """A call has ended."""
        self.outstanding -= 1
        if verdict is Verdict.SUCCESS:
            self._failures = 0
        elif verdict is Verdict.FAILURE:
            self._failures += 1
            extra = self._failures - policy.eject_after
            if extra >= 0:
                self.ejected_until = now + ceiling(extra + 1, policy.ejection)


class Pool:
    """Which instance answers. Pure. Mutable state: the instances, who sticks to which, and whose turn it is."""

    def __init__(self, instances: Mapping[str, Service], policy: BalancePolicy) -> None:
        self.policy = policy
        self.instances: tuple[Instance, ...] = ()
        self._sticky: OrderedDict[Hashable, Instance] = OrderedDict()
        self._turn = 0
        self.replace(instances)

    def replace(self, services: Mapping[str, Service]) -> None:
        """Use these instances. One that keeps its name keeps its state; keys of those that are gone choose anew."""
        known = {instance.name: instance for instance in self.instances}
        for name, service in services.items():
            known.setdefault(name, Instance(name, service)).service = service
        self.instances = tuple(known[name] for name in services)
        for key in [key for key, instance in self._sticky.items() if instance not in self.instances]:
            del self._sticky[key]

    def choose(self, key: Hashable | None, tried: frozenset[Instance], now: float) -> Instance | None:
        """The instance for a call, or None when all have been tried. A key stays with its instance while that works."""
        if key is None:
            return self._least(tried, now)
        bound = self._sticky.get(key)
        if bound is None or bound in tried or bound.ejected_until > now:
            bound = self._least(tried, now)
        if bound is not None:
            self._sticky[key] = bound
            self._sticky.move_to_end(key)
            if len(self._sticky) > self.policy.max_keys:
                self._sticky.popitem(last=False)
        return bound

    def forget(self, key: Hashable) -> None:
        """The key will not come back."""
        self._sticky.pop(key, None)

    def _least(self, tried: frozenset[Instance], now: float) -> Instance | None:
        """The least busy of those that are well; if none is, the one that has been left alone the longest."""
        self._turn += 1
        best: Instance | None = None
        rank: tuple[float, int] = (0.0, 0)
        count = len(self.instances)
        for offset in range(count):
            instance = self.instances[(self._turn + offset) % count]
            if instance in tried:
                continue
            mine = (max(0.0, instance.ejected_until - now), instance.outstanding)
            if best is None or mine < rank:
                best, rank = instance, mine
        return best


def _nobody(_call: Call) -> Hashable | None:
    return None


class Balance:
    """A service made of equal ones. ``sticky`` gives the key of a call that must meet the same instance again.

    A call goes on to another instance only if its error says that it was not sent, or if it is safe; never after an
    answer of the upstream. A sticky call does not leave its instance for being refused by a full queue or a rate.
    """

    def __init__(
        self,
        instances: Mapping[str, Service],
        policy: BalancePolicy | None = None,
        *,
        sticky: Callable[[Call], Hashable | None] = _nobody,
        clock: Clock = SYSTEM,
    ) -> None:
        self.pool = Pool(instances, policy or BalancePolicy())
        self._sticky = sticky
        self._now = clock.now

    def retune(self, policy: BalancePolicy) -> None:
        """Use other figures from the next call on."""
        self.pool.policy = policy

    async def __call__(self, call: Call, /) -> Reply:
        """Answer one call."""
        key = self._sticky(call)
        call, pulse = watched(call)
        tried: frozenset[Instance] = frozenset()
        failure: UpstreamError | None = None
        while (instance := self.pool.choose(key, tried, self._now())) is not None:
            if failure is not None and (notes := noted()) is not None:
                notes.attempts += 1
            if failure is not None and pulse is not None:
                pulse.again()
            try:
                return await self._try(instance, call)
            except UpstreamError as error:
                if (pulse is not None and pulse.asked) or not _may_move(call, error, sticky=key is not None):
                    raise
                failure = error
                tried |= {instance}
        raise failure or Draining(f"{call.upstream} has no instance.", upstream=call.upstream)

    async def _try(self, instance: Instance, call: Call) -> Reply:
        instance.outstanding += 1
        verdict = Verdict.NEITHER
        try:
            reply = await instance.service(call)
            verdict = Verdict.SUCCESS
        except BaseException as error:
            verdict = _blame(error)
            raise
        else:
            return reply
        finally:
            instance.ended(verdict, self.pool.policy, self._now())


def _may_move(call: Call, error: UpstreamError, *, sticky: bool) -> bool:
    if isinstance(error, Rejected) or (sticky and isinstance(error, (QueueFull, RateLimited))):
        return False
    return call.safe or error.sent is Sent.NO


def _blame(error: BaseException) -> Verdict:
    """As for the breaker; and an instance that refuses without being busy has a fault of its own."""
    if isinstance(error, UpstreamError) and error.sent is Sent.NO and not isinstance(error, (QueueFull, RateLimited)):
        return Verdict.FAILURE
    return judge(error)
