"""Driving a modern upstream for a handshake downstream: rounds, state, limits."""

from collections.abc import Iterable
from typing import Any

import anyio
import pytest

from proxy.bridge.drive import MAX_ROUNDS, drive
from proxy.errors import METHOD_NOT_FOUND, ProtocolFault, Rejected
from proxy.model import Json, Params, Reply
from tests.support.bridge import Downstream
from tests.support.clock import ManualClock

ABLE: Params = {"elicitation": {"form": {}, "url": {}}, "roots": {}}
ROOTS = {"method": "roots/list"}
VISIT = {"method": "elicitation/create", "params": {"mode": "url", "url": "https://example.com", "message": "go"}}


class Upstream:
    """Answers with one result after the other, and keeps what it was sent."""

    def __init__(self, results: Iterable[Json]) -> None:
        self._results = iter(results)
        self.sent: list[dict[str, Any]] = []

    async def __call__(self, params: Params) -> Reply:
        self.sent.append(dict(params))
        return Reply.of(next(self._results))


def question(state: Any = None, **requests: Any) -> dict[str, Any]:
    asked: dict[str, Any] = {"resultType": "input_required"}
    if requests:
        asked["inputRequests"] = requests
    return asked if state is None else {**asked, "requestState": state}


async def driven(upstream: Upstream, downstream: Downstream, capabilities: Params = ABLE) -> Reply:
    clock = ManualClock()
    replies: list[Reply] = []

    async def run() -> None:
        replies.append(await drive(upstream, {"name": "t"}, back=downstream, capabilities=capabilities, clock=clock))

    with anyio.fail_after(5):
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            await clock.advance(60)
    return replies[0]


async def test_answers_and_state_go_back_as_they_came() -> None:
    state = "ünï=/+"
    upstream = Upstream([question(state, r=ROOTS), question(None, r2=ROOTS), {"done": True}])
    reply = await driven(upstream, Downstream(lambda _method, _params: {"roots": []}))
    assert reply.result == {"done": True}
    assert upstream.sent == [
        {"name": "t"},
        {"name": "t", "inputResponses": {"r": {"roots": []}}, "requestState": state},
        {"name": "t", "inputResponses": {"r2": {"roots": []}}},
    ]


async def test_a_round_without_questions_is_polled_with_its_state() -> None:
    upstream = Upstream([question("a"), question("b"), {"done": True}])
    await driven(upstream, Downstream())
    assert [params.get("requestState") for params in upstream.sent] == [None, "a", "b"]


async def test_an_upstream_that_asks_without_end_is_given_up() -> None:
    upstream = Upstream(question(str(number)) for number in range(MAX_ROUNDS + 1))
    with pytest.RaisesGroup(pytest.RaisesExc(ProtocolFault, match="without coming to an end")):
        await driven(upstream, Downstream())
    assert len(upstream.sent) == MAX_ROUNDS


async def test_what_the_downstream_cannot_answer_is_never_put_to_it() -> None:
    downstream = Downstream()
    with pytest.RaisesGroup(pytest.RaisesExc(Rejected, check=lambda error: error.jsonrpc == METHOD_NOT_FOUND)):
        await driven(Upstream([question(None, v=VISIT)]), downstream, {"elicitation": {}})
    assert downstream.asked == []


async def test_a_page_keeps_its_id_over_the_rounds_and_is_closed_at_the_end() -> None:
    downstream = Downstream(lambda _method, _params: {"action": "accept"})
    await driven(Upstream([question("1", v=VISIT), question("2", v=VISIT), {}]), downstream)
    ids = {params["elicitationId"] for _, params in downstream.asked}
    assert len(ids) == 1
    assert downstream.told == [("notifications/elicitation/complete", {"elicitationId": ids.pop()})]
