"""What real failures do to an upstream's state, and what a call costs that finds no upstream."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from proxy.config.model import Config, UpstreamConfig
from proxy.errors import CircuitOpen, DeadlineExceeded, Lost, ManifoldError, UpstreamError
from proxy.model import Caller, Sent, StatusEvent, UpstreamState
from proxy.router import Request
from proxy.runtime import Runtime
from tests.support.link_http import Request as Asked
from tests.support.link_http import Response, serve
from tests.support.services import make_call
from tests.support.tower_http import Server


class Flaky(Server):
    """Breaks calls off for as long as it is told to; then says nothing at all, if it is told that."""

    def __init__(self) -> None:
        super().__init__("flaky")
        self.broken = False
        self.forgets = 0
        self.forgot = 0

    async def call(self, request: Asked, response: Response) -> None:
        self.runs += 1
        if self.forgets > self.forgot:
            self.forgot += 1
            response.whole(404)
        elif self.broken:
            await response.drop()
        else:
            await super().call(request, response)


class Site:
    def __init__(self, runtime: Runtime, server: Flaky) -> None:
        self.runtime = runtime
        self.server = server
        self.events: list[StatusEvent] = []
        runtime.on_status.append(self.events.append)

    async def call(self, tool: str = "who") -> str:
        request = Request("tools/call", {"name": f"mcp_up_{tool}", "arguments": {}}, Caller())
        with anyio.fail_after(30):
            reply = await self.runtime.router.send(await self.runtime.router.route(request))
        text: str = reply.result["content"][0]["text"]
        return text

    async def errors(self, count: int, tool: str = "note") -> list[type[ManifoldError]]:
        seen: list[type[ManifoldError]] = []
        for _ in range(count):
            try:
                await self.call(tool)
            except ManifoldError as error:
                seen.append(type(error))
        return seen

    def state(self) -> UpstreamState:
        return self.runtime.registry["up"].state


@asynccontextmanager
async def site(**options: Any) -> AsyncIterator[Site]:
    server = Flaky()
    async with serve(server) as http:
        upstream = UpstreamConfig.model_validate({"url": http.url, "grace": 20, **options})
        async with Runtime(Config(upstreams={"up": upstream})) as runtime:
            runtime.start()
            await runtime.ready(None)
            yield Site(runtime, server)


async def test_failures_move_the_state_which_still_serves_and_successes_move_it_back() -> None:
    async with site(breaker={"enabled": False}, degraded={"min_requests": 4}) as at:
        await at.call()
        at.server.broken = True
        assert await at.errors(3) == [Lost] * 3
        assert at.state() is UpstreamState.ERROR
        at.server.broken = False
        assert [await at.call() for _ in range(4)] == ["flaky"] * 4
        assert at.state() is UpstreamState.DEGRADED
        assert [await at.call() for _ in range(4)] == ["flaky"] * 4
        assert at.state() is UpstreamState.READY
        moved = [(event.old, event.new) for event in at.events]

    assert moved[:3] == [
        (UpstreamState.READY, UpstreamState.ERROR),
        (UpstreamState.ERROR, UpstreamState.DEGRADED),
        (UpstreamState.DEGRADED, UpstreamState.READY),
    ]
    assert at.events[0].reason == "75% of its calls failed within 60 s"


async def test_an_upstream_that_keeps_failing_is_left_alone() -> None:
    async with site(breaker={"min_calls": 5}) as at:
        at.server.broken = True
        assert await at.errors(7) == [Lost] * 5 + [CircuitOpen] * 2
        assert at.server.runs == 5


async def test_a_safe_call_is_repeated_as_often_as_the_tower_says_and_not_more() -> None:
    async with site(retry={"attempts": 3, "backoff": "1ms", "max_backoff": "1ms"}) as at:
        at.server.broken = True
        assert await at.errors(1, "who") == [Lost]
        assert at.server.runs == 3


async def test_an_unsafe_call_whose_session_was_forgotten_is_made_again_on_a_new_one() -> None:
    async with site(retry={"attempts": 1}) as at:
        at.server.forgets = 1
        assert await at.call("note") == "flaky 3"  # refused, counted by the test server, and run once


async def test_a_server_that_forgets_every_session_is_not_asked_without_end() -> None:
    async with site(retry={"attempts": 2, "backoff": "1ms", "max_backoff": "1ms"}) as at:
        at.server.forgets = 1000
        [error] = await at.errors(1)
        assert issubclass(error, UpstreamError)
        assert at.server.forgot <= 4


async def test_a_call_that_waited_in_vain_for_its_server_was_not_sent() -> None:
    async def silent(_request: Asked, response: Response) -> None:
        await response.gone.wait()

    errors: list[UpstreamError] = []
    async with serve(silent) as http:
        upstream = UpstreamConfig.model_validate({"url": http.url, "timeout": 20, "deadline": "50ms"})
        async with Runtime(Config(upstreams={"up": upstream})) as runtime:
            runtime.start()
            try:
                await runtime.registry.call(make_call("note"))
            except UpstreamError as error:
                errors.append(error)

    assert [type(error) for error in errors] == [DeadlineExceeded]
    assert errors[0].sent is Sent.NO
    assert errors[0].hint.startswith("Nothing was sent.")


@pytest.mark.parametrize("timeouts", [{}, {"who": 5}])
async def test_other_figures_reach_the_tower_of_a_running_upstream(timeouts: dict[str, int]) -> None:
    async with site(breaker={"min_calls": 2}) as at:
        at.server.broken = True
        await at.errors(2)
        tower = at.runtime.registry.tower("up")
        before = at.runtime.config.upstreams["up"]
        after = before.model_copy(update={"timeouts": timeouts, "concurrency": 3})
        plan = await at.runtime.apply(Config(upstreams={"up": after}))
        assert list(plan.retuned) == ["up"]
        assert at.runtime.registry.tower("up") is tower
        assert await at.errors(1) == [CircuitOpen]
