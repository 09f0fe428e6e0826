"""What each layer of the tower costs a call that goes well: nanoseconds, side by side, in one run.

    python bench/layers.py [--uvloop] [--calls 20000] [--rounds 9]

Every round measures every variant once, so that drift of the machine hits all alike; the median round counts.
The first rows are what the layers are compared with: nothing at all, and the usual ways to limit time.
"""

import argparse
import asyncio
import json
import statistics
import time
from collections.abc import Callable, Mapping

import anyio
import uvloop

from proxy.config.model import UpstreamConfig
from proxy.model import Call, Caller, Json, Params, Reply
from proxy.service.attempt import Attempt, AttemptPolicy
from proxy.service.balance import Balance
from proxy.service.base import Layer, Service, stack
from proxy.service.breaker import Breaker
from proxy.service.bulkhead import Bulkhead
from proxy.service.cache import Cache
from proxy.service.coalesce import Coalesce
from proxy.service.deadline import Deadline
from proxy.service.health import HealthStatus
from proxy.service.hedge import Hedge
from proxy.service.observe import Observation, Observe
from proxy.service.ratelimit import RateLimit, RatePolicy
from proxy.service.retry import Retry
from proxy.upstream.stack import Shared, Tower

REPLY = Reply(b'{"content":[{"type":"text","text":"' + b"x" * 400 + b'"}],"isError":false}')


class Back:
    """A backchannel that hears everything and says nothing."""

    progress_token = None

    async def notify(self, method: str, params: Params | None) -> None:
        """Hear."""

    async def ask(self, method: str, params: Params | None) -> Json:
        """Answer."""
        return {"method": method, "params": params}


class Deaf:
    """An observer that does nothing."""

    def observed(self, observation: Observation, /) -> None:
        """Take no note."""


async def upstream(_call: Call, /) -> Reply:
    return REPLY


def fail_after(service: Service) -> Service:
    async def run(call: Call) -> Reply:
        with anyio.fail_after(60):
            return await service(call)

    return run


def asyncio_timeout(service: Service) -> Service:
    async def run(call: Call) -> Reply:
        async with asyncio.timeout(60):
            return await service(call)

    return run


def task_group(service: Service) -> Service:
    async def run(call: Call) -> Reply:
        async with anyio.create_task_group():
            reply = await service(call)
        return reply  # noqa: RET504  mypy takes the group for one that swallows exceptions

    return run


def yes(_call: Call) -> bool:
    return True


def variants(tasks: anyio.abc.TaskGroup) -> Mapping[str, Layer]:
    every = Attempt(AttemptPolicy(safe_only=False))
    fast = RatePolicy(rate=1e9, burst=10**9)
    tower = (Observe(Deaf()), Deadline(), RateLimit(fast), Bulkhead(), Retry(), every, Breaker())
    return {
        "(nothing)": stack(),
        "(anyio.fail_after)": fail_after,
        "(asyncio.timeout)": asyncio_timeout,
        "(anyio task group)": task_group,
        "observe": Observe(Deaf()),
        "deadline": Deadline(),
        "rate limit": RateLimit(fast),
        "bulkhead": Bulkhead(),
        "retry": Retry(),
        "attempt": every,
        "breaker": Breaker(),
        "hedge": Hedge(tasks),
        "cache, hit": Cache(reads=yes),
        "coalesce, alone": Coalesce(tasks, reads=yes),
        "balance of 2": lambda service: Balance({"a": service, "b": service}),
        "tower, all of these": stack(*tower),
        "tower, as configured": configured(tasks, UpstreamConfig(command="x")),
        "tower of a pool of 2": configured(tasks, UpstreamConfig(urls=("http://a", "http://b"))),
    }


class Stand:
    """A member of a tower: one of the equal upstreams, or the only one."""

    listing = None
    is_live = True

    def __init__(self, service: Service) -> None:
        self.request = service

    def judged(self, status: HealthStatus, reason: str, /) -> None:
        """Hear."""


def configured(tasks: anyio.abc.TaskGroup, config: UpstreamConfig) -> Layer:
    """The tower as the proxy builds it, metrics and health included."""

    def wrap(service: Service) -> Service:
        names = config.endpoints or ("up",)
        return Tower(config, {name: Stand(service) for name in names}, Shared(tasks)).service

    return wrap


async def nanoseconds(service: Service, call: Call, calls: int) -> float:
    began = time.perf_counter_ns()
    for _ in range(calls):
        await service(call)
    return (time.perf_counter_ns() - began) / calls


async def measure(calls: int, rounds: int, *, as_json: bool = False) -> None:
    caller = Caller(session="s")
    plain = Call("up", "tools/call", {"name": "t", "arguments": {"q": "x"}}, "t", caller=caller, safe=True)
    asking = Call("up", "tools/call", {"name": "t", "arguments": {"q": "x"}}, "t", caller, Back(), safe=True)
    async with anyio.create_task_group() as tasks:
        services = {name: layer(upstream) for name, layer in variants(tasks).items()}
        times: dict[tuple[str, bool], list[float]] = {}
        for _ in range(rounds):
            for name, service in services.items():
                for has_back, call in ((False, plain), (True, asking)):
                    times.setdefault((name, has_back), []).append(await nanoseconds(service, call, calls))
    (report_json if as_json else report)(services, times)


def report(names: Mapping[str, Service], times: Mapping[tuple[str, bool], list[float]]) -> None:
    middle: Callable[[list[float]], float] = statistics.median
    print(f"{'ns a call, above nothing':28}{'no backchannel':>16}{'backchannel':>14}")
    for name in names:
        plain, asking = (middle(times[name, back]) - middle(times["(nothing)", back]) for back in (False, True))
        print(f"{name:28}{plain:16.0f}{asking:14.0f}")


def report_json(names: Mapping[str, Service], times: Mapping[tuple[str, bool], list[float]]) -> None:
    print(
        json.dumps(
            [{"layer": name, "backchannel": back, "ns": times[name, back]} for name in names for back in (False, True)]
        )
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--uvloop", action="store_true")
    parser.add_argument("--calls", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--json", action="store_true", help="print the raw data")
    chosen = parser.parse_args()
    factory = uvloop.new_event_loop if chosen.uvloop else None
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(measure(chosen.calls, chosen.rounds, as_json=chosen.json))


if __name__ == "__main__":
    main()
