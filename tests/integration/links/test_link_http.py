"""Links over streamable HTTP: what is sent, and what answers become."""

import gzip

import anyio
import pytest

from proxy.errors import InvalidArguments, Lost, ProtocolFault, Rejected
from proxy.model import Json, Params
from proxy.upstream.http import HttpLink
from tests.support.link_http import Handler, Request, Response, Site
from tests.support.link_open import linked
from tests.support.link_peers import Back, Heard


async def echo(request: Request, response: Response) -> None:
    response.result(request.message.get("params"))


async def accept(_request: Request, response: Response) -> None:
    response.whole(202)


async def test_a_request_is_answered_with_json() -> None:
    async with linked(echo) as (link, _):
        reply = await link.request("echo", {"text": "Zürich"})
        assert reply.result == {"text": "Zürich"}
        assert link.attributes
        assert link.closed is None


async def test_requests_carry_the_headers_of_the_transport_the_operator_and_the_caller() -> None:
    async with linked(echo, headers={"X-Key": "k", "accept": "nonsense", "Mcp-Method": "configured"}) as (link, site):
        await link.request("echo", None, headers={"mcp-method": "echo"})
    (request,) = site.requests
    assert request.headers["accept"] == "application/json, text/event-stream"
    assert request.headers["content-type"] == "application/json"
    assert (request.headers["x-key"], request.headers["mcp-method"]) == ("k", "echo")
    assert request.headers["user-agent"].startswith("mcp-manifold/")
    assert "cookie" not in request.headers


async def test_the_agreed_revision_is_named_in_every_request_once() -> None:
    async with linked(echo) as (link, site):
        await link.request("a", None)
        link.agree("2025-06-18")
        await link.request("b", None)
        await link.request("c", None, headers={"mcp-protocol-version": "2026-07-28"})
    named = [request.headers.get("mcp-protocol-version") for request in site.requests]
    assert named == [None, "2025-06-18", "2026-07-28"]


async def test_user_and_password_of_a_url_become_a_header_and_stay_out_of_messages() -> None:
    async def refuse(_request: Request, response: Response) -> None:
        response.whole(404)

    async with linked(refuse, user="me:secret@") as (link, site):
        with pytest.raises(ProtocolFault) as caught:
            await link.request("x", None)
    assert site.requests[0].headers["authorization"] == "Basic bWU6c2VjcmV0"
    assert "secret" not in caught.value.text()


async def test_what_json_cannot_carry_is_not_sent() -> None:
    async with linked(echo) as (link, site):
        with pytest.raises(InvalidArguments):
            await link.request("echo", {"bad": object()})
    assert site.requests == []


async def test_a_large_message_crosses_in_both_directions() -> None:
    text = "x" * 3_000_000
    async with linked(echo) as (link, _):
        assert (await link.request("echo", {"text": text})).result["text"] == text


async def test_many_requests_at_once_each_get_their_own_answer() -> None:
    answers: dict[int, Json] = {}
    async with linked(echo) as (link, _), anyio.create_task_group() as tasks:

        async def one(number: int) -> None:
            answers[number] = (await link.request("echo", {"n": number})).result

        for number in range(200):
            tasks.start_soon(one, number)
    assert answers == {number: {"n": number} for number in range(200)}


async def test_a_notification_needs_no_answer() -> None:
    async with linked(accept) as (link, site):
        await link.notify("notifications/x", {"a": 1})
    assert site.requests[0].message == {"jsonrpc": "2.0", "method": "notifications/x", "params": {"a": 1}}


@pytest.mark.parametrize("streamed", [False, True])
async def test_a_connection_is_used_again_after_an_answer(streamed: bool) -> None:
    async def answer(request: Request, response: Response) -> None:
        if streamed:
            response.stream()
            response.result_event(request.message["id"])
            response.end()
        else:
            response.result(request.message["id"])

    async with linked(answer) as (link, site):
        for _ in range(5):
            await link.request("x", None)
            await anyio.wait_all_tasks_blocked()
    assert {request.connection for request in site.requests} == {1}


async def test_a_connection_is_used_again_when_its_stream_ends_after_the_answer() -> None:
    answered = anyio.Event()

    async def answer(_request: Request, response: Response) -> None:
        response.stream()
        response.result_event({})
        await answered.wait()
        response.end()

    async with linked(answer) as (link, site):
        for _ in range(20):
            answered = anyio.Event()
            await link.request("x", None)
            answered.set()
    assert len({request.connection for request in site.requests}) < 10


async def test_an_answer_does_not_wait_for_the_end_of_its_stream() -> None:
    async def answer(_request: Request, response: Response) -> None:
        response.stream()
        response.result_event("early")
        await response.gone.wait()

    async with linked(answer) as (link, _):
        assert (await link.request("x", None)).result == "early"


async def test_what_comes_before_the_answer_goes_to_the_call_in_its_order() -> None:
    async def answer(request: Request, response: Response) -> None:
        token = request.message["params"]["_meta"]["progressToken"]
        response.stream()
        response.event({"method": "notifications/progress", "params": {"progressToken": token, "progress": 1}})
        response.event({"method": "notifications/message", "params": {"data": "log"}})
        response.event({"method": "notifications/progress", "params": {"progressToken": "other", "progress": 2}})
        response.result_event({})
        response.end()

    back, heard = Back("theirs"), Heard()
    async with linked(answer, heard) as (link, _):
        await link.request("x", {"_meta": {"progressToken": "theirs"}}, back=back)
    assert back.said == [
        ("notifications/progress", {"progressToken": "theirs", "progress": 1}),
        ("notifications/message", {"data": "log"}),
    ]
    assert not heard.said


async def test_without_a_call_to_tell_notifications_are_heard() -> None:
    async def answer(_request: Request, response: Response) -> None:
        response.stream()
        response.event({"method": "notifications/message", "params": {"data": "log"}})
        response.result_event({})
        response.end()

    heard = Heard()
    async with linked(answer, heard) as (link, _):
        await link.request("x", None)
    assert list(heard.said) == [("notifications/message", {"data": "log"})]


@pytest.mark.parametrize("has_back", [True, False])
async def test_a_question_on_the_stream_is_put_to_the_one_it_belongs_to(has_back: bool) -> None:
    answered = anyio.Event()

    async def answer(request: Request, response: Response) -> None:
        if request.rpc != "x":
            answered.set()
            response.whole(202)
            return
        response.stream()
        response.event({"id": "q", "method": "roots/list", "params": {"a": 1}})
        await answered.wait()
        response.result_event("done")
        response.end()

    async def by_call(method: str, params: Params | None) -> Json:
        return {"by": "call", "method": method, "params": params}

    async def by_listener(method: str, params: Params | None) -> Json:
        return {"by": "listener", "method": method, "params": params}

    async with linked(answer, Heard(by_listener)) as (link, site):
        reply = await link.request("x", None, back=Back(answer=by_call) if has_back else None)
    assert reply.result == "done"
    expected = {"by": "call" if has_back else "listener", "method": "roots/list", "params": {"a": 1}}
    assert site.requests[1].message == {"jsonrpc": "2.0", "id": "q", "result": expected}


async def test_an_answer_to_a_question_is_sent_again_when_its_connection_breaks() -> None:
    answered = anyio.Event()

    async def answer(request: Request, response: Response) -> None:
        if request.rpc == "x":
            response.stream()
            response.event({"id": "q", "method": "roots/list"})
            await answered.wait()
            response.result_event("done")
            response.end()
        elif len(site.requests) <= 2:
            await response.drop()
        else:
            answered.set()
            response.whole(202)

    async def ask(method: str, params: Params | None) -> Json:
        return {"method": method, "params": params}

    async with linked(answer) as (link, site):
        assert (await link.request("x", None, back=Back(answer=ask))).result == "done"
    assert site.requests[1].message == site.requests[2].message


async def test_a_question_that_is_taken_back_is_no_longer_worked_on() -> None:
    given_up = anyio.Event()

    async def answer(_request: Request, response: Response) -> None:
        response.stream()
        response.event({"id": "q", "method": "roots/list"})
        response.event({"method": "notifications/cancelled", "params": {"requestId": "q"}})
        await given_up.wait()
        response.result_event({})

    async def ask(method: str, params: Params | None) -> Json:
        del method, params
        try:
            await anyio.sleep_forever()
        finally:
            given_up.set()

    async with linked(answer) as (link, site):
        await link.request("x", None, back=Back(answer=ask))
    assert len(site.requests) == 1


async def test_a_batch_is_taken_apart() -> None:
    async def answer(request: Request, response: Response) -> None:
        log = {"jsonrpc": "2.0", "method": "notifications/message", "params": {"data": 1}}
        response.json([log, {"jsonrpc": "2.0", "id": request.message["id"], "result": "ok"}])

    back = Back()
    async with linked(answer) as (link, _):
        assert (await link.request("x", None, back=back)).result == "ok"
    assert back.said == [("notifications/message", {"data": 1})]


@pytest.mark.parametrize("has_id", [True, False])
async def test_a_json_rpc_error_comes_through_unchanged(has_id: bool) -> None:
    async def answer(request: Request, response: Response) -> None:
        error = {"code": -32042, "message": "no", "data": {"why": [1]}}
        response.json({"jsonrpc": "2.0", "id": request.message["id"] if has_id else None, "error": error})

    async with linked(answer) as (link, _):
        with pytest.raises(Rejected) as caught:
            await link.request("x", None)
    assert (caught.value.jsonrpc, caught.value.message, caught.value.data) == (-32042, "no", {"why": [1]})
    assert caught.value.upstream == "up"


async def test_a_compressed_answer_is_unpacked() -> None:
    async def answer(request: Request, response: Response) -> None:
        body = gzip.compress(b'{"jsonrpc":"2.0","id":%d,"result":"unpacked"}' % request.message["id"])
        response.whole(200, body, Content_Encoding="gzip")

    async with linked(answer) as (link, _):
        assert (await link.request("x", None)).result == "unpacked"


def big(request: Request) -> bytes:
    return b'{"jsonrpc":"2.0","id":%d,"result":"%s"}' % (request.message["id"], b"x" * 1_000_000)


async def big_with_length(request: Request, response: Response) -> None:
    response.whole(200, big(request))


async def big_in_chunks(request: Request, response: Response) -> None:
    response.start(200, {"Content-Type": "application/json"})
    response.chunk(big(request))
    response.end()


async def big_when_unpacked(request: Request, response: Response) -> None:
    response.whole(200, gzip.compress(big(request)), Content_Encoding="gzip")


async def big_event(request: Request, response: Response) -> None:
    response.stream()
    response.chunk(b"data: " + big(request) + b"\n\n")
    await response.gone.wait()


@pytest.mark.parametrize("handler", [big_with_length, big_in_chunks, big_when_unpacked, big_event])
async def test_an_answer_over_the_limit_is_refused(handler: Handler) -> None:
    async with linked(handler, max_message=2048) as (link, _):
        with pytest.raises(ProtocolFault, match="2048") as caught:
            await link.request("x", None)
    assert "max_message" in caught.value.hint


async def test_an_event_over_the_limit_that_is_no_answer_is_passed_over() -> None:
    async def answer(_request: Request, response: Response) -> None:
        response.stream()
        response.event({"method": "notifications/message", "params": {"data": "x" * 10_000}})
        response.result_event("ok")

    async with linked(answer, max_message=2048) as (link, _):
        assert (await link.request("x", None)).result == "ok"


async def no_answer(_request: Request, response: Response) -> None:
    response.whole(202)


async def html(_request: Request, response: Response) -> None:
    response.whole(200, b"<html>", kind="text/html; charset=utf-8")


async def other_id(_request: Request, response: Response) -> None:
    response.json({"jsonrpc": "2.0", "id": 99, "result": {}})


async def no_json(_request: Request, response: Response) -> None:
    response.whole(200, b"{nonsense")


async def not_http(_request: Request, response: Response) -> None:
    response.raw(b"SSH-2.0-OpenSSH\r\n\r\n")


@pytest.mark.parametrize("handler", [no_answer, html, other_id, no_json, not_http])
async def test_an_answer_that_breaks_the_protocol_is_a_fault(handler: Handler) -> None:
    async with linked(handler) as (link, _):
        with pytest.raises(ProtocolFault) as caught:
            await link.request("x", None)
    assert caught.value.upstream == "up"


async def dropped(_request: Request, response: Response) -> None:
    await response.drop()


async def cut_json(_request: Request, response: Response) -> None:
    response.start(200, {"Content-Type": "application/json"}, length=1000)
    response.raw(b'{"jsonrpc"')
    await response.drop()


async def cut_stream(_request: Request, response: Response) -> None:
    response.stream()
    response.event({"method": "notifications/message"})
    await response.drop()


async def ended_stream(_request: Request, response: Response) -> None:
    response.stream()
    response.end()


@pytest.mark.parametrize("handler", [dropped, cut_json, cut_stream, ended_stream])
async def test_a_connection_that_ends_before_the_answer_loses_the_call(handler: Handler) -> None:
    async with linked(handler) as (link, _):
        with pytest.raises(Lost, match="connection was lost"):
            await link.request("x", None)
        assert link.closed is None


async def never(_request: Request, response: Response) -> None:
    await response.gone.wait()


async def _cancel_one(link: HttpLink, site: Site, method: str, headers: dict[str, str] | None = None) -> None:
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: link.request(method, None, headers=headers))
        await site.asked(method)
        tasks.cancel_scope.cancel()


async def hangs_unless_told(request: Request, response: Response) -> None:
    if request.rpc in {"notifications/cancelled", "ping"}:
        response.whole(202)
    else:
        await response.gone.wait()


async def test_in_the_handshake_era_a_cancelled_call_is_notified_and_its_stream_closed() -> None:
    closed = anyio.Event()

    async def handler(request: Request, response: Response) -> None:
        await hangs_unless_told(request, response)
        if request.rpc == "tools/call":
            closed.set()

    async with linked(handler) as (link, site):
        await _cancel_one(link, site, "tools/call")
        told = (await site.asked("notifications/cancelled")).message
        await closed.wait()
    assert told["params"]["requestId"] == site.requests[0].message["id"]


@pytest.mark.parametrize(
    ("method", "agreed", "headers"),
    [
        ("initialize", None, None),
        ("tools/call", "2026-07-28", None),
        ("server/discover", None, {"Mcp-Method": "server/discover"}),
    ],
)
async def test_elsewhere_closing_the_stream_is_enough(
    method: str, agreed: str | None, headers: dict[str, str] | None
) -> None:
    closed = anyio.Event()

    async def handler(request: Request, response: Response) -> None:
        await hangs_unless_told(request, response)
        if request.rpc == method:
            closed.set()

    async with linked(handler) as (link, site):
        if agreed:
            link.agree(agreed)
        await _cancel_one(link, site, method, headers)
        await closed.wait()
        await link.notify("ping", None)  # whatever was to be sent would have been sent before
    assert [request.rpc for request in site.requests] == [method, "ping"]


async def test_leaving_ends_the_calls_under_way() -> None:
    async with anyio.create_task_group() as tasks, linked(never) as (link, site):

        async def call() -> None:
            with pytest.raises(Lost, match="Manifold closed it"):
                await link.request("x", None)

        tasks.start_soon(call)
        await site.asked("x")
    assert await link.wait_closed() == link.closed == "Manifold closed it"


async def test_what_the_body_raises_comes_out_bare() -> None:
    with pytest.raises(KeyError, match="mine"):
        async with linked(echo):
            raise KeyError("mine")
