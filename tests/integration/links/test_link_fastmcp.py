"""Links to real servers made with FastMCP, over every transport."""

import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest

from proxy.config.model import UpstreamConfig
from proxy.errors import Rejected
from proxy.model import Json, Params
from proxy.upstream.http import open_http
from proxy.upstream.link import Link
from proxy.upstream.sse import open_sse
from proxy.upstream.stdio import open_stdio
from tests.support.link_peers import Back, Heard

PEER = str(Path(__file__).parents[2] / "support" / "link_fastmcp.py")
META = "io.modelcontextprotocol/"
ENVELOPE = {f"{META}protocolVersion": "2026-07-28", f"{META}clientCapabilities": {}}


def _running(transport: str) -> Iterator[str]:
    with subprocess.Popen([sys.executable, PEER, transport], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}/mcp"
        process.terminate()


@pytest.fixture(scope="module")
def http_url() -> Iterator[str]:
    yield from _running("http")


@pytest.fixture(scope="module")
def sse_url() -> Iterator[str]:
    yield from _running("sse")


@pytest.fixture(params=["stdio", "http", "sse"])
def where(request: pytest.FixtureRequest) -> dict[str, Any]:
    if request.param == "stdio":
        return {"command": sys.executable, "args": [PEER, "stdio"]}
    return {"type": request.param, "url": request.getfixturevalue(f"{request.param}_url")}


def opened(where: dict[str, Any], heard: Heard) -> AbstractAsyncContextManager[Link]:
    config = UpstreamConfig.model_validate(where)
    if config.url is None:
        return open_stdio("peer", config, heard)
    return (open_sse if where["type"] == "sse" else open_http)("peer", config.url, config, heard)


@asynccontextmanager
async def session(where: dict[str, Any], heard: Heard | None = None) -> AsyncIterator[Link]:
    """A link on which the handshake is done."""
    with anyio.fail_after(50):
        async with opened(where, heard or Heard()) as link:
            params = {
                "protocolVersion": "2025-11-25",
                "capabilities": {"elicitation": {}},
                "clientInfo": {"name": "test", "version": "1"},
            }
            result = (await link.request("initialize", params)).result
            assert result["protocolVersion"] == "2025-11-25"
            link.agree("2025-11-25")
            await link.notify("notifications/initialized", None)
            link.listen()
            yield link


async def call(link: Link, tool: str, back: Back | None = None, **arguments: Any) -> Any:
    result = (await link.request("tools/call", {"name": tool, "arguments": arguments}, back=back)).result
    assert not result.get("isError"), result
    return result["structuredContent"]["result"]


async def test_a_tool_is_called(where: dict[str, Any]) -> None:
    async with session(where) as link:
        assert await call(link, "add", a=1, b=2) == 3


async def test_progress_arrives_before_the_answer(where: dict[str, Any]) -> None:
    back = Back("theirs")
    async with session(where) as link:
        assert await call(link, "count", back, to=5) == "counted"
    progress = [params["progress"] for method, params in back.said if method == "notifications/progress" and params]
    assert progress == [1, 2, 3, 4, 5]
    assert {params["progressToken"] for _, params in back.said if params} == {"theirs"}


async def test_log_lines_arrive(where: dict[str, Any]) -> None:
    heard, back = Heard(), Back()
    async with session(where, heard) as link:
        await call(link, "chat", back)
        said = back.said if link.attributes else heard.said
        assert [params["level"] for method, params in said if method == "notifications/message" and params] == ["info"]


async def test_a_question_of_a_tool_is_answered(where: dict[str, Any]) -> None:
    async def answer(method: str, params: Params | None) -> Json:
        assert params is not None
        return {"action": "accept", "content": {"value": f"{method} {params['message']}"}}

    async with session(where, Heard(answer)) as link:
        assert await call(link, "ask", Back(answer=answer)) == "accept: elicitation/create your name?"


async def test_a_cancelled_call_stops_in_the_server(where: dict[str, Any]) -> None:
    back = Back("theirs")
    async with session(where) as link:
        before = await call(link, "cancellations")
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(call, link, "wait", back)
            await back.heard.wait()
            tasks.cancel_scope.cancel()
        while await call(link, "cancellations") == before:
            pass


async def test_an_unknown_method_is_rejected(where: dict[str, Any]) -> None:
    async with session(where) as link:
        with pytest.raises(Rejected) as caught:
            await link.request("no/such", {})
    assert caught.value.jsonrpc == -32601


@pytest.mark.parametrize("where", ["stdio", "http"], indirect=True)
async def test_the_modern_era_crosses_the_same_links(where: dict[str, Any]) -> None:
    heard = Heard()
    with anyio.fail_after(50):
        async with opened(where, heard) as link:
            headers = {"MCP-Protocol-Version": "2026-07-28", "Mcp-Method": "tools/call", "Mcp-Name": "add"}
            params = {"name": "add", "arguments": {"a": 1, "b": 2}, "_meta": ENVELOPE}
            reply = await link.request("tools/call", params, headers=headers)
    assert reply.result["structuredContent"] == {"result": 3}
    assert reply.result["resultType"] == "complete"


async def test_a_modern_call_is_cancelled_by_closing_its_stream(http_url: str) -> None:
    back = Back("theirs")
    with anyio.fail_after(50):
        async with opened({"type": "http", "url": http_url}, Heard()) as link:
            link.agree("2026-07-28")

            async def modern(tool: str) -> Any:
                headers = {"Mcp-Method": "tools/call", "Mcp-Name": tool}
                params = {"name": tool, "arguments": {}, "_meta": ENVELOPE}
                return (await link.request("tools/call", params, back=back, headers=headers)).result

            before = (await modern("cancellations"))["structuredContent"]
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(modern, "wait")
                await back.heard.wait()
                tasks.cancel_scope.cancel()
            while (await modern("cancellations"))["structuredContent"] == before:
                pass
