"""Hot requests on standard input and output: served past the SDK, and nobody can tell (proxy/gateway/stdio_lane.py)."""

import json
import re
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, Final

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.support.manifold import PATIENCE, Home, Json, Wire, stdio
from tests.support.pipe_peer import config
from tests.support.scripted import upstream

LANES: Final = {"lane": True, "no lane": False}
EITHER: Final = pytest.mark.parametrize("express", LANES.values(), ids=list(LANES))
VERSION: Final = "2026-07-28"
META: Final = {
    "io.modelcontextprotocol/protocolVersion": VERSION,
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "raw", "version": "1"},
}
PROCESS: Final = re.compile(r', \\*"pid\\*": \d+')
FIRST: Final = "t"
LARGE: Final = 5_000_000


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@asynccontextmanager
async def opened(
    folder: Path, *, express: bool, modern: bool = False, capabilities: Json | None = None, **server: Any
) -> AsyncIterator[Wire]:
    """A Manifold on pipes with two upstreams, whose client has introduced itself."""
    files = upstream("b", "work", prompts=["ask"], resources=["file:///open"], templates=["file:///{name}"])
    home = Home(folder).write({"a": config(), "b": files}, server={"express": express, **server})
    async with stdio(home) as wire:
        if modern:
            await wire.request("server/discover", {"_meta": META})
        else:
            await wire.request("initialize", {**Wire.HELLO, "capabilities": capabilities or {}})
            await wire.send({"method": "notifications/initialized"})
        meta = {"_meta": META} if modern else {}
        for name in "ab":
            await wire.manifold.event("upstream.state", upstream=name, new="ready")
        assert len((await wire.request("tools/list", meta))["tools"]) == 7
        yield wire


async def say(wire: Wire, *messages: Json | bytes) -> None:
    """Write lines, in one go."""
    lines = (one if isinstance(one, bytes) else json.dumps({"jsonrpc": "2.0", **one}).encode() for one in messages)
    assert wire.manifold.process.stdin is not None
    await wire.manifold.process.stdin.send(b"".join(line + b"\n" for line in lines))


def call(number: Any, tool: str, token: Any = None, /, **arguments: Any) -> Json:
    params: Json = {"name": f"mcp_a_{tool}", "arguments": arguments}
    return {
        "id": number,
        "method": "tools/call",
        "params": params | ({"_meta": {"progressToken": token}} if token else {}),
    }


async def until(wire: Wire, number: Any) -> list[Json]:
    """Everything that comes until a request is answered, its answer last."""
    seen = [await wire.next()]
    while seen[-1].get("id") != number or "method" in seen[-1]:
        seen.append(await wire.next())
    return seen


# -- the same with and without -----------------------------------------------------------------------------------------

NUMBERS: Final = st.integers(-7, 2**53) | st.text("ab7", max_size=3) | st.just(10**30)
NO_NUMBERS: Final[st.SearchStrategy[Any]] = st.sampled_from([None, 1.5, True, [], {}])
ODD: Final = st.none() | st.booleans() | st.integers() | st.text(max_size=3) | st.lists(st.integers(), max_size=2)
NAMES: Final = st.sampled_from(["mcp_a_echo", "echo", "work", "mcp_b_work", "nothing", "", "ask", "mcp_b_ask"])
URIS: Final = st.sampled_from(["file:///open", "b+file:///open", "file:///else", "test://nobody", "", "file:///{name}"])
TOKENS: Final = st.integers(0, 9) | st.text(max_size=2) | st.booleans() | st.none() | st.floats(0, 1)
META_MEMBERS: Final = st.fixed_dictionaries({}, optional={"progressToken": TOKENS, "a/b": ODD})
ARGUMENTS: Final = st.dictionaries(
    st.text("xyz", max_size=2), ODD | st.just({"q": [1.0, "ü\u2028\ud83d\ude00"]}), max_size=2
)


def params(**members: Any) -> "st.SearchStrategy[Json]":
    """Params that mostly have what they should have, now and then with a member that is odd."""
    odd = {name: strategy | ODD for name, strategy in members.items()}
    right = st.fixed_dictionaries(members, optional={"_meta": META_MEMBERS})
    return right | right | st.fixed_dictionaries({}, optional={**odd, "_meta": META_MEMBERS | ODD, "cursor": ODD})


REFERENCES: Final = st.sampled_from(
    [{"type": "ref/prompt", "name": "ask"}, {"type": "ref/resource", "uri": "file:///{name}"}, {"type": "x"}, {}]
)
REQUESTS: Final = st.one_of(
    st.tuples(st.just("tools/call"), params(name=NAMES, arguments=ARGUMENTS)),
    st.tuples(st.just("prompts/get"), params(name=NAMES)),
    st.tuples(st.just("resources/read"), params(uri=URIS)),
    st.tuples(st.just("completion/complete"), params(ref=REFERENCES, argument=st.just({"name": "a", "value": ""}))),
    st.tuples(st.just("logging/setLevel"), params(level=st.sampled_from(["info", "error", "loud", ""]))),
    st.tuples(st.sampled_from(["tools/list", "prompts/list", "resources/list", "resources/templates/list"]), params()),
    st.tuples(st.sampled_from(["ping", "tools/Call", "resources/subscribe", "tasks/get", "nothing", ""]), params()),
)
ENVELOPES: Final = st.sampled_from(
    [
        META,
        META,
        META | {"io.modelcontextprotocol/clientInfo": {"name": 1}},
        META | {"io.modelcontextprotocol/clientCapabilities": {"roots": 1}},
        META | {"io.modelcontextprotocol/clientCapabilities": {"elicitation": {}}},
        META | {"io.modelcontextprotocol/protocolVersion": "2099-01-01"},
        META | {"io.modelcontextprotocol/logLevel": "info"},
        META | {"io.modelcontextprotocol/logLevel": 5},
        {"io.modelcontextprotocol/protocolVersion": VERSION},
    ]
)


@st.composite
def lines(draw: st.DrawFn) -> tuple[Json, bool]:
    """One request, and whether its id is odd; whether its envelope is of the other era is a matter of luck."""
    method, own = draw(REQUESTS)
    odd = draw(st.integers(0, 9)) == 0
    message: Json = {"id": draw(NO_NUMBERS if odd else NUMBERS), "method": method}
    if draw(st.integers(0, 9)):
        message["params"] = own
    envelope = draw(ENVELOPES) if draw(st.integers(0, 9)) else {}
    return {**message, "envelope": envelope}, odd


def dressed(message: Json, *, modern: bool) -> Json:
    """A request in the clothes of an era; rarely those of the other one."""
    rest = {key: value for key, value in message.items() if key != "envelope"}
    envelope = message["envelope"]
    if modern == bool(envelope) and isinstance(rest.get("params", {}), dict):
        own = rest.get("params", {})
        meta = own.get("_meta", {})
        if envelope and isinstance(meta, dict):
            rest["params"] = {**own, "_meta": {**meta, **envelope}}
    return rest


@pytest.fixture(scope="module", params=[False, True], ids=["handshake", "modern"])
async def both(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[list[Wire], bool]]:
    async with AsyncExitStack() as stack:
        wires = []
        for name, express in LANES.items():
            folder = tmp_path_factory.mktemp(name.replace(" ", "-"))
            wires.append(await stack.enter_async_context(opened(folder, express=express, modern=request.param)))
        yield wires, request.param


async def told(wire: Wire, message: Json, *, odd: bool, modern: bool) -> list[Json]:
    """What is said to a request; what is certainly not answered is followed by two others that are."""
    if not odd:
        await say(wire, message)
        return sorted_out(await until(wire, message["id"]))
    ends: list[Json] = [{"id": "end-1", "method": "prompts/list"}, {"id": "end-2", "method": "tasks/get"}]
    await say(wire, message, *(one | {"params": {"_meta": META}} if modern else one for one in ends))
    seen: list[Json] = []
    while sum(one.get("id") in ("end-1", "end-2") for one in seen) < 2:
        seen.append(await wire.next())
    return sorted(sorted_out(seen), key=lambda one: str(one.get("id")))


def sorted_out(seen: list[Json]) -> list[Json]:
    """Without what is different in each process, and what belongs to no request."""
    apart = (one for one in seen if not str(one.get("method")).endswith("list_changed"))
    return [json.loads(PROCESS.sub("", json.dumps(one))) for one in apart]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(sent=st.lists(lines(), min_size=4, max_size=12))
async def test_the_same_requests_have_the_same_answers_with_and_without_the_lane(
    both: tuple[list[Wire], bool], sent: list[tuple[Json, bool]]
) -> None:
    wires, modern = both
    for message, odd in sent:
        request = dressed(message, modern=modern)
        with_lane, without = [await told(wire, request, odd=odd, modern=modern) for wire in wires]
        assert with_lane == without, request


# -- what goes on beside answers ---------------------------------------------------------------------------------------


@EITHER
async def test_what_is_said_on_the_way_of_a_call_comes_before_its_answer_and_in_order(
    tmp_path: Path, express: bool
) -> None:
    async with opened(tmp_path, express=express) as wire:
        await say(wire, call(1, "steps", FIRST, count=300), call(2, "steps", 5, count=300))
        seen: list[Json] = []
        while not {1, 2} <= {one.get("id") for one in seen}:
            seen.append(await wire.next())
        for number, token in ((1, FIRST), (2, 5)):
            until_answered = seen[: next(at for at, one in enumerate(seen) if one.get("id") == number)]
            steps = [one["params"] for one in until_answered if one.get("method") == "notifications/progress"]
            assert [one["progress"] for one in steps if one["progressToken"] == token] == list(range(300))


@EITHER
async def test_a_client_hears_of_the_level_that_it_has_asked_for(tmp_path: Path, express: bool) -> None:
    async with opened(tmp_path, express=express) as wire:
        assert await wire.request("logging/setLevel", {"level": "error"}) == {}
        await say(wire, call("quiet", "steps", 1, count=3))
        quiet = await until(wire, "quiet")
        assert await wire.request("logging/setLevel", {"level": "warning"}) == {}
        await say(wire, call("loud", "steps", 1, count=3))
        loud = await until(wire, "loud")
    logs = [[one["params"]["data"] for one in seen if "message" in str(one.get("method"))] for seen in (quiet, loud)]
    assert logs == [[], [0, 1, 2]]


@EITHER
async def test_a_cancelled_call_is_cancelled_at_its_upstream_and_not_answered(tmp_path: Path, express: bool) -> None:
    async with opened(tmp_path, express=express) as wire:
        for number, again in ((77, 77), ("78", 78), (0, 0)):
            await say(wire, call(number, "hold"))
            await wire.manifold.until(lambda: "held" in wire.manifold.said)
            await say(wire, {"method": "notifications/cancelled", "params": {"requestId": again}})
            await wire.manifold.until(
                lambda: '"cancelled"' in wire.manifold.said or ": cancelled" in wire.manifold.said
            )
            assert [one["id"] for one in await answered_next(wire)] == ["next"]


async def answered_next(wire: Wire) -> list[Json]:
    """The answers that come until a later call is answered."""
    await say(wire, call("next", "echo"))
    return [one for one in await until(wire, "next") if "id" in one]


@EITHER
async def test_a_client_that_is_asked_answers_and_the_call_goes_on(tmp_path: Path, express: bool) -> None:
    async with opened(tmp_path, express=express, capabilities={"elicitation": {}}) as wire:
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


FAULT: Final = {"code": -32042, "message": "not now"}


async def asked(wire: Wire) -> Json:
    while (question := await wire.next()).get("method") != "elicitation/create":
        assert "id" not in question
    return question


@EITHER
async def test_a_question_of_a_call_that_was_cancelled_is_taken_back(tmp_path: Path, express: bool) -> None:
    async with opened(tmp_path, express=express, capabilities={"elicitation": {}}) as wire:
        await say(wire, call(1, "ask"))
        question = await asked(wire)
        await say(wire, {"method": "notifications/cancelled", "params": {"requestId": 1}})
        while (message := await wire.next()).get("method") != "notifications/cancelled":
            assert "id" not in message
        assert message["params"]["requestId"] == question["id"]
        await say(wire, {"id": question["id"], "result": {"action": "decline"}})
        assert [one["id"] for one in await answered_next(wire)] == ["next"]


@EITHER
async def test_a_large_answer_is_one_line_and_others_are_served_meanwhile(tmp_path: Path, express: bool) -> None:
    async with opened(tmp_path, express=express) as wire:
        await say(wire, call("large", "large", size=LARGE), call("steps", "steps", 1, count=50), call("held", "hold"))
        await wire.manifold.until(lambda: "held" in wire.manifold.said)  # though nobody reads what was answered
        await say(wire, call("free", "release"), call("larger", "large", size=LARGE))
        found: dict[Any, Json] = {}
        while len(found) < 5:
            message = await wire.next()
            if "id" in message:
                found[message["id"]] = message["result"]
        assert {len(found[number]["content"][0]["text"]) for number in ("large", "larger")} == {LARGE}


@EITHER
async def test_a_client_that_goes_away_in_the_middle_of_a_large_answer_ends_it(tmp_path: Path, express: bool) -> None:
    async with opened(tmp_path, express=express) as wire:
        await say(wire, call("large", "large", size=LARGE), call("held", "hold"))
        process = wire.manifold.process
        assert process.stdout is not None
        assert process.stdin is not None
        with anyio.fail_after(PATIENCE):
            assert await process.stdout.receive()
            await process.stdout.aclose()
            await process.stdin.aclose()
            assert await process.wait() == 0
        assert "Traceback" not in wire.manifold.said


@EITHER
async def test_what_is_under_way_when_the_client_says_no_more_is_answered_with_an_error(
    tmp_path: Path, express: bool
) -> None:
    async with opened(tmp_path, express=express) as wire:
        await say(wire, call("held", "hold"))
        await wire.manifold.until(lambda: "held" in wire.manifold.said)
        assert await wire.close() == 0
        found = [json.loads(line) for line in wire.lines]
    assert [one["error"]["code"] for one in found if one.get("id") == "held"] == [-32000]


GARBAGE: Final = [
    b"",
    b"{",
    b"[]",
    b"[1]",
    b"null",
    b'"x"',
    b"\xff\xfe",
    b"{}",
    b'{"jsonrpc":"2.0"}',
    b"{" * 300,
    b"\r",
]


@EITHER
async def test_lines_that_are_no_messages_are_passed_over(tmp_path: Path, express: bool) -> None:
    async with opened(tmp_path, express=express) as wire:
        for garbage in GARBAGE:
            await say(wire, call("before", "echo"), garbage, call("next", "echo"))
            assert {one["id"] for one in [await wire.next(), await wire.next()]} == {"before", "next"}
        assert "Traceback" not in wire.manifold.said


@EITHER
async def test_a_client_hears_of_a_change_and_then_sees_it(tmp_path: Path, express: bool) -> None:
    async with opened(tmp_path, express=express) as wire:
        for number in range(5):
            await wire.call("mcp_b_work", do="offer", tool=f"new{number}")
            await wire.heard("notifications/tools/list_changed")
            assert f"mcp_b_new{number}" in [one["name"] for one in (await wire.request("tools/list"))["tools"]]


@EITHER
async def test_what_a_client_has_seen_is_remembered_for_the_next_start(tmp_path: Path, express: bool) -> None:
    async with opened(tmp_path, express=express) as wire:
        await wire.call("mcp_b_work", do="offer", tool="late")
        await wire.heard("notifications/tools/list_changed")
        listed = await wire.request("tools/list")
        assert await wire.close() == 0
        memory = [json.loads(kept.read_text()) for kept in tmp_path.glob("state/**/introductions/*.json")]  # noqa: ASYNC240 - nobody else waits
    assert [one["answers"]["2025-11-25"]["tools/list"] for one in memory] == [listed]
