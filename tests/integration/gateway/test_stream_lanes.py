"""Hot requests of clients to which all is said on one stream: served past the SDK, and nobody can tell.

The lane of pipes and that of legacy SSE (proxy/gateway/stream_lane.py); what one of them has alone is beside this.
"""

import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from tests.support.lanes import (
    ASKS,
    DOORS,
    EITHER,
    FIRST,
    LANES,
    LARGE,
    META,
    answered_next,
    asked,
    call,
    dressed,
    lines,
    opened,
    say,
    sorted_out,
    until,
)
from tests.support.manifold import Json, Wire

FAULT: Final = {"code": -32042, "message": "not now"}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


# -- the same with and without -----------------------------------------------------------------------------------------

KINDS: Final = {"pipe": ("pipe", False), "modern pipe": ("pipe", True), "sse": ("sse", False)}


@pytest.fixture(scope="module", params=KINDS.values(), ids=list(KINDS))
async def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[list[Wire], bool]]:
    door, modern = request.param
    async with AsyncExitStack() as stack:
        wires = []
        for name, express in LANES.items():
            folder = tmp_path_factory.mktemp(name.replace(" ", "-"))
            wires.append(await stack.enter_async_context(opened(folder, door=door, express=express, modern=modern)))
        yield wires, modern


async def told(wire: Wire, message: Json, *, odd: bool, modern: bool) -> tuple[list[int], list[Json]]:
    """What is said to a request; what is certainly not answered is followed by two others that are."""
    if not odd:
        status = await say(wire, message)
        return status, sorted_out(await until(wire, message["id"]))
    ends: list[Json] = [{"id": "end-1", "method": "prompts/list"}, {"id": "end-2", "method": "tasks/get"}]
    status = await say(wire, message, *(one | {"params": {"_meta": META}} if modern else one for one in ends))
    seen: list[Json] = []
    while sum(one.get("id") in ("end-1", "end-2") for one in seen) < 2:
        seen.append(await wire.next())
    return status, sorted(sorted_out(seen), key=lambda one: str(one.get("id")))


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(sent=st.lists(lines(), min_size=4, max_size=12))
@example([(ASKS, False)])
async def test_the_same_requests_have_the_same_answers_with_and_without_the_lane(
    both: tuple[list[Wire], bool], sent: list[tuple[Json, bool]]
) -> None:
    wires, modern = both
    for message, odd in sent:
        request = dressed(message, modern=modern)
        with_lane, without = [await told(wire, request, odd=odd, modern=modern) for wire in wires]
        assert with_lane == without, request


# -- what goes on beside answers ---------------------------------------------------------------------------------------


@DOORS
@EITHER
async def test_what_is_said_on_the_way_of_a_call_comes_before_its_answer_and_in_order(
    tmp_path: Path, express: bool, door: str
) -> None:
    async with opened(tmp_path, door=door, express=express) as wire:
        await say(wire, call(1, "steps", FIRST, count=300), call(2, "steps", 5, count=300))
        seen: list[Json] = []
        while not {1, 2} <= {one.get("id") for one in seen}:
            seen.append(await wire.next())
        for number, token in ((1, FIRST), (2, 5)):
            until_answered = seen[: next(at for at, one in enumerate(seen) if one.get("id") == number)]
            steps = [one["params"] for one in until_answered if one.get("method") == "notifications/progress"]
            assert [one["progress"] for one in steps if one["progressToken"] == token] == list(range(300))


@DOORS
@EITHER
async def test_a_client_hears_of_the_level_that_it_has_asked_for(tmp_path: Path, express: bool, door: str) -> None:
    async with opened(tmp_path, door=door, express=express) as wire:
        assert await wire.request("logging/setLevel", {"level": "error"}) == {}
        await say(wire, call("quiet", "steps", 1, count=3))
        quiet = await until(wire, "quiet")
        assert await wire.request("logging/setLevel", {"level": "warning"}) == {}
        await say(wire, call("loud", "steps", 1, count=3))
        loud = await until(wire, "loud")
    logs = [[one["params"]["data"] for one in seen if "message" in str(one.get("method"))] for seen in (quiet, loud)]
    assert logs == [[], [0, 1, 2]]


@DOORS
@EITHER
async def test_a_cancelled_call_is_cancelled_at_its_upstream_and_not_answered(
    tmp_path: Path, express: bool, door: str
) -> None:
    async with opened(tmp_path, door=door, express=express) as wire:
        for number, again in ((77, 77), ("78", 78), (0, 0)):
            await say(wire, call(number, "hold"))
            await wire.manifold.until(lambda: "held" in wire.manifold.said)
            await say(wire, {"method": "notifications/cancelled", "params": {"requestId": again}})
            await wire.manifold.until(
                lambda: '"cancelled"' in wire.manifold.said or ": cancelled" in wire.manifold.said
            )
            assert [one["id"] for one in await answered_next(wire)] == ["next"]


@DOORS
@EITHER
async def test_a_client_that_is_asked_answers_and_the_call_goes_on(tmp_path: Path, express: bool, door: str) -> None:
    async with opened(tmp_path, door=door, express=express, capabilities={"elicitation": {}}) as wire:
        await say(wire, *(call(number, "ask") for number in range(1, 9)))
        questions = [await asked(wire) for _ in range(8)]
        assert len({one["id"] for one in questions}) == 8
        assert all(str(one["id"]).startswith("lane-") for one in questions) is express
        for place, question in enumerate(questions):
            content = {"action": "accept", "content": {"x": str(place)}}
            await say(wire, {"id": question["id"], **({"result": content} if place else {"error": FAULT})})
        answers = [json.loads((await wire.next())["result"]["content"][0]["text"]) for _ in questions]
        assert sum("error" in one for one in answers) == 1
        assert {one["result"]["content"]["x"] for one in answers if "result" in one} == set("1234567")


@DOORS
@EITHER
async def test_a_question_of_a_call_that_was_cancelled_is_taken_back(tmp_path: Path, express: bool, door: str) -> None:
    async with opened(tmp_path, door=door, express=express, capabilities={"elicitation": {}}) as wire:
        await say(wire, call(1, "ask"))
        question = await asked(wire)
        await say(wire, {"method": "notifications/cancelled", "params": {"requestId": 1}})
        while (message := await wire.next()).get("method") != "notifications/cancelled":
            assert "id" not in message
        assert message["params"]["requestId"] == question["id"]
        await say(wire, {"id": question["id"], "result": {"action": "decline"}})
        assert [one["id"] for one in await answered_next(wire)] == ["next"]


@DOORS
@EITHER
async def test_a_large_answer_is_one_line_and_others_are_served_meanwhile(
    tmp_path: Path, express: bool, door: str
) -> None:
    async with opened(tmp_path, door=door, express=express) as wire:
        await say(wire, call("large", "large", size=LARGE), call("steps", "steps", 1, count=50), call("held", "hold"))
        await wire.manifold.until(lambda: "held" in wire.manifold.said)  # though nobody reads what was answered
        await say(wire, call("free", "release"), call("larger", "large", size=LARGE))
        found: dict[Any, Json] = {}
        while len(found) < 5:
            message = await wire.next()
            if "id" in message:
                found[message["id"]] = message["result"]
        assert {len(found[number]["content"][0]["text"]) for number in ("large", "larger")} == {LARGE}


@DOORS
@EITHER
async def test_a_client_hears_of_a_change_and_then_sees_it(tmp_path: Path, express: bool, door: str) -> None:
    async with opened(tmp_path, door=door, express=express) as wire:
        for number in range(5):
            await wire.call("mcp_b_work", do="offer", tool=f"new{number}")
            seen: list[str] = []
            while f"mcp_b_new{number}" not in seen:  # the first news may be of the start
                await wire.heard("notifications/tools/list_changed")
                seen = [one["name"] for one in (await wire.request("tools/list"))["tools"]]
