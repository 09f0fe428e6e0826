"""Callers who share an upstream: what breaks one call, or one session, costs nobody else the answer."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

import anyio
import pytest

from proxy.config.model import Config, UpstreamConfig
from proxy.errors import Lost
from proxy.model import Caller
from proxy.router import Request
from proxy.runtime import Runtime
from tests.support.link_http import Request as Asked
from tests.support.link_http import Response, Site, introduced, listed, serve

PLAIN: Final = Caller(session="d1")
ASKABLE: Final = Caller(session="d2", told='{"elicitation": {}}', capabilities={"elicitation": {}})
"""Gets a session of its own, for the first one was told of nothing that can be asked."""


class Server:
    """A server with sessions: ``wait`` answers when it is told to, ``break`` ends its stream without an answer."""

    def __init__(self) -> None:
        self.told = anyio.Event()
        self.forgotten: set[str] = set()
        self.site = Site()
        self.waiting = anyio.Event()
        """Somebody waits for ``wait``."""
        self._opened = 0

    async def __call__(self, request: Asked, response: Response) -> None:
        if introduced(request, response, self._session):
            return
        if request.headers.get("mcp-session-id") in self.forgotten:
            response.whole(404)
        elif not listed(request, response, ("wait", "break", "say")):
            await self._call(request.message["params"]["name"], response)

    def _session(self) -> str:
        self._opened += 1
        return f"s{self._opened}"

    async def _call(self, tool: str, response: Response) -> None:
        response.stream()
        if tool == "wait":
            self.waiting.set()
            await self.told.wait()
        if tool != "break":
            response.result_event({"content": [{"type": "text", "text": tool}]})
        response.end()


class Runner:
    """Makes calls through a runtime."""

    def __init__(self, runtime: Runtime, server: Server) -> None:
        self.runtime = runtime
        self.server = server

    async def call(self, tool: str, caller: Caller) -> str:
        request = Request("tools/call", {"name": f"mcp_up_{tool}", "arguments": {}}, caller)
        reply = await self.runtime.router.send(await self.runtime.router.route(request))
        text: str = reply.result["content"][0]["text"]
        return text


@pytest.fixture
async def runner() -> AsyncIterator[Runner]:
    async with running() as found:
        yield found


@asynccontextmanager
async def running(**options: Any) -> AsyncIterator[Runner]:
    server = Server()
    async with serve(server) as site:
        server.site = site
        upstream = UpstreamConfig.model_validate({"url": site.url, "grace": 20, **options})
        async with Runtime(Config(upstreams={"up": upstream})) as runtime:
            runtime.start()
            with anyio.fail_after(10):
                await runtime.registry["up"].settled()
            yield Runner(runtime, server)


async def while_somebody_waits(runner: Runner, waiting: Caller, other: Any) -> str:
    """Do something while a call is under way; what that call is answered."""
    answers: list[str] = []

    async def wait() -> None:
        answers.append(await runner.call("wait", waiting))

    with anyio.fail_after(20):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(wait)
            await runner.server.waiting.wait()
            await other()
            runner.server.told.set()
    return answers[0]


@pytest.mark.parametrize("sharers", [PLAIN, ASKABLE], ids=["the first session", "another session"])
async def test_a_stream_that_ends_without_an_answer_costs_one_call_and_no_other(
    runner: Runner, sharers: Caller
) -> None:
    async def breaks() -> None:
        with pytest.raises(Lost):
            await runner.call("break", sharers)

    assert await while_somebody_waits(runner, sharers, breaks) == "wait"
    opened = len(runner.server.site.of("initialize"))
    assert await runner.call("say", sharers) == "say"
    assert len(runner.server.site.of("initialize")) == opened, "a session that nothing was wrong with was given up"


async def test_a_session_that_the_server_forgot_costs_the_calls_on_other_sessions_nothing(runner: Runner) -> None:
    async def forgets() -> None:
        runner.server.forgotten.add("s1")
        assert await runner.call("say", PLAIN) == "say"

    assert await while_somebody_waits(runner, ASKABLE, forgets) == "wait"
    assert await runner.call("say", ASKABLE) == "say"


@pytest.mark.parametrize("sharers", [PLAIN, ASKABLE], ids=["the first session", "another session"])
async def test_a_call_whose_session_was_forgotten_meanwhile_is_still_answered(runner: Runner, sharers: Caller) -> None:
    await runner.call("say", sharers)
    opened = len(runner.server.site.of("initialize"))

    async def forgets() -> None:
        runner.server.forgotten.add(f"s{opened}")
        assert await runner.call("say", sharers) == "say"

    assert await while_somebody_waits(runner, sharers, forgets) == "wait"
    assert len(runner.server.site.of("initialize")) == opened + 1
    assert len(runner.server.site.of("tools/call")) == 4, "a call that had begun was made again"


async def test_the_ids_of_requests_are_used_once_whatever_the_session(runner: Runner) -> None:
    for _ in range(3):
        await runner.call("say", PLAIN)
        await runner.call("say", ASKABLE)

    numbers = [one.message["id"] for one in runner.server.site.requests if one.body and "id" in one.message]
    assert len({one.headers["mcp-session-id"] for one in runner.server.site.of("tools/call")}) == 2
    assert len(numbers) == len(set(numbers)) > 6
