"""Servers that want a page visited before they go on (error -32042, URL elicitation required)."""

from collections.abc import Mapping
from typing import Any

import anyio
import pytest

from proxy import Handlers, Manifold
from proxy.errors import DeadlineExceeded, Rejected
from tests.support.store_peer import Json, Peer, Refusal, serving, text

URL = "https://example.com/allow?for=manifold"


def page(number: int, url: str = URL) -> Json:
    return {"mode": "url", "elicitationId": f"e{number}", "url": url, "message": f"Allow it ({number})."}


def asking(*rounds: list[Json]) -> Peer:
    """A server whose tool wants these pages visited, one list per try, and then works."""
    tries = iter(rounds)

    async def work(_arguments: Json) -> Json:
        if (pages := next(tries, None)) is not None:
            raise Refusal(-32042, "You have to allow this first.", {"elicitations": pages})
        return text("done")

    return Peer("web", {"work": work}, {"work": {"type": "object"}})


def answering(*actions: str, asked: list[Any]) -> Handlers:
    left = iter(actions)

    async def elicitation(params: Mapping[str, Any]) -> Mapping[str, Any]:
        asked.append((params["mode"], params["elicitationId"], params["url"]))
        return {"action": next(left)}

    return Handlers(elicitation=elicitation, elicitation_modes=("form", "url"))


def running(peer: Peer, handlers: Handlers | None = None) -> Manifold:
    return Manifold({"mcpServers": {"web": peer.entry()}}, handlers=handlers)


async def test_the_program_visits_the_pages_and_the_call_is_sent_again() -> None:
    asked: list[Any] = []
    handlers = answering("accept", "accept", "accept", asked=asked)
    async with serving(asking([page(1), page(2)], [page(3)])) as (web,), running(web, handlers) as manifold:
        with anyio.fail_after(20):
            assert (await manifold.for_store().call_tool("work", {"n": 1})).text == "done"
        assert asked == [("url", "e1", URL), ("url", "e2", URL), ("url", "e3", URL)]
        assert [call["arguments"] for call in web.calls] == [{"n": 1}] * 3


@pytest.mark.parametrize("action", ["decline", "cancel"])
async def test_a_page_that_is_not_visited_is_the_servers_error_and_the_call_is_not_sent_again(action: str) -> None:
    asked: list[Any] = []
    async with serving(asking([page(1), page(2)])) as (web,), running(web, answering(action, asked=asked)) as manifold:
        with pytest.raises(Rejected, match="You have to allow this first") as caught:
            await manifold.for_store().call_tool("work")
        assert (caught.value.jsonrpc, caught.value.data) == (-32042, {"elicitations": [page(1), page(2)]})
        assert action in caught.value.hint
        assert len(asked) == len(web.calls) == 1


async def a_form(_params: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"action": "accept", "content": {}}


@pytest.mark.parametrize("handlers", [None, Handlers(elicitation=a_form)])
async def test_a_program_that_cannot_open_pages_is_told_which_to_visit_and_how_to_handle_it(
    handlers: Handlers | None,
) -> None:
    async with serving(asking([page(1)])) as (web,), running(web, handlers) as manifold:
        with pytest.raises(Rejected) as caught:
            await manifold.for_store().call_tool("work")
        assert caught.value.jsonrpc == -32042
        assert URL in caught.value.hint
        assert "elicitation_modes" in caught.value.hint


async def test_a_server_that_never_has_enough_is_given_up() -> None:
    asked: list[Any] = []
    endless = asking(*[[page(number)] for number in range(100)])
    async with serving(endless) as (web,), running(web, answering(*["accept"] * 100, asked=asked)) as manifold:
        with anyio.fail_after(20), pytest.raises(Rejected) as caught:
            await manifold.for_store().call_tool("work")
        assert "3 times" in caught.value.hint
        assert (len(asked), len(web.calls)) == (3, 4)


async def test_the_time_at_a_page_counts_into_the_time_of_the_call() -> None:
    async def elicitation(_params: Mapping[str, Any]) -> Mapping[str, Any]:
        await anyio.sleep_forever()
        return {}

    handlers = Handlers(elicitation=elicitation, elicitation_modes=("url",))
    async with serving(asking([page(1)])) as (web,), running(web, handlers) as manifold:
        with anyio.fail_after(20), pytest.raises(DeadlineExceeded):
            await manifold.for_store().call_tool("work", timeout=0.2)


NONSENSE: tuple[Any, ...] = (
    None,
    {"elicitations": []},
    {"elicitations": "here"},
    {"elicitations": [7, {"mode": "url"}]},
)


@pytest.mark.parametrize("data", NONSENSE)
async def test_an_error_that_names_no_page_is_an_error(data: Any) -> None:
    async def work(_arguments: Json) -> Json:
        raise Refusal(-32042, "Somewhere else.", data)

    asked: list[Any] = []
    peer = Peer("web", {"work": work}, {"work": {"type": "object"}})
    async with serving(peer) as (web,), running(web, answering("accept", asked=asked)) as manifold:
        with pytest.raises(Rejected, match="Somewhere else"):
            await manifold.for_store().call_tool("work")
        assert not asked
        assert len(web.calls) == 1
