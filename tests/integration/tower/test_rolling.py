"""An HTTP server that is replaced: the old process ends what it began, then nobody is there, then a new one comes."""

from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, Final

import anyio
import pytest

from proxy.config.model import Config, UpstreamConfig
from proxy.errors import ConnectFailed, Lost, UpstreamError
from proxy.model import Caller, StatusEvent, UpstreamState
from proxy.router import Request
from proxy.runtime import Runtime
from tests.support.link_http import Request as Asked
from tests.support.link_http import Response, Site, introduced, listed, serve

CLIENT: Final = Caller(session="d1")
CLOSES: Final[Mapping[str, Any]] = {"Connection": "close"}
"""Every request needs a connection of its own, so that it meets whoever listens then."""


class Process:
    """A server of one life. ``wait`` answers with its label when it is told to, ``who`` at once."""

    def __init__(self, label: str) -> None:
        self.label = label
        self.told = anyio.Event()
        self.waiting = anyio.Event()
        self.breaks = anyio.Event()
        """It breaks the answers off which somebody waits for."""
        self.site = Site()

    async def __call__(self, request: Asked, response: Response) -> None:
        if introduced(request, response, lambda: self.label, **CLOSES):
            return
        if request.headers["mcp-session-id"] != self.label:
            response.whole(404, **CLOSES)
        elif not listed(request, response, ("wait", "who"), **CLOSES):
            await self._call(request.message["params"]["name"], response)

    async def _call(self, tool: str, response: Response) -> None:
        response.stream(**CLOSES)
        if tool == "wait":
            self.waiting.set()
            async with anyio.create_task_group() as tasks:
                for event in (self.told, self.breaks):
                    tasks.start_soon(_until, event, tasks.cancel_scope)
        if self.breaks.is_set():
            await response.drop()
        else:
            response.result_event({"content": [{"type": "text", "text": self.label}]})
            response.end()


async def _until(event: anyio.Event, scope: anyio.CancelScope) -> None:
    await event.wait()
    scope.cancel()


class Rolling:
    """An upstream whose process is replaced by another one on the same port."""

    def __init__(self, runtime: Runtime, old: Process, exits: AsyncExitStack) -> None:
        self.runtime = runtime
        self.old = old
        self.new = Process("new")
        self.answers: list[str | type[UpstreamError]] = []
        self._exits = exits
        self._ready = anyio.Event()
        runtime.on_status.append(self._moved)

    def _moved(self, event: StatusEvent) -> None:
        if event.new is UpstreamState.READY:
            self._ready.set()

    async def call(self, tool: str) -> str:
        request = Request("tools/call", {"name": f"mcp_up_{tool}", "arguments": {}}, CLIENT)
        reply = await self.runtime.router.send(await self.runtime.router.route(request))
        text: str = reply.result["content"][0]["text"]
        return text

    async def wait(self) -> None:
        """Make a call that goes on, and keep what becomes of it."""
        try:
            self.answers.append(await self.call("wait"))
        except UpstreamError as error:
            self.answers.append(type(error))

    async def old_leaves(self) -> None:
        """The old process takes nothing new any more, and somebody hears that."""
        self.old.site.refuse()
        with pytest.raises(ConnectFailed):
            await self.call("who")

    async def new_comes(self) -> None:
        """The new process takes the port, and is found."""
        port = int(self.old.site.url.rsplit(":", 1)[1].split("/")[0])
        self.new.site = await self._exits.enter_async_context(serve(self.new, port=port))
        self.runtime.registry["up"].start()
        await self._ready.wait()


@asynccontextmanager
async def rolling() -> AsyncIterator[Rolling]:
    old = Process("old")
    with anyio.fail_after(30):
        async with AsyncExitStack() as exits, serve(old) as old.site:
            one = {"url": old.site.url, "grace": 20, "retry": {"attempts": 1}}
            async with Runtime(Config(upstreams={"up": UpstreamConfig.model_validate(one)})) as runtime:
                runtime.start()
                await runtime.registry["up"].settled()
                yield Rolling(runtime, old, exits)


async def test_calls_that_were_sent_are_answered_by_the_old_process_and_new_ones_by_the_new() -> None:
    async with rolling() as at, anyio.create_task_group() as tasks:
        for _ in range(3):
            tasks.start_soon(at.wait)
        await at.old.site.asked("tools/call", 3)
        await at.old_leaves()
        await at.new_comes()
        assert await at.call("who") == "new"
        assert at.answers == []
        at.old.told.set()
    assert at.answers == ["old"] * 3
    assert [one.message["params"]["name"] for one in at.new.site.of("tools/call")] == ["who"]


async def test_a_call_that_the_old_process_breaks_off_is_lost_and_the_new_session_stays() -> None:
    async with rolling() as at:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(at.wait)
            await at.old.waiting.wait()
            await at.old_leaves()
            await at.new_comes()
            at.old.breaks.set()
        assert at.answers == [Lost]
        assert await at.call("who") == "new"
    assert len(at.new.site.of("initialize")) == 1


async def test_what_goes_on_in_an_old_session_ends_with_the_upstream() -> None:
    async with anyio.create_task_group() as tasks, rolling() as at:
        tasks.start_soon(at.wait)
        await at.old.waiting.wait()
        await at.old_leaves()
        await at.new_comes()
        with anyio.fail_after(10):
            await at.runtime.apply(Config())
    assert at.answers == [Lost]
