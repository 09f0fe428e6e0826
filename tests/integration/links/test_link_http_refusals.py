"""Links over HTTP: what a status that is no answer becomes, and what cannot be reached."""

import asyncio
import socket
from pathlib import Path
from typing import Any

import anyio
import anyio.abc
import pytest

from proxy.config.model import UpstreamConfig
from proxy.errors import (
    AuthRequired,
    ConnectFailed,
    ProtocolFault,
    RateLimited,
    SessionGone,
    Unavailable,
    UpstreamError,
)
from proxy.model import Sent
from proxy.upstream.http import open_http
from proxy.upstream.http_errors import HttpAuthRequired, HttpBusy, HttpFailed, HttpFault, HttpRejected
from tests.support.link_http import Handler, Request, Response, serve
from tests.support.link_open import linked
from tests.support.link_peers import Heard
from tests.support.link_tls import self_signed


def answers(status: int, body: bytes = b"", kind: str = "application/json", **headers: str) -> Handler:
    async def handler(_request: Request, response: Response) -> None:
        response.whole(status, body, kind, **headers)

    return handler


async def refused(handler: Handler, **more: Any) -> UpstreamError:
    async with linked(handler, **more) as (link, _):
        with pytest.raises(UpstreamError) as caught:
            await link.request("tools/call", None)
    assert caught.value.upstream == "up"
    return caught.value


RPC = b'{"jsonrpc":"2.0","id":1,"error":{"code":-32022,"message":"which?","data":{"supported":["x"]}}}'


@pytest.mark.parametrize("status", [400, 404, 429, 500, 503])
async def test_a_json_rpc_error_counts_for_more_than_its_status(status: int) -> None:
    error = await refused(answers(status, RPC))
    assert isinstance(error, HttpRejected)
    assert (error.jsonrpc, error.message, error.data) == (-32022, "which?", {"supported": ["x"]})
    assert error.status == status


@pytest.mark.parametrize("status", [401, 403])
async def test_missing_credentials_are_a_case_of_their_own(status: int) -> None:
    challenge = 'Bearer error="invalid_token", error_description="expired", resource_metadata="https://x.example/r"'
    more = {"headers": {"Authorization": "Bearer our-own-token"}}
    error = await refused(answers(status, RPC, WWW_Authenticate=challenge), **more)
    assert isinstance(error, HttpAuthRequired)
    assert isinstance(error, AuthRequired)
    assert "invalid_token; expired" in error.message
    assert "our-own-token" not in error.text()
    assert (error.status, error.challenge) == (status, challenge)


async def test_without_a_challenge_the_servers_own_words_say_why() -> None:
    body = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Forbidden: this origin"}}'
    assert "Forbidden: this origin" in (await refused(answers(403, body))).message


@pytest.mark.parametrize(
    ("value", "seconds"), [("7", 7.0), ("soon", 0.0), ("", 0.0), ("Mon, 01 Jan 2001 00:00:00 GMT", 0.0)]
)
async def test_too_many_requests_says_when_to_come_back(value: str, seconds: float) -> None:
    error = await refused(answers(429, Retry_After=value))
    assert isinstance(error, RateLimited)
    assert (error.sent, error.retry_after) == (Sent.NO, seconds)


async def test_retry_after_may_be_a_date() -> None:
    error = await refused(answers(503, Retry_After="Mon, 01 Jan 2035 00:00:00 GMT"))
    assert isinstance(error, HttpBusy)
    assert error.retry_after > 3600


async def test_unavailable_means_that_nothing_was_taken() -> None:
    error = await refused(answers(503, b"try later", kind="text/plain"))
    assert isinstance(error, Unavailable)
    assert error.sent is Sent.NO


@pytest.mark.parametrize("status", [408, 500, 502, 504])
async def test_a_failing_server_may_have_run_the_request(status: int) -> None:
    error = await refused(answers(status, b"upstream\n died", kind="text/plain"))
    assert isinstance(error, HttpFailed)
    assert (error.sent, error.status) == (Sent.MAYBE, status)
    assert error.message.endswith("upstream  died")


@pytest.mark.parametrize("status", [400, 404, 405, 410, 415])
async def test_other_statuses_say_that_no_mcp_server_is_there(status: int) -> None:
    error = await refused(answers(status, b"<html>Not here</html>", kind="text/html"))
    assert isinstance(error, HttpFault)
    assert isinstance(error, ProtocolFault)
    assert (error.sent, error.status) == (Sent.NO, status)
    assert "URL" in error.hint
    assert "html" not in error.message


async def test_redirects_are_not_followed() -> None:
    async with serve(answers(200)) as elsewhere:
        target = f"{elsewhere.url}?token=secret"
        error = await refused(answers(307, Location=target), headers={"Authorization": "Bearer x"})
    assert elsewhere.requests == []
    assert isinstance(error, HttpFault)
    assert elsewhere.url in error.hint
    assert "secret" not in error.text()


async def test_cookies_are_not_kept() -> None:
    async def handler(_request: Request, response: Response) -> None:
        response.whole(202, Set_Cookie="a=b")

    async with linked(handler) as (link, site):
        await link.notify("x", None)
        await link.notify("y", None)
    assert "cookie" not in site.requests[1].headers


async def test_a_session_is_named_from_its_beginning_to_its_end() -> None:
    async def handler(request: Request, response: Response) -> None:
        if request.rpc == "initialize":
            response.result({}, Mcp_Session_Id="s-1")
        elif request.method == "DELETE":
            response.whole(204)
        else:
            response.result({}, Mcp_Session_Id="s-2")

    async with linked(handler) as (link, site):
        await link.request("initialize", None)
        assert link.session_id == "s-1"
        link.agree("2025-11-25")
        await link.request("tools/list", None)
        await link.request("tools/list", None)
    named = [(each.rpc or each.method, each.headers.get("mcp-session-id")) for each in site.requests]
    assert named == [("initialize", None), ("tools/list", "s-1"), ("tools/list", "s-1"), ("DELETE", "s-1")]
    assert site.requests[-1].headers["mcp-protocol-version"] == "2025-11-25"


async def test_without_a_session_there_is_nothing_to_end() -> None:
    async def handler(_request: Request, response: Response) -> None:
        response.result({})

    async with linked(handler) as (link, site):
        await link.request("initialize", None)
    assert [each.method for each in site.requests] == ["POST"]


async def test_an_end_of_the_session_that_is_not_answered_holds_nobody_up() -> None:
    async def handler(request: Request, response: Response) -> None:
        if request.method == "DELETE":
            await response.gone.wait()
        response.result({}, Mcp_Session_Id="s-1")

    with anyio.fail_after(5):
        async with linked(handler) as (link, site):
            await link.request("initialize", None)
    assert site.requests[-1].method == "DELETE"


@pytest.mark.parametrize(
    ("status", "body"),
    [
        (404, b""),
        (404, b'{"jsonrpc":"2.0","id":null,"error":{"code":-32600,"message":"Session not found"}}'),
        (
            400,
            b'{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"No valid session ID provided"}}',
        ),
        (400, b'{"jsonrpc":"2.0","error":{"code":-32000,"message":"Bad Request: Server not initialized"},"id":null}'),
    ],
)
async def test_a_lost_session_closes_the_link_and_the_request_was_not_run(status: int, body: bytes) -> None:
    async def handler(request: Request, response: Response) -> None:
        if request.rpc == "initialize":
            response.result({}, Mcp_Session_Id="s-1")
        else:
            response.whole(status, body)

    async with linked(handler) as (link, site):
        await link.request("initialize", None)
        with pytest.raises(SessionGone) as caught:
            await link.request("tools/call", None)
        assert caught.value.sent is Sent.NO
        assert "session" in await link.wait_closed()
        with pytest.raises(ConnectFailed):
            await link.request("tools/call", None)
        with pytest.raises(ConnectFailed):
            await link.notify("x", None)
    assert site.of("DELETE") == []


async def test_without_a_session_such_words_are_an_error_like_others() -> None:
    body = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Bad Request: Server not initialized"}}'
    assert isinstance(await refused(answers(400, body)), HttpRejected)


async def unreachable(url: str) -> ConnectFailed:
    config = UpstreamConfig.model_validate({"url": url, "headers": {"Authorization": "Bearer our-own-token"}})
    with anyio.fail_after(30):
        async with open_http("up", url, config, Heard()) as link:
            with pytest.raises(ConnectFailed) as caught:
                await link.request("x", None)
    assert "our-own-token" not in caught.value.text()
    assert "query-secret" not in caught.value.text()
    return caught.value


async def test_a_refused_connection_is_named() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        error = await unreachable(f"http://127.0.0.1:{taken.getsockname()[1]}/mcp?key=query-secret")
    assert "connection refused" in error.message
    assert "running" in error.hint


async def test_an_unknown_host_is_named() -> None:
    error = await unreachable("http://no-such-host.invalid/mcp")
    assert "http://no-such-host.invalid/mcp: unknown host" in error.message


async def test_an_untrusted_certificate_is_named(tmp_path: Path) -> None:
    # The server's side of the failed handshake is reported to the loop when it is in debug mode.
    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
    async with serve(answers(200), tls=self_signed(tmp_path)) as site:
        error = await unreachable(site.url)
    assert "certificate is not trusted" in error.message
    assert "self-signed" in error.message


async def test_a_server_without_tls_is_named() -> None:
    async def refuse(stream: anyio.abc.SocketStream) -> None:
        async with stream:
            await stream.receive()
            await stream.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, refuse)
        port = listener.extra(anyio.abc.SocketAttribute.local_port)  # noqa: S610 - no Django here
        error = await unreachable(f"https://127.0.0.1:{port}/mcp")
        tasks.cancel_scope.cancel()
    assert "the TLS handshake failed" in error.message
