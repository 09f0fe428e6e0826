"""What calls that fail cost: no more requests, sessions, connections and lines of the log than they need."""

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Final

import anyio
import pytest

from proxy.catalog.holder import Change
from proxy.config.model import Config, UpstreamConfig
from proxy.errors import RateLimited, SessionGone, UpstreamError
from proxy.model import Caller
from proxy.router import Request
from proxy.runtime import Runtime
from proxy.service.brake import BURST
from tests.support.link_http import Request as Asked
from tests.support.link_http import Response, Site, introduced, listed, serve

CLIENT: Final = Caller(session="d1")


class Server:
    """A server that is well but for the tool ``bad``, which it answers with a status."""

    def __init__(self, status: int, body: bytes = b"") -> None:
        self.status = status
        self.body = body
        self.sessions = 0

    async def __call__(self, request: Asked, response: Response) -> None:
        if introduced(request, response, self._session) or listed(request, response, ("bad", "good")):
            return
        if request.message["params"]["name"] == "bad":
            response.whole(self.status, self.body)
        else:
            response.result({"content": [{"type": "text", "text": "well"}]})

    def _session(self) -> str:
        self.sessions += 1
        return str(self.sessions)


class Running:
    """A runtime with two upstreams, ``up`` and ``well``, on the same server."""

    def __init__(self, runtime: Runtime, site: Site) -> None:
        self.runtime = runtime
        self.site = site

    async def call(self, tool: str) -> None:
        request = Request("tools/call", {"name": tool, "arguments": {}}, CLIENT)
        await self.runtime.router.send(await self.runtime.router.route(request))

    async def fails(self, kind: type[UpstreamError]) -> None:
        with pytest.raises(kind):
            await self.call("mcp_up_bad")


@asynccontextmanager
async def running(server: Server, **options: object) -> AsyncIterator[Running]:
    with anyio.fail_after(30):
        async with serve(server) as site:
            one = {"url": site.url, "grace": 20, "breaker": {"enabled": False}, **options}
            upstreams = {name: UpstreamConfig.model_validate(one) for name in ("up", "well")}
            async with Runtime(Config(upstreams=upstreams)) as runtime:
                runtime.start()
                for name in upstreams:
                    await runtime.registry[name].settled()
                yield Running(runtime, site)


async def test_a_call_whose_session_is_gone_is_sent_again_once_and_no_more() -> None:
    async with running(Server(404)) as at:
        await at.fails(SessionGone)
        assert [one.message["params"]["name"] for one in at.site.of("tools/call")] == ["bad", "bad"]
        first, again = at.site.of("tools/call")
        assert first.headers["mcp-session-id"] != again.headers["mcp-session-id"]


async def test_callers_who_meet_the_end_of_a_session_together_share_the_next_one() -> None:
    async with running(Server(404)) as at:
        async with anyio.create_task_group() as tasks:
            for _ in range(5):
                tasks.start_soon(at.fails, SessionGone)
        sessions = Counter(one.headers["mcp-session-id"] for one in at.site.of("tools/call"))
        assert sorted(sessions.values()) == [5, 5]


async def test_a_refusal_whose_body_was_read_leaves_its_connection_for_the_next_request() -> None:
    async with running(Server(429, b'{"error": "no"}')) as at:
        for _ in range(10):
            await at.fails(RateLimited)
        assert len({one.connection for one in at.site.of("tools/call")}) == 1


async def test_a_session_that_comes_back_with_the_same_tools_changes_nothing() -> None:
    async with running(Server(404)) as at:
        told: list[Change] = []
        at.runtime.holder.subscribe(told.append)
        seen = at.runtime.holder.current.listings["up"]
        for _ in range(2):
            await at.fails(SessionGone)
        assert len(at.site.of("tools/list")) > 2
        assert told == []
        assert at.runtime.registry["up"].listing is seen
        assert at.runtime.view(None).tool("mcp_up_bad") is not None


async def test_errors_that_come_very_fast_wait_and_calls_of_others_do_not() -> None:
    async with running(Server(429)) as at:
        order: list[str] = []

        async def one(name: str, tool: str) -> None:
            with suppress(UpstreamError):
                await at.call(tool)
            order.append(name)

        for _ in range(BURST):
            await one("early", "mcp_up_bad")
        async with anyio.create_task_group() as tasks:
            for _ in range(10):
                tasks.start_soon(one, "late", "mcp_up_bad")
            await at.site.asked("tools/call", BURST + 10)
            await one("other", "mcp_well_good")
    assert order[:BURST] == ["early"] * BURST
    assert order.index("other") < len(order) - 5
