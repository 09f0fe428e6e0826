"""What the express lane of legacy SSE has alone (proxy/gateway/sse_lane.py): sessions, whose they are, POSTs, streams.

What it has in common with that of pipes is in ``test_stream_lanes.py``.
"""

import signal
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, cast

import aiohttp
import anyio
import pytest

from proxy.gateway.sse_lane import MANY
from tests.support.lanes import EITHER, LANES, LARGE, call, introduce, opened, say, until
from tests.support.legacy import JSON, Legacy, encoded, legacy
from tests.support.manifold import PATIENCE, Home, Json, Manifold, Wire, serving
from tests.support.pipe_peer import config
from tests.support.scripted import upstream

ANN: Final = "ann-0123456789abcdef"
EVE: Final = "eve-0123456789abcdef"
STORE: Final = "store-0123456789abcdef"
AGENTS: Final[Json] = {
    "ann": {"servers": ["a"], "tokens": [ANN]},
    "eve": {"servers": ["b"], "tokens": [EVE]},
}
UNREAD: Final = 24
"""Answers of 1 MB that nobody reads: more than waits before nothing is begun any more, and what connections hold."""


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


def bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def session_in(wire: Wire) -> Legacy:
    return cast("Legacy", wire)


async def answers(session: Wire, count: int) -> list[Json]:
    """The next answers, whatever else comes."""
    found: list[Json] = []
    while len(found) < count:
        message = await session.next()
        if "id" in message and "method" not in message:
            found.append(message)
    return found


def text_of(answer: Json) -> str:
    return str(answer["result"]["content"][0]["text"])


# -- whose what is -----------------------------------------------------------------------------------------------------


@EITHER
async def test_nobody_gets_the_answer_to_another(tmp_path: Path, express: bool) -> None:
    async with opened(tmp_path, door="sse", express=express) as first, AsyncExitStack() as stack:
        sessions = [session_in(first)]
        for _ in range(9):
            sessions.append(await stack.enter_async_context(legacy(first.manifold)))
            await introduce(sessions[-1])
        shared = sessions[0].http  # one pool of connections carries what everybody asks

        async def ask(place: int, session: Legacy) -> None:
            session.http = shared
            for number in range(30):
                odd: Json = {"id": f"odd-{number}", "method": "nothing", "params": {"of": place}}
                assert await say(session, call(number, "echo", place=place), odd) == [202, 202]

        async def hear(place: int, session: Legacy) -> None:
            found = await answers(session, 60)
            assert {one["id"] for one in found} == {*range(30), *(f"odd-{number}" for number in range(30))}
            assert {text_of(one) for one in found if "result" in one} == {f'{{"place": {place}}}'}

        async with anyio.create_task_group() as tasks:
            for place, session in enumerate(sessions):
                tasks.start_soon(ask, place, session)
                tasks.start_soon(hear, place, session)


@pytest.fixture(scope="module", params=LANES.values(), ids=list(LANES))
async def guarded(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Manifold]:
    """A Manifold that asks for credentials, with two agents."""
    upstreams = {"a": config(), "b": upstream("b", "work")}
    home = Home(tmp_path_factory.mktemp("guarded")).write(
        upstreams, agents=AGENTS, auth={"tokens": [STORE]}, server={"express": request.param}
    )
    async with serving(home) as manifold:
        for name in upstreams:
            await manifold.event("upstream.state", upstream=name, new="ready")
        yield manifold


@pytest.mark.parametrize("agent", ["", "ann"])
async def test_a_session_is_its_owners_alone_also_when_it_is_well_known(guarded: Manifold, agent: str) -> None:
    async with legacy(guarded, agent, **bearer(ANN)) as ann, legacy(guarded, **bearer(EVE)) as eve:
        for session in (ann, eve):
            await introduce(session)
        for number in range(3):
            assert text_of(await _told(ann, call(number, "echo"))) == "{}"
        body, own = encoded(call(7, "echo")), ann.place.rpartition("session_id=")[2]
        async with aiohttp.ClientSession() as http:
            nobody = eve.http = http
            for where in (ann.place, f"/messages/?session_id={own}", f"/agents/eve/messages/?session_id={own}"):
                assert await eve.post(body, where, **bearer(EVE)) == 404
                assert await eve.post(body, where, **bearer(STORE)) == 404
                assert await eve.post(body, where, **bearer("nobody-0123456789abcdef")) == 401
                async with nobody.post(guarded.base + where, data=body, headers=JSON) as refused:
                    assert refused.status == 401
            for host in ({"Host": "evil.example"}, {"Origin": "http://evil.example"}):
                assert await ann.post(body, "", **host) in (403, 421)
        assert text_of(await _told(ann, call(8, "echo"))) == "{}"  # and nothing of all that has come before it


@pytest.mark.parametrize("agent", ["", "eve"])
async def test_an_agent_has_its_own_tools_and_no_others(guarded: Manifold, agent: str) -> None:
    async with legacy(guarded, agent, **bearer(EVE)) as eve:
        await introduce(eve)
        assert [one["name"] for one in (await eve.request("tools/list"))["tools"]] == ["work"]
        assert "content" in await eve.call("work")
        assert (await eve.call("mcp_a_echo"))["code"] == -32602


async def _told(session: Legacy, message: Json) -> Json:
    await session.send(message)
    return (await until(session, message["id"]))[-1]


# -- what POSTs are answered -------------------------------------------------------------------------------------------


async def statuses(session: Legacy) -> Mapping[str, int]:
    """What is said to all kinds of POSTs."""
    own = session.place.rpartition("=")[2]
    dashed = f"{own[:8]}-{own[8:12]}-{own[12:16]}-{own[16:20]}-{own[20:]}"
    body = encoded(call("any", "echo"))
    found = {
        where: await session.post(body, where.replace("OWN", own).replace("DASHED", dashed))
        for where in (
            "/messages/",
            "/messages/?session_id=",
            f"/messages/?session_id={'0' * 32}",
            "/messages/?session_id=DASHED",
            "/messages/?session_id=OWN&x=1",
            "/messages/?x=1&session_id=OWN",
            "/messages/?session_id=OWN",
            "/agents/nobody/messages/?session_id=OWN",
            "/mcp?session_id=OWN",
        )
    }
    bodies = {
        "nothing": b"",
        "garbage": b"{",
        "deep": encoded({"id": 1, "method": "ping", "params": {"a": 0}}).replace(b"0}", b"[" * 200 + b"]" * 200 + b"}"),
        "large": encoded(call(1, "echo", x="x" * 5_000_000)),
        "batch": b"[" + body + b"]",
        "version": body.replace(b"2.0", b"1.0"),
        "notification": encoded({"method": "notifications/cancelled", "params": {"requestId": "nobody"}}),
        "answer": encoded({"id": "lane-0", "result": {}}),
    }
    found |= {name: await session.post(one) for name, one in bodies.items()}
    found["no json"] = await session.post(body, **{"Content-Type": "text/plain"})
    found["another session's"] = await session.post(body, **{"Mcp-Session-Id": own})
    async with session.http.get(session.manifold.base + session.place) as got:
        found["GET"] = got.status
    return found


async def test_every_post_is_answered_as_without_the_lane(tmp_path: Path) -> None:
    said = []
    for express in LANES.values():
        async with opened(tmp_path, door="sse", express=express) as wire:
            said.append(await statuses(session_in(wire)))
            assert await wire.request("ping") == {}
    assert said[0] == said[1]
    assert set(said[0].values()) == {202, 400, 404, 405, 406, 413} & set(said[0].values())
    assert {said[0]["/messages/?session_id=OWN"], said[0]["deep"], said[0]["large"]} == {202, 400, 413}


@EITHER
async def test_two_requests_with_one_id_are_answered_both(tmp_path: Path, express: bool) -> None:
    async with opened(tmp_path, door="sse", express=express) as wire:
        await say(wire, call(1, "hold"))
        await wire.manifold.until(lambda: "held" in wire.manifold.said)
        await say(wire, call(1, "echo"))
        assert [text_of(one) for one in await answers(wire, 1)] == ["{}"]
        await say(wire, call(2, "release"))
        assert {(one["id"], text_of(one)) for one in await answers(wire, 2)} == {(1, "released"), (2, "")}


# -- streams -----------------------------------------------------------------------------------------------------------


@EITHER
async def test_the_end_of_a_session_ends_its_calls_and_nothing_else(tmp_path: Path, express: bool) -> None:
    async with opened(tmp_path, door="sse", express=express) as wire:
        async with legacy(wire.manifold) as other:
            await introduce(other)
            await say(other, call(1, "hold"), call(2, "echo"))
            await wire.manifold.until(lambda: "held" in wire.manifold.said)
        await wire.manifold.until(lambda: '"cancelled"' in wire.manifold.said)
        assert await session_in(wire).post(encoded(call(2, "echo")), other.place) == 404
        assert "content" in await wire.call("mcp_a_echo")
        assert "Traceback" not in wire.manifold.said


@EITHER
async def test_what_the_sdk_says_tears_no_large_answer(tmp_path: Path, express: bool) -> None:
    async with opened(tmp_path, door="sse", express=express) as wire, legacy(wire.manifold) as other:
        await introduce(other)
        await say(wire, *(call(number, "large", size=LARGE) for number in range(5)))
        for _ in range(3):  # by then they have come, and all of them are more than connections hold
            assert "content" in await other.call("mcp_a_large", size=LARGE)
        await say(wire, *({"id": f"odd-{place}", "method": "nothing"} for place in range(5)))
        found = {one["id"]: one for one in await answers(wire, 10)}
        assert {len(text_of(found[number])) for number in range(5)} == {LARGE}
        assert len(found) == 10


@EITHER
async def test_who_does_not_read_is_answered_at_last(tmp_path: Path, express: bool) -> None:
    async with opened(tmp_path, door="sse", express=express) as wire, legacy(wire.manifold) as other:
        await introduce(other)
        assert await say(wire, *(call(number, "large", size=1_000_000) for number in range(UNREAD))) == [202] * UNREAD
        for _ in range(100):  # by then all that can be written is
            assert "content" in await other.call("mcp_a_echo")
        taken: list[int] = []

        async def ask(number: int) -> None:
            taken.extend(await say(wire, call(number, "hold" if number == UNREAD else "echo")))

        async with anyio.create_task_group() as tasks:
            for number in range(UNREAD, UNREAD + MANY + 50):
                tasks.start_soon(ask, number)
            while len(taken) < MANY + 50 * (not express):
                assert "content" in await other.call("mcp_a_echo")
            for _ in range(20 * express):  # who does not read gets no more of it
                await other.call("mcp_a_echo")
                assert len(taken) == MANY
                assert "held" not in wire.manifold.said
            found = {one["id"] for one in await answers(wire, UNREAD + MANY + 49)}
        await wire.manifold.until(lambda: "held" in wire.manifold.said)
        assert found == {*range(UNREAD), *range(UNREAD + 1, UNREAD + MANY + 50)}
        assert set(taken) == {202}


async def test_the_end_of_manifold_is_the_end_of_streams_with_calls_under_way(tmp_path: Path) -> None:
    async with opened(tmp_path, door="sse", express=True) as wire:
        await say(wire, call(1, "hold"))
        await wire.manifold.until(lambda: "held" in wire.manifold.said)
        wire.manifold.process.send_signal(signal.SIGTERM)
        await session_in(wire).ended()
        with anyio.fail_after(PATIENCE):
            assert await wire.manifold.process.wait() == 0
        assert "Traceback" not in wire.manifold.said


@EITHER
async def test_a_revoked_token_takes_the_call_with_it(tmp_path: Path, express: bool) -> None:
    home = Home(tmp_path).write({"a": config()}, server={"express": express}, log={"format": "json", "access": "all"})
    async with serving(home) as manifold:
        made = await home.run("token", "create", "ann")
        credential: Any = bearer(made.stdout.strip())
        await manifold.event("upstream.state", upstream="a", new="ready")
        async with legacy(manifold, **credential) as ann:
            await introduce(ann)
            assert "content" in await ann.call("mcp_a_echo")
            await say(ann, call(5, "hold"))
            await manifold.until(lambda: "held" in manifold.said)
            await home.run("token", "revoke", "ann")
            await ann.ended()
            await manifold.event("call.done", outcome="cancelled", principal="ann")
            assert await ann.post(encoded(call(6, "echo"))) == 401
