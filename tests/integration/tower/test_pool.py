"""Equal instances of one upstream (``urls``): real servers in processes of their own, which are killed."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.lowlevel import checkpoint

from proxy.config.model import Config, UpstreamConfig
from proxy.errors import Lost, UpstreamError
from proxy.gateway.status import report
from proxy.model import Caller, StatusEvent, UpstreamState
from proxy.router import Request
from proxy.runtime import Runtime
from proxy.service.balance import Instance
from proxy.upstream.instances import Group
from tests.support.link_http import Request as Asked
from tests.support.link_http import Response, serve
from tests.support.tower_http import Served, served


class Site:
    """A runtime whose one upstream has several instances."""

    def __init__(self, runtime: Runtime) -> None:
        self.runtime = runtime
        self.events: list[StatusEvent] = []
        self._moved = anyio.Event()
        runtime.on_status.append(self._heard)

    def _heard(self, event: StatusEvent) -> None:
        self.events.append(event)
        self._moved.set()

    async def call(self, tool: str, *, session: str | None = None, agent: str | None = None, **arguments: str) -> str:
        caller = Caller(session=session, agent=agent)
        request = Request("tools/call", {"name": tool, "arguments": arguments}, caller)
        reply = await self.runtime.router.send(await self.runtime.router.route(request))
        text: str = reply.result["content"][0]["text"]
        return text

    async def until(self, state: UpstreamState) -> None:
        """Wait until the group is in a state."""
        with anyio.fail_after(30):
            while self.group.state is not state:
                self._moved = anyio.Event()
                await self._moved.wait()

    @property
    def group(self) -> Group:
        group = self.runtime.registry["eq"]
        assert isinstance(group, Group)
        return group

    def instances(self) -> tuple[Instance, ...]:
        balance = self.runtime.registry.tower("eq").balance
        assert balance is not None
        return balance.pool.instances


@asynccontextmanager
async def site(servers: list[Served], **options: Any) -> AsyncIterator[Site]:
    upstream = UpstreamConfig.model_validate({"urls": [one.url for one in servers], "grace": 20, **options})
    async with Runtime(Config(upstreams={"eq": upstream})) as runtime:
        runtime.start()
        at = Site(runtime)
        with anyio.fail_after(30):
            for one in at.group.upstreams:
                await one.settled()
        yield at


@asynccontextmanager
async def silent() -> AsyncIterator[str]:
    """The URL of something that takes connections and requests, and never answers."""

    async def say_nothing(_request: Asked, _response: Response) -> None:
        await anyio.sleep_forever()

    async with serve(say_nothing) as there:
        yield there.url


@pytest.fixture
async def two() -> AsyncIterator[list[Served]]:
    async with AsyncExitStack() as stack:
        yield [await stack.enter_async_context(served(label)) for label in ("a", "b")]


async def test_a_pool_looks_like_one_upstream(two: list[Served]) -> None:
    async with site(two) as at:
        assert [one.name for one in at.runtime.registry] == ["eq"]
        names = [entry.route.public for entries in at.runtime.holder.current.entries.values() for entry in entries]
        assert "mcp_eq_who" in names
        assert len(names) == len(set(names)) == 7
        assert at.group.state is UpstreamState.READY


async def test_calls_are_spread_over_the_instances(two: list[Served]) -> None:
    async with site(two) as at:
        said = Counter([await at.call("mcp_eq_who") for _ in range(10)])

    assert said == {"a": 5, "b": 5}


async def test_no_safe_call_fails_when_an_instance_is_killed_under_load(two: list[Served]) -> None:
    said: Counter[str] = Counter()
    killed = False

    async def work() -> None:
        after = 0
        while after < 30:
            said[await at.call("mcp_eq_who")] += 1
            after += killed
            if said.total() >= 100:
                half.set()

    half = anyio.Event()
    async with site(two) as at:
        at.events.clear()
        with anyio.fail_after(30):
            async with anyio.create_task_group() as tasks:
                for _ in range(8):
                    tasks.start_soon(work)
                await half.wait()
                await two[0].kill()
                killed = True
        assert said["b"] >= 8 * 29  # what was answered before the kill may be counted after it
        assert said["a"] >= 10
        assert [await at.call("mcp_eq_who") for _ in range(3)] == ["b"] * 3
        assert at.group.state is UpstreamState.READY
        assert at.events == []  # for the group nothing has changed
        calls = at.runtime.registry.metrics.upstreams()["eq"]
        assert calls.successes == calls.calls == said.total() + 3


async def test_a_call_that_may_have_run_and_is_not_safe_goes_to_no_other_instance(two: list[Served]) -> None:
    async with site(two) as at:
        with pytest.raises(Lost):
            await at.call("mcp_eq_fail")
        calls = at.runtime.registry.metrics.upstreams()["eq"]
        assert calls.failures == {"lost": 1}
        labels = {await at.call("mcp_eq_note") for _ in range(4)}
        assert labels == {"a 1", "a 2", "b 1", "b 2"}


async def test_a_safe_call_that_hangs_when_its_instance_dies_goes_on_at_another(two: list[Served]) -> None:
    async with site(two) as at, anyio.create_task_group() as tasks:
        for _ in range(2):
            tasks.start_soon(at.call, "mcp_eq_slow")
        with anyio.fail_after(30):
            while [one.outstanding for one in at.instances()] != [1, 1]:
                await checkpoint()
            await two[0].kill()
            while sorted(one.outstanding for one in at.instances()) != [0, 2]:
                await checkpoint()
        tasks.cancel_scope.cancel()


async def test_an_instance_that_is_back_is_used_again(two: list[Served]) -> None:
    async with site(two) as at:
        await two[0].kill()
        assert [await at.call("mcp_eq_who") for _ in range(4)] == ["b"] * 4
        async with served("c", two[0].port):
            with anyio.fail_after(30):
                while await at.call("mcp_eq_who") != "c":
                    pass


async def test_when_all_instances_are_gone_the_error_names_the_upstream_and_it_comes_back_with_one(
    two: list[Served],
) -> None:
    async with site(two) as at:
        for one in two:
            await one.kill()
        with pytest.raises(UpstreamError) as caught:
            await at.call("mcp_eq_who")
        assert caught.value.upstream == "eq"
        await at.until(UpstreamState.BACKING_OFF)
        async with served("d", two[1].port):
            await at.until(UpstreamState.READY)
            assert await at.call("mcp_eq_who") == "d"


async def test_all_instances_watch_what_somebody_is_subscribed_to_also_one_that_comes_back(two: list[Served]) -> None:
    async with site(two) as at:
        await at.group.subscribe("a://b")
        await at.group.subscribe("a://b")
        assert {await at.call("mcp_eq_subscribed") for _ in range(2)} == {"a a://b", "b a://b"}
        await two[0].kill()
        async with served("c", two[0].port):
            with anyio.fail_after(30):
                while await at.call("mcp_eq_subscribed") != "c a://b":
                    pass
            for _ in range(2):
                await at.group.unsubscribe("a://b")
            assert {await at.call("mcp_eq_subscribed") for _ in range(2)} == {"b", "c"}


async def test_a_session_of_its_own_stays_with_its_instance(two: list[Served]) -> None:
    async with site(two, session="client") as at:
        for client in ("one", "two", "three"):
            await at.call("mcp_eq_keep", session=client, value=client)
        for _ in range(2):
            assert [await at.call("mcp_eq_kept", session=client) for client in ("one", "two", "three")] == [
                "one",
                "two",
                "three",
            ]
        labels = {await at.call("mcp_eq_who", session=client) for client in ("one", "two", "three")}
        assert labels == {"a", "b"}


async def test_a_pool_with_one_instance_that_never_answered_serves(two: list[Served]) -> None:
    await two[0].kill()
    upstream = UpstreamConfig(urls=tuple(one.url for one in two))
    async with Runtime(Config(upstreams={"eq": upstream})) as runtime:
        runtime.start()
        await runtime.ready(None)
        at = Site(runtime)
        assert {await at.call("mcp_eq_who") for _ in range(4)} == {"b"}


async def test_an_instance_that_says_nothing_at_the_start_holds_no_call(two: list[Served], tmp_path: Path) -> None:
    async with silent() as url:
        upstream = UpstreamConfig(urls=(url, two[1].url), start_timeout=300.0, timeout=300.0)
        config = Config(upstreams={"eq": upstream})
        for _ in ("unknown", "known from disk, so that calls come before any instance is ready"):
            answers: list[str] = []
            async with Runtime(config, state=tmp_path) as runtime:
                runtime.start()
                with anyio.fail_after(30):
                    await runtime.ready(None)
                    await gather(Site(runtime), answers)
            assert answers == ["b"] * 4


async def gather(at: Site, answers: list[str]) -> None:
    """Make some calls at once."""

    async def call() -> None:
        answers.append(await at.call("mcp_eq_who"))

    async with anyio.create_task_group() as tasks:
        for _ in range(4):
            tasks.start_soon(call)


async def test_the_report_shows_each_instance(two: list[Served]) -> None:
    async with site(two) as at:
        await at.call("mcp_eq_who")
        await two[0].kill()
        await at.call("mcp_eq_who")
        await at.call("mcp_eq_who")
        shown = report(at.runtime)["upstreams"]["eq"]

    assert shown["state"] == "ready"
    assert list(shown["members"]) == ["eq#1", "eq#2"]
    assert shown["members"]["eq#2"]["state"] == "ready"
    assert shown["members"]["eq#1"]["breaker"] == {"state": "closed", "retry_in": 0.0}
    assert shown["calls"]["calls"] == shown["calls"]["successes"] == 3
