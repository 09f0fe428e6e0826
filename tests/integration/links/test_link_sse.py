"""Links over HTTP+SSE (2024-11-05)."""

import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from proxy.config.model import UpstreamConfig
from proxy.errors import AuthRequired, ConnectFailed, Lost, ProtocolFault, Rejected, SessionGone, UpstreamError
from proxy.model import Json, Params
from proxy.upstream.sse import SseLink, open_sse
from proxy.wire import sse
from tests.support.link_http import Request, Response, Site, serve
from tests.support.link_peers import Back, Heard


class Server:
    """A server of the old transport: what is posted is answered on the stream, as ``reply`` says."""

    def __init__(self, endpoint: str = "/messages?session=1") -> None:
        self.endpoint = endpoint
        self.stream: Response | None = None
        self.post_status = 202

    async def __call__(self, request: Request, response: Response) -> None:
        if request.method == "GET":
            self.stream = response
            response.stream()
            response.chunk(sse.encode(self.endpoint.encode(), event="endpoint"))
            await response.gone.wait()
        else:
            self.reply(request)
            response.whole(self.post_status, b"Accepted", kind="text/plain")

    def say(self, message: dict[str, Any]) -> None:
        assert self.stream is not None
        self.stream.event(message)

    def reply(self, request: Request) -> None:
        message = request.message
        if message.get("method") == "echo":
            self.say({"id": message["id"], "result": message.get("params")})
        elif message.get("method") == "refuse":
            self.say({"id": message["id"], "error": {"code": 5, "message": "no"}})


@asynccontextmanager
async def linked(server: Any, heard: Heard | None = None, **more: Any) -> AsyncIterator[tuple[SseLink, Site]]:
    with anyio.fail_after(30):
        async with serve(server) as site:
            config = UpstreamConfig.model_validate({"url": site.url, "type": "sse", **more})
            async with open_sse("up", site.url, config, heard or Heard()) as link:
                yield link, site


async def test_requests_go_to_the_named_endpoint_and_are_answered_on_the_stream() -> None:
    async with linked(Server(), headers={"X-Key": "k"}) as (link, site):
        assert (await link.request("echo", {"a": 1})).result == {"a": 1}
        assert not link.attributes
    get, post = site.requests
    assert (get.method, get.path, get.headers["accept"]) == ("GET", "/mcp", "text/event-stream")
    assert (post.method, post.path, post.headers["x-key"]) == ("POST", "/messages?session=1", "k")


async def test_errors_come_through_unchanged() -> None:
    async with linked(Server()) as (link, _):
        with pytest.raises(Rejected) as caught:
            await link.request("refuse", None)
    assert (caught.value.jsonrpc, caught.value.message) == (5, "no")


async def test_progress_and_questions_travel_as_on_a_pipe() -> None:
    class Asking(Server):
        def reply(self, request: Request) -> None:
            message = request.message
            if message.get("method") == "ask":
                token = message["params"]["_meta"]["progressToken"]
                self.say({"method": "notifications/progress", "params": {"progressToken": token, "progress": 1}})
                self.say({"id": "q", "method": "roots/list"})
                self.waiting = message["id"]
            else:
                self.say({"id": self.waiting, "result": message["result"]})

    async def answer(method: str, params: Params | None) -> Json:
        return [method, params]

    back = Back("theirs")
    async with linked(Asking(), Heard(answer)) as (link, _):
        reply = await link.request("ask", None, back=back)
    assert reply.result == ["roots/list", None]
    assert back.said == [("notifications/progress", {"progressToken": "theirs", "progress": 1})]


async def test_a_call_that_nobody_waits_for_is_cancelled_upstream() -> None:
    async with linked(Server()) as (link, site):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(lambda: link.request("hang", None))
            await site.asked("hang")
            await anyio.wait_all_tasks_blocked()
            tasks.cancel_scope.cancel()
        told = (await site.asked("notifications/cancelled")).message
    assert told["params"]["requestId"] == site.of("hang")[0].message["id"]


@pytest.mark.parametrize("end", [lambda server: server.stream.end(), lambda server: server.stream._writer.close()])
async def test_the_end_of_the_stream_is_the_end_of_the_link(end: Callable[[Server], None]) -> None:
    server = Server()
    async with linked(server) as (link, site), anyio.create_task_group() as tasks:

        async def call() -> None:
            with pytest.raises(Lost, match="event stream"):
                await link.request("hang", None)

        tasks.start_soon(call)
        await site.asked("hang")
        await anyio.wait_all_tasks_blocked()
        end(server)
        assert "event stream" in await link.wait_closed()
        with pytest.raises(ConnectFailed):
            await link.request("echo", None)


async def test_leaving_ends_the_calls_under_way() -> None:
    async with anyio.create_task_group() as tasks, linked(Server()) as (link, site):

        async def call() -> None:
            with pytest.raises(Lost, match="Manifold closed it"):
                await link.request("hang", None)

        tasks.start_soon(call)
        await site.asked("hang")
        await anyio.wait_all_tasks_blocked()


async def test_a_session_that_is_gone_closes_the_link() -> None:
    server = Server()
    async with linked(server) as (link, _):
        server.post_status = 404
        with pytest.raises(SessionGone):
            await link.request("hang", None)
        assert "session" in await link.wait_closed()


async def test_an_answer_over_the_limit_fails_its_call_only() -> None:
    async with linked(Server(), max_message=2048) as (link, _):
        with pytest.raises(ProtocolFault, match="2048"):
            await link.request("echo", {"text": "x" * 10_000})
        assert (await link.request("echo", {"n": 1})).result == {"n": 1}


@pytest.mark.parametrize(
    "endpoint", ["http://127.0.0.1:1/messages", "https://evil.example/?token=secret", "http://[bad"]
)
async def test_an_endpoint_of_another_origin_is_refused(endpoint: str) -> None:
    with pytest.raises(ProtocolFault, match="another origin") as caught:
        async with linked(Server(endpoint)):
            pass
    assert "secret" not in caught.value.text()


async def test_an_absolute_endpoint_of_the_same_origin_is_fine() -> None:
    server = Server()
    async with serve(server) as site:
        server.endpoint = site.url.replace("/mcp", "/absolute")
        config = UpstreamConfig.model_validate({"url": site.url, "type": "sse"})
        async with open_sse("up", site.url, config, Heard()) as link:
            assert (await link.request("echo", {})).result == {}
    assert site.requests[-1].path == "/absolute"


async def silent(_request: Request, response: Response) -> None:
    response.stream()
    await response.gone.wait()


async def ends(_request: Request, response: Response) -> None:
    response.stream()
    response.end()


async def no_stream(_request: Request, response: Response) -> None:
    response.whole(200, json.dumps({}).encode())


async def no_entry(_request: Request, response: Response) -> None:
    response.whole(401)


async def not_here(_request: Request, response: Response) -> None:
    response.whole(404)


@pytest.mark.parametrize(
    ("server", "error", "message"),
    [
        (silent, ConnectFailed, "no endpoint event within 0.2 s"),
        (ends, ConnectFailed, "closed the event stream"),
        (no_stream, ProtocolFault, "application/json"),
        (no_entry, AuthRequired, "401"),
        (not_here, ProtocolFault, "404"),
    ],
)
async def test_what_does_not_speak_this_transport_is_told(
    server: Any, error: type[UpstreamError], message: str
) -> None:
    with pytest.raises(error, match=message) as caught:
        async with linked(server, start_timeout=0.2):
            pass
    assert caught.value.upstream == "up"
