"""Eve holds what was given to ann: session ids, states, parked calls, tasks, event ids, request ids. None is of use."""

import json
from collections.abc import AsyncIterator
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import anyio
import httpx2
import pytest

from tests.security.rig import (
    ANN,
    EVE,
    HELLO,
    LANES,
    LIST,
    META,
    STORE,
    Party,
    answer_in,
    battlefield,
    bearer,
    browser,
    call,
    modern_request,
    request,
)
from tests.support.manifold import PATIENCE, Json, Manifold, Wire
from tests.support.scripted import appear

ASKING: Final[Json] = {"elicitation": {"form": {}}}
TASKS: Final[Json] = {"extensions": {f"{META}tasks": {}}}
GREET: Final[Json] = {"name": "greet", "arguments": {}}
ECHO: Final[Json] = {"name": "echo", "arguments": {}}
# ``greet`` stands in two upstreams, so each agent sees both under their public names.
PUBLIC_GREET: Final[Json] = {"name": "mcp_old_greet", "arguments": {}}


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module", params=LANES)
async def manifold(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Manifold]:
    async with battlefield(tmp_path_factory.mktemp("handles"), express=LANES[request.param]) as running:
        yield running


def doors(manifold: Manifold) -> dict[str, str]:
    """The URLs at which eve may try: the plain one, hers, and ann's."""
    return {"plain": manifold.url, "eve": manifold.agent("eve"), "ann": manifold.agent("ann")}


# -- sessions ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
@pytest.mark.parametrize("token", [EVE, STORE])
async def test_a_stolen_session_id_is_that_of_no_session(manifold: Manifold, method: str, token: str) -> None:
    for url in doors(manifold).values():
        ann = await Party(manifold.url, ANN).open()
        stolen = await ann.stolen_by(token, url).post(LIST, method)
        unknown = await Party(url, token, "f" * 32).post(LIST, method)
        assert (stolen.status_code, stolen.content) == (unknown.status_code, unknown.content)
        assert stolen.status_code == 404
        assert "tools" in (await ann.ask("tools/list"))["result"]


async def test_a_stolen_session_id_without_a_credential_is_refused_like_any_other(manifold: Manifold) -> None:
    ann = await Party(manifold.url, ANN).open()
    for token in ("", "wrong-0123456789abcdef"):
        for method in ("POST", "GET", "DELETE"):
            assert (await ann.stolen_by(token).post(LIST, method)).status_code == 401
    assert "tools" in (await ann.ask("tools/list"))["result"]


async def test_a_session_id_among_several_does_not_get_in_beside_an_own_one(manifold: Manifold) -> None:
    ann, eve = await Party(manifold.url, ANN).open(), await Party(manifold.url, EVE).open()
    own = [(name, value) for name, value in eve.headers().items() if name != "Mcp-Session-Id"]
    for pair in ((eve.session, ann.session), (ann.session, eve.session)):
        ids = [("Mcp-Session-Id", one) for one in pair]
        for body in (LIST, call(2, "unlock")):
            async with browser() as client:
                answer = await client.post(manifold.url, json=body, headers=[*own, *ids])
            assert "vault" not in answer.text
            assert "structuredContent" not in answer.text
    joined = await Party(manifold.url, EVE, f"{eve.session}, {ann.session}").post(LIST)
    assert joined.status_code == 404


@pytest.mark.parametrize("url", ["eve", "ann"])
async def test_a_session_of_one_agent_is_no_session_at_anothers_url(manifold: Manifold, url: str) -> None:
    mine = await Party(doors(manifold)[url], STORE).open()
    other = doors(manifold)["ann" if url == "eve" else "eve"]
    assert (await mine.stolen_by(STORE, other).post(LIST)).status_code == 404
    assert (await mine.stolen_by(STORE, manifold.url).post(LIST)).status_code == 404
    assert (await mine.post(LIST)).status_code == 200


async def test_a_credential_that_turns_bad_on_an_open_session_is_refused_and_the_session_stays_its_owners(
    manifold: Manifold,
) -> None:
    ann = await Party(manifold.url, ANN).open()
    refused = await Party(manifold.url, ANN + "x", ann.session).post(LIST)
    assert refused.status_code == 401
    assert 'error="invalid_token"' in refused.headers["www-authenticate"]
    assert (await ann.post(LIST)).status_code == 200


async def test_a_session_chosen_by_the_attacker_is_not_opened(manifold: Manifold) -> None:
    chosen = "e" * 32
    fixed = await Party(manifold.url, ANN, chosen).post(HELLO)
    assert fixed.headers.get("mcp-session-id") != chosen
    assert (await Party(manifold.url, EVE, chosen).post(LIST)).status_code == 404


async def test_session_ids_are_not_to_be_guessed(manifold: Manifold) -> None:
    ids = [(await Party(manifold.url, ANN).open()).session for _ in range(8)]
    assert len(set(ids)) == len(ids)
    assert all(len(one) >= 32 for one in ids)
    # No two have a tenth of their characters in the same places beyond what chance gives: no counter, no clock.
    for left, right in pairwise(ids):
        assert sum(a == b for a, b in zip(left, right, strict=True)) < len(left) / 2


async def test_the_messages_address_of_a_legacy_stream_is_of_no_use_to_another(manifold: Manifold) -> None:
    headers = {**bearer(ANN), "Accept": "text/event-stream"}
    with anyio.fail_after(PATIENCE):
        async with (
            browser(headers=headers) as client,
            client.stream("GET", f"{manifold.base}/sse") as stream,
        ):
            lines = stream.aiter_lines()
            while not (line := await anext(lines)).startswith("data: "):
                pass
            path = line.removeprefix("data: ")
            number = path.rpartition("session_id=")[2]
            for where in (path, f"/agents/ann/messages/?session_id={number}", f"/agents/eve{path}"):
                for token in (EVE, STORE):
                    assert (await Party(manifold.base + where, token).post(HELLO)).status_code == 404
                assert (await Party(manifold.base + where, "").post(HELLO)).status_code == 401
            # A streamable HTTP session cannot be had by the id of a legacy one, nor the other way round.
            assert (await Party(manifold.url, EVE, number).post(LIST)).status_code == 404
            assert (await Party(manifold.base + path, ANN).post(HELLO)).status_code == 202
            while not (line := await anext(lines)).startswith("data: "):
                pass
            assert "serverInfo" in line


# -- states, parked calls, tasks ---------------------------------------------------------------------------------------


async def asked(party: Party, tool: Json = PUBLIC_GREET) -> Json:
    found = (await party.modern("tools/call", tool, able=ASKING))["result"]
    assert found["resultType"] == "input_required"
    (key,) = found["inputRequests"]
    answers = {key: {"action": "accept", "content": {"value": "Ann"}}}
    return {**tool, "requestState": found["requestState"], "inputResponses": answers}


async def test_a_stolen_state_is_refused_like_garbage_and_its_parked_call_goes_on_for_its_owner(
    manifold: Manifold,
) -> None:
    ann = Party(manifold.url, ANN)
    again = await asked(ann)
    for url in doors(manifold).values():
        for token in (EVE, STORE):
            thief = Party(url, token)
            stolen = await thief.modern("tools/call", again, able=ASKING)
            garbage = await thief.modern("tools/call", {**again, "requestState": "garbage"}, able=ASKING)
            assert stolen["error"] == garbage["error"]
    assert (await ann.modern("tools/call", again, able=ASKING))["result"]["content"][0]["text"] == "Hello, Ann!"


async def test_a_state_is_good_for_its_own_call_only(manifold: Manifold) -> None:
    ann = Party(manifold.url, ANN)
    again = await asked(ann)
    for other in (ECHO, {"name": "unlock", "arguments": {}}, {**PUBLIC_GREET, "arguments": {"other": 1}}):
        moved = {**again, **other}
        assert "error" in await ann.modern("tools/call", moved, able=ASKING), other
    elsewhere = await ann.modern("prompts/get", {"name": "ask", "requestState": again["requestState"]}, able=ASKING)
    assert "Ann" not in json.dumps(elsewhere)
    assert (await ann.modern("tools/call", again, able=ASKING))["result"]["content"][0]["text"] == "Hello, Ann!"


async def test_a_changed_state_is_refused(manifold: Manifold) -> None:
    ann = Party(manifold.url, ANN)
    again = await asked(ann)
    state = again["requestState"]
    for position in range(0, len(state), max(1, len(state) // 12)):
        other = "A" if state[position] != "A" else "B"
        changed = {**again, "requestState": state[:position] + other + state[position + 1 :]}
        assert "error" in await ann.modern("tools/call", changed, able=ASKING), position
    for cut in (state[:-1], state + "A", state * 2, "", 7, None, {"a": 1}, [state]):
        assert "Hello" not in json.dumps(await ann.modern("tools/call", {**again, "requestState": cut}, able=ASKING))


async def test_an_answer_to_anothers_question_is_not_taken(manifold: Manifold) -> None:
    """In the handshake era a question is a request to the client: eve answers ann's, by every id that she may guess."""
    ann = await Party(manifold.url, ANN).open(elicitation={})
    eve = await Party(manifold.url, EVE).open(elicitation={})
    async with browser() as client:
        asking = call(7, "mcp_old_greet")
        with anyio.fail_after(PATIENCE):
            async with client.stream("POST", manifold.url, json=asking, headers=ann.headers()) as stream:
                async for line in stream.aiter_lines():
                    if not line.startswith("data: {"):
                        continue
                    message = json.loads(line.removeprefix("data: "))
                    if message.get("method") != "elicitation/create":
                        break
                    forged = {"action": "accept", "content": {"value": "Eve"}}
                    answer = {"jsonrpc": "2.0", "id": message["id"], "result": forged}
                    for thief in (eve, ann.stolen_by(EVE), ann.stolen_by(STORE), Party(manifold.url, EVE)):
                        await thief.post(answer)
                    forged["value"] = ""
                    right = {"action": "accept", "content": {"value": "Ann"}}
                    await ann.post({**answer, "result": right})
    assert message["result"]["content"][0]["text"] == "Hello, Ann!"


async def test_a_stolen_task_is_unknown_to_every_method(manifold: Manifold) -> None:
    ann = Party(manifold.url, ANN)
    slow = {"name": "slow_compute", "arguments": {"seconds": 0}}
    task = (await ann.modern("tools/call", slow, able=TASKS))["result"]["taskId"]
    for url in doors(manifold).values():
        for token in (EVE, STORE):
            for method in ("tasks/get", "tasks/update", "tasks/cancel", "tasks/result", "tasks/list"):
                stolen = await Party(url, token).modern(method, {"taskId": task}, able=TASKS)
                unknown = await Party(url, token).modern(method, {"taskId": "x"}, able=TASKS)
                assert stolen["error"] == unknown["error"], method
    assert "result" in await ann.modern("tasks/get", {"taskId": task}, able=TASKS)


async def test_the_upstreams_own_task_id_is_not_taken(manifold: Manifold) -> None:
    """The fixture counts its tasks, so that its own ids are known to everybody."""
    ann = Party(manifold.url, ANN)
    slow = {"name": "slow_compute", "arguments": {"seconds": 0}}
    assert "taskId" in (await ann.modern("tools/call", slow, able=TASKS))["result"]
    for own in ("task/1 ü", "task/2 ü", "jobs:task/1 ü"):
        message, headers = modern_request("tasks/get", {"taskId": own}, able=TASKS)
        headers["Mcp-Name"] = "=?base64?dGFzay8xIMO8?="
        got = answer_in((await Party(manifold.url, EVE).post(message, **headers)).text)
        assert "result" not in got


async def test_a_state_is_no_task_and_a_task_is_no_state(manifold: Manifold) -> None:
    ann = Party(manifold.url, ANN)
    again = await asked(ann)
    slow = {"name": "slow_compute", "arguments": {"seconds": 0}}
    task = (await ann.modern("tools/call", slow, able=TASKS))["result"]["taskId"]
    assert "error" in await ann.modern("tasks/get", {"taskId": again["requestState"]}, able=TASKS)
    assert "error" in await ann.modern("tools/call", {**again, "requestState": task}, able=ASKING)


# -- streams, events, ids of requests ----------------------------------------------------------------------------------


async def test_news_of_anothers_task_are_not_promised_nor_told(manifold: Manifold) -> None:
    ann = Party(manifold.url, ANN)
    slow = {"name": "slow_compute", "arguments": {"seconds": 30}}
    task = (await ann.modern("tools/call", slow, able=TASKS))["result"]["taskId"]
    wanted = {
        "notifications": {"taskIds": [task], "toolsListChanged": True, "resourceSubscriptions": ["vault:///gold"]}
    }
    message, headers = modern_request("subscriptions/listen", wanted, able=TASKS)
    for url in doors(manifold).values():
        thief = Party(url, EVE)
        with anyio.fail_after(PATIENCE):
            async with (
                browser() as client,
                client.stream("POST", url, json=message, headers=thief.headers(**headers)) as stream,
            ):
                async for line in stream.aiter_lines():
                    if line.startswith("data: {"):
                        break
        honoured = json.loads(line.removeprefix("data: "))["params"]["notifications"]
        assert not honoured.get("taskIds")
        assert not honoured.get("resourceSubscriptions")
    assert "result" in await ann.modern("tasks/cancel", {"taskId": task}, able=TASKS)


async def test_a_request_is_not_cancelled_by_another_who_knows_its_id(manifold: Manifold, tmp_path: Path) -> None:
    ann, eve = await Party(manifold.url, ANN).open(), await Party(manifold.url, EVE).open()
    over = tmp_path / "over"
    cancel = {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "slow"}}
    answers: list[httpx2.Response] = []
    marks = {"old": "handshake call runs", "new": "modern call runs"}

    async def handshake() -> None:
        answers.append(await ann.post(call("slow", do="wait", text=marks["old"], file=str(over))))

    async def modern() -> None:
        params = {"name": "echo", "arguments": {"do": "wait", "text": marks["new"], "file": str(over)}}
        answers.append(await Party(manifold.url, ANN).modern_post("tools/call", params, number="slow"))

    with anyio.fail_after(PATIENCE):
        for ask, mark in ((handshake, "old"), (modern, "new")):
            over.unlink(missing_ok=True)
            seen = len([one for one in manifold.events if one.get("line") == marks[mark]])
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(ask)
                await manifold.until(
                    lambda mark=mark, seen=seen: (  # type: ignore[misc]
                        len([one for one in manifold.events if one.get("line") == marks[mark]]) > seen
                    )
                )
                for thief in (eve, ann.stolen_by(EVE), Party(manifold.url, EVE), Party(manifold.agent("ann"), EVE)):
                    await thief.post(cancel)
                    await thief.post(cancel, **{"MCP-Protocol-Version": "2026-07-28"})
                appear(over)
    for answer in answers:
        assert "structuredContent" in answer_in(answer.text)["result"]


async def test_equal_request_ids_and_progress_tokens_of_two_parties_are_not_mixed_up(manifold: Manifold) -> None:
    ann, eve = await Party(manifold.url, ANN).open(), await Party(manifold.url, EVE).open()
    found: dict[str, list[Json]] = {"ann": [], "eve": []}

    async def ask(name: str, party: Party, number: int) -> None:
        message = call(1, who=name, turn=number)
        message["params"]["_meta"] = {"progressToken": 1}
        found[name].append(answer_in((await party.post(message)).text)["result"]["structuredContent"]["arguments"])
        params = {"name": "echo", "arguments": {"who": name, "turn": number}, "_meta": {"progressToken": 1}}
        got = await Party(party.url, party.token).modern("tools/call", params)
        found[name].append(got["result"]["structuredContent"]["arguments"])

    with anyio.fail_after(PATIENCE):
        for number in range(4):
            async with anyio.create_task_group() as tasks:
                for name, party in (("ann", ann), ("eve", eve)):
                    tasks.start_soon(ask, name, party, number)
    for name, told in found.items():
        assert len(told) == 8
        assert all(one["who"] == name for one in told)


async def test_the_event_ids_of_anothers_stream_replay_nothing(manifold: Manifold, tmp_path: Path) -> None:
    ann, eve = await Party(manifold.url, ANN).open(), await Party(manifold.url, EVE).open()
    over = tmp_path / "over"
    last = ""
    long = call("mine", do="wait", text="replayable", file=str(over))
    with anyio.fail_after(PATIENCE):
        async with browser() as client:
            async with client.stream("POST", manifold.url, json=long, headers=ann.headers()) as broken:
                async for line in broken.aiter_lines():
                    if line.startswith("id: "):
                        last = line.removeprefix("id: ")
                        break
            appear(over)
            assert last
            guesses = [last, last.rpartition("-")[0], "0", "1", "a" * 200, "*", "../" + last]
            for thief in (eve, ann.stolen_by(EVE), ann.stolen_by(EVE, manifold.agent("ann"))):
                for guess in guesses:
                    headers = thief.headers(**{"Last-Event-ID": guess, "Accept": "text/event-stream"})
                    told = b""
                    with anyio.move_on_after(0.15):
                        async with client.stream("GET", thief.url, headers=headers) as answer:
                            async for chunk in answer.aiter_raw():
                                told += chunk
                    assert b"structuredContent" not in told
                    assert b"replayable" not in told


async def test_a_batch_cannot_smuggle_a_message_into_anothers_session(manifold: Manifold) -> None:
    old: Any = {**Wire.HELLO, "protocolVersion": "2025-03-26"}
    ann, eve = Party(manifold.url, ANN), Party(manifold.url, EVE)
    for party in (ann, eve):
        party.session = (await party.post(request("initialize", **old))).headers["mcp-session-id"]
        await party.post({"jsonrpc": "2.0", "method": "notifications/initialized"})
    stolen = await ann.stolen_by(EVE).post([LIST, call(2)])
    assert stolen.status_code >= 400
    answers = (await eve.post([LIST, call(2, "unlock"), call(3)])).text
    assert "vault" not in answers
    assert "echo" in answers
