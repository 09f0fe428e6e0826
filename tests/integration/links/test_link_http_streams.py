"""Links over HTTP: answers that are resumed, and the stream on which a server speaks on its own."""

from collections.abc import Callable
from typing import Any

import anyio
import pytest
from structlog.testing import capture_logs

from proxy.errors import Lost
from proxy.model import Json, Params
from proxy.upstream import http_stream
from tests.support.clock import settle
from tests.support.link_http import Handler, Request, Response
from tests.support.link_open import linked
from tests.support.link_peers import Back, Heard

Script = Callable[[Request, Response], Any]


def scripted(post: Script, get: Script) -> Handler:
    number: Json = None

    async def handler(request: Request, response: Response) -> None:
        nonlocal number
        if request.method == "GET":
            response.answers = number
            await get(request, response)
        else:
            number = response.answers
            await post(request, response)

    return handler


async def broken_post(_request: Request, response: Response) -> None:
    response.stream()
    response.event({"method": "notifications/message", "params": {"data": 1}}, id="e-1", retry=1)
    await response.drop()


async def polite_post(_request: Request, response: Response) -> None:
    """Revision 2025-11-25: a priming event with an id, then the server ends the connection and is polled."""
    response.stream()
    response.chunk(b"id: e-1\nretry: 1\ndata:\n\n")
    response.end()


async def good_get(request: Request, response: Response) -> None:
    response.stream()
    response.event({"method": "notifications/message", "params": {"data": 2}}, id="e-2")
    response.result_event({"after": request.headers["last-event-id"]}, id="e-3")
    response.end()


@pytest.mark.parametrize(("post", "told"), [(broken_post, [1, 2]), (polite_post, [2])])
async def test_an_answer_that_breaks_off_is_resumed_after_the_last_event(post: Script, told: list[int]) -> None:
    back = Back()
    async with linked(scripted(post, good_get)) as (link, site):
        link.agree("2025-11-25")
        reply = await link.request("x", None, back=back)
    assert reply.result == {"after": "e-1"}
    assert [params["data"] for _, params in back.said if params] == told
    get = site.of("GET")[0]
    assert (get.headers["accept"], get.headers["mcp-protocol-version"]) == ("text/event-stream", "2025-11-25")


async def test_an_answer_can_break_off_many_times_as_long_as_it_goes_on() -> None:
    async def get(request: Request, response: Response) -> None:
        number = int(request.headers["last-event-id"].removeprefix("e-"))
        response.stream()
        if number < 12:
            response.event({"method": "notifications/message"}, id=f"e-{number + 1}", retry=0)
        else:
            response.result_event("at last")
        response.end()

    async with linked(scripted(polite_post, get)) as (link, site):
        assert (await link.request("x", None)).result == "at last"
    assert len(site.of("GET")) == 12


CONFLICT = b'{"jsonrpc":"2.0","id":null,"error":{"code":-32000,"message":"Conflict"}}'


@pytest.mark.parametrize("conflict", [None, CONFLICT, b""], ids=["free", "busy, as JSON-RPC", "busy"])
async def test_a_resumed_stream_on_which_nothing_comes_is_resumed_again(
    monkeypatch: pytest.MonkeyPatch, conflict: bytes | None
) -> None:
    monkeypatch.setattr(http_stream, "SILENCE", 0.01)
    silent = 0

    async def get(request: Request, response: Response) -> None:
        nonlocal silent
        if silent < 8:  # more often than a stream may break without getting any further
            silent += 1
            response.stream()
            await response.gone.wait()
        elif conflict is not None and len(site.of("GET")) == 9:
            response.whole(409, conflict)
        else:
            await good_get(request, response)

    async with linked(scripted(polite_post, get)) as (link, site):
        assert (await link.request("x", None)).result == {"after": "e-1"}
    assert len(site.of("GET")) == 9 + (conflict is not None)


@pytest.mark.parametrize("forgetful", [False, True])
async def test_after_silence_all_is_asked_for_that_came_since_the_last_message(
    monkeypatch: pytest.MonkeyPatch, forgetful: bool
) -> None:
    monkeypatch.setattr(http_stream, "SILENCE", 0.01)

    async def get(request: Request, response: Response) -> None:
        asked = request.headers["last-event-id"]
        gets = len(site.of("GET"))
        if forgetful and gets > 1 and asked == "e-1":
            response.whole(400)
            return
        response.stream()
        if gets == 1:
            response.chunk(b"id: e-3\ndata:\n\n")  # and e-2 is lost on the way
            await response.gone.wait()
        else:
            response.result_event(asked)
            response.end()

    async with linked(scripted(polite_post, get)) as (link, site):
        assert (await link.request("x", None)).result == ("e-3" if forgetful else "e-1")


@pytest.mark.parametrize("status", [400, 404, 405])
async def test_an_answer_that_cannot_be_resumed_is_lost_and_may_have_run(status: int) -> None:
    async def get(_request: Request, response: Response) -> None:
        response.whole(status)

    async with linked(scripted(broken_post, get)) as (link, site):
        with pytest.raises(Lost, match="cannot be resumed"):
            await link.request("x", None)
    assert len(site.of("GET")) == 1


async def test_a_stream_without_event_ids_is_not_resumed() -> None:
    async def post(_request: Request, response: Response) -> None:
        response.stream()
        response.event({"method": "notifications/message"})
        await response.drop()

    async with linked(scripted(post, good_get)) as (link, site):
        with pytest.raises(Lost):
            await link.request("x", None)
    assert site.of("GET") == []


async def test_the_modern_era_has_no_resumption() -> None:
    async with linked(scripted(broken_post, good_get)) as (link, site):
        link.agree("2026-07-28")
        with pytest.raises(Lost):
            await link.request("x", None)
    assert site.of("GET") == []


async def test_a_call_cancelled_while_it_is_resumed_is_cancelled_upstream() -> None:
    async def post(request: Request, response: Response) -> None:
        if request.rpc == "x":
            await polite_post(request, response)
        else:
            response.whole(202)

    async def get(_request: Request, response: Response) -> None:
        response.stream()
        await response.gone.wait()

    async with linked(scripted(post, get)) as (link, site), anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: link.request("x", None))
        await site.asked("GET")
        tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            told = (await site.asked("notifications/cancelled")).message["params"]
            assert told["requestId"] == site.of("x")[0].message["id"]


async def no_post(_request: Request, response: Response) -> None:
    response.whole(202)


async def test_what_a_server_says_on_its_own_is_heard() -> None:
    async def get(_request: Request, response: Response) -> None:
        response.stream()
        response.event({"method": "notifications/tools/list_changed"})
        response.event({"method": "notifications/resources/updated", "params": {"uri": "x:y"}})
        await response.gone.wait()

    heard = Heard()
    async with linked(scripted(no_post, get), heard) as (link, _):
        link.listen()
        assert await heard.next() == ("notifications/tools/list_changed", None)
        assert await heard.next() == ("notifications/resources/updated", {"uri": "x:y"})


async def test_news_of_the_server_on_the_stream_of_a_call_are_for_all() -> None:
    async def post(_request: Request, response: Response) -> None:
        response.stream()
        response.event({"method": "notifications/tools/list_changed"})
        response.event({"method": "notifications/message", "params": {"data": 1}})
        response.result_event({})
        response.end()

    heard, back = Heard(), Back()
    async with linked(scripted(post, no_post), heard) as (link, _):
        await link.request("x", None, back=back)
        assert await heard.next() == ("notifications/tools/list_changed", None)
    assert [method for method, _ in back.said] == ["notifications/message"]


async def test_a_servers_own_question_is_answered() -> None:
    async def get(_request: Request, response: Response) -> None:
        response.stream()
        response.event({"id": 5, "method": "ping"})
        response.event({"id": "r", "method": "roots/list", "params": {}})
        await response.gone.wait()

    async def answer(method: str, params: Params | None) -> Json:
        return {"method": method, "params": params}

    async with linked(scripted(no_post, get), Heard(answer)) as (link, site):
        link.listen()
        await site.asked("POST", 2)
    bodies = sorted((request.message for request in site.of("POST")), key=str)
    assert bodies == [
        {"jsonrpc": "2.0", "id": "r", "result": {"method": "roots/list", "params": {}}},
        {"jsonrpc": "2.0", "id": 5, "result": {}},
    ]


async def test_progress_on_the_servers_own_stream_still_finds_its_call() -> None:
    tokens: list[int] = []
    told, asked = anyio.Event(), anyio.Event()

    async def post(request: Request, response: Response) -> None:
        tokens.append(request.message["params"]["_meta"]["progressToken"])
        asked.set()
        await told.wait()
        response.result({})

    async def get(_request: Request, response: Response) -> None:
        response.stream()
        await asked.wait()
        response.event({"method": "notifications/progress", "params": {"progressToken": tokens[0], "progress": 1}})
        await response.gone.wait()

    back = Back("theirs")
    async with linked(scripted(post, get)) as (link, site), anyio.create_task_group() as tasks:
        link.listen()
        await site.asked("GET")
        tasks.start_soon(lambda: link.request("x", None, back=back))
        await back.heard.wait()
        told.set()
    assert back.said == [("notifications/progress", {"progressToken": "theirs", "progress": 1})]


async def test_progress_that_came_elsewhere_waits_for_a_slow_downstream_within_bounds() -> None:
    tokens: list[int] = []
    told, asked = anyio.Event(), anyio.Event()

    class Slow(Back):
        taking = anyio.Event()

        async def notify(self, method: str, params: Params | None) -> None:
            await self.taking.wait()
            await super().notify(method, params)

    async def post(request: Request, response: Response) -> None:
        tokens.append(request.message["params"]["_meta"]["progressToken"])
        asked.set()
        await told.wait()
        response.result({})

    async def get(_request: Request, response: Response) -> None:
        response.stream()
        await asked.wait()
        for number in range(100):
            progress = {"progressToken": tokens[0], "progress": number}
            response.event({"method": "notifications/progress", "params": progress})
        response.event({"method": "notifications/tools/list_changed"})
        await response.gone.wait()

    back, heard = Slow("theirs"), Heard()
    with capture_logs() as logs:
        async with linked(scripted(post, get), heard) as (link, site), anyio.create_task_group() as tasks:
            link.listen()
            await site.asked("GET")
            tasks.start_soon(lambda: link.request("x", None, back=back))
            await heard.next()  # the stream goes on beside a downstream that takes nothing
            assert back.said == []
            back.taking.set()
            await back.heard.wait()
            await settle()
            told.set()
    assert [params["progress"] for _, params in back.said if params] == [*range(64)]
    assert [(each["method"], each["count"]) for each in logs if each["event"] == "link.notifications.dropped"] == [
        ("notifications/progress", 36)
    ]


async def test_the_servers_own_stream_is_opened_again_after_the_last_event() -> None:
    async def get(request: Request, response: Response) -> None:
        response.stream()
        after = request.headers.get("last-event-id", "")
        response.event({"method": f"notifications/after-{after}"}, id="e-7", retry=1)
        if after:
            await response.gone.wait()
        else:
            await response.drop()

    heard = Heard()
    async with linked(scripted(no_post, get), heard) as (link, _):
        link.listen()
        assert (await heard.next())[0] == "notifications/after-"
        assert (await heard.next())[0] == "notifications/after-e-7"


@pytest.mark.parametrize("status", [405, 404, 501, 400, 401])
async def test_a_server_without_a_stream_of_its_own_is_left_alone(status: int) -> None:
    async def get(_request: Request, response: Response) -> None:
        response.whole(status)

    async with linked(scripted(no_post, get)) as (link, site):
        link.listen()
        await site.asked("GET")
        await link.notify("x", None)
        assert link.closed is None
    assert len(site.of("GET")) == 1


async def test_a_stream_that_finds_the_session_gone_closes_the_link() -> None:
    async def post(request: Request, response: Response) -> None:
        if request.method == "DELETE":
            response.whole(404)
        else:
            response.result({}, Mcp_Session_Id="s-1")

    async def get(_request: Request, response: Response) -> None:
        response.whole(404)

    async with linked(scripted(post, get)) as (link, _):
        await link.request("initialize", None)
        link.listen()
        assert "session" in await link.wait_closed()


async def test_a_failing_listener_does_not_end_the_stream() -> None:
    class Deaf(Heard):
        def notification(self, method: str, params: Params | None) -> None:
            super().notification(method, params)
            raise RuntimeError(method)

    async def get(_request: Request, response: Response) -> None:
        response.stream()
        response.event({"method": "a"})
        response.event({"method": "b"})
        await response.gone.wait()

    heard = Deaf()
    async with linked(scripted(no_post, get), heard) as (link, _):
        link.listen()
        assert [(await heard.next())[0], (await heard.next())[0]] == ["a", "b"]
