"""What happens beside answers, in every crossing: changes, subscriptions, cancellation, questions, introductions."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from tests.conformance.cells import Theatre, every
from tests.conformance.conftest import Owners
from tests.conformance.scripts import FULL, person
from tests.conformance.wire import META, PATIENCE, Client, Exchange, Heard, Json

CHANGED = {
    "tools": ("toolsListChanged", "notifications/tools/list_changed", "tools/list"),
    "prompts": ("promptsListChanged", "notifications/prompts/list_changed", "prompts/list"),
    "resources": ("resourcesListChanged", "notifications/resources/list_changed", "resources/list"),
}


class Stream(Exchange):
    """A request that is not answered, and what comes on its stream."""

    def __init__(self) -> None:
        super().__init__()
        self.heard = Heard()
        self.notes = Notes(self.heard)


class Notes(list[Json]):
    """A list that rings."""

    def __init__(self, heard: Heard) -> None:
        super().__init__()
        self._heard = heard

    def append(self, message: Json) -> None:
        super().append(message)
        self._heard.add(message)


@asynccontextmanager
async def listening(client: Client, wanted: Json) -> AsyncIterator[Heard]:
    """A ``subscriptions/listen`` stream, open once it is acknowledged; on a pipe its frames come with all others."""
    stream = Stream()
    async with anyio.create_task_group() as tasks:

        async def run() -> None:
            params = {"notifications": wanted}
            await client.send("subscriptions/listen", params, exchange=stream, patience=10 * PATIENCE)

        tasks.start_soon(run)
        heard = stream.heard if client.over_http else client.heard
        seen = len(heard.of("notifications/subscriptions/acknowledged"))
        await heard.until("notifications/subscriptions/acknowledged", 1 if client.over_http else seen + 1)
        yield heard
        tasks.cancel_scope.cancel()


@every()
@pytest.mark.parametrize("what", CHANGED)
async def test_a_changed_list_is_announced_and_served(plain: Client, what: str) -> None:
    client = plain
    flag, method, listing = CHANGED[what]
    before = len((await client.send(listing)).result[what])

    async def grow(heard: Heard) -> None:
        for change in (1, 0):
            number = len(heard.of(method))
            await client.tool("probe_grow", {"what": what})
            await heard.until(method, number + 1)
            assert len((await client.send(listing)).result[what]) == before + change

    if client.modern:
        async with listening(client, {flag: True}) as heard:
            await grow(heard)
    else:
        await grow(client.heard)


@every()
async def test_an_updated_resource_is_announced_to_who_subscribed(plain: Client) -> None:
    client = plain
    uri = "test://watched-resource"
    updated = "notifications/resources/updated"
    if client.modern:
        async with listening(client, {"resourceSubscriptions": [uri]}) as heard:
            number = len(heard.of(updated))
            await client.tool("probe_touch_resource", {"uri": "test://static-text"})
            await client.tool("probe_touch_resource", {"uri": uri})
            found = await heard.until(updated, number + 1)
        assert [one["params"]["uri"] for one in found[number:]] == [uri]
        return
    assert (await client.send("resources/subscribe", {"uri": uri})).result == {}
    number = len(client.heard.of(updated))
    await client.tool("probe_touch_resource", {"uri": "test://static-text"})
    await client.tool("probe_touch_resource", {"uri": uri})
    found = await client.heard.until(updated, number + 1)
    assert [one["params"] for one in found[number:]] == [{"uri": uri}]
    assert (await client.send("resources/unsubscribe", {"uri": uri})).result == {}
    await client.tool("probe_touch_resource", {"uri": uri})
    await client.send("ping")
    assert len(client.heard.of(updated)) == number + 1


@every()
async def test_a_listen_stream_is_acknowledged_with_what_can_be_honoured(plain: Client) -> None:
    client = plain
    if not client.modern:
        assert (await client.send("subscriptions/listen", {"notifications": {}})).error["code"] == -32601
        return
    wanted: Json = {"toolsListChanged": True, "promptsListChanged": False, "somethingElse": True}
    wanted["resourceSubscriptions"] = ["test://static-text", 7]
    async with listening(client, wanted) as heard:
        acknowledged = heard.of("notifications/subscriptions/acknowledged")[-1]["params"]
        number = len(heard.of("notifications/tools/list_changed"))
        prompts = len(heard.of("notifications/prompts/list_changed"))
        await client.tool("probe_grow", {"what": "tools"})
        first = (await heard.until("notifications/tools/list_changed", number + 1))[-1]
        await client.tool("probe_grow", {"what": "tools"})
        # The list is what it was, for whoever comes next.
        await heard.until("notifications/tools/list_changed", number + 2)
    honoured = {"toolsListChanged": True, "resourceSubscriptions": ["test://static-text"]}
    assert acknowledged["notifications"] == honoured
    stamp = acknowledged["_meta"][META + "subscriptionId"]
    assert first["params"]["_meta"][META + "subscriptionId"] == stamp
    assert len(heard.of("notifications/prompts/list_changed")) == prompts


@every()
async def test_a_cancelled_call_is_cancelled_upstream(theatre: Theatre, client: Client) -> None:
    tag = f"cancelled in {theatre.cell.id}"
    async with anyio.create_task_group() as tasks:
        sent = anyio.Event()

        async def run() -> None:
            await client.tool("probe_slow", {"seconds": 60, "tag": tag}, started=sent, patience=10 * PATIENCE)

        tasks.start_soon(run)
        await sent.wait()
        # It must have arrived before it can be cancelled: whatever follows it has been answered.
        await client.tool("test_simple_text")
        if not client.modern:
            await client.cancel_last("probe_slow")
        tasks.cancel_scope.cancel()
    with anyio.fail_after(PATIENCE):
        while tag not in (await client.tool("probe_cancelled")).result["content"][0]["text"]:
            await anyio.lowlevel.checkpoint()


@every()
async def test_a_client_is_never_asked_what_it_cannot_answer(theatre: Theatre, owners: Owners) -> None:
    async with owners.own(theatre.client({})) as mute:
        told = (await mute.tool("probe_echo")).result["structuredContent"]["seen"]["capabilities"]
        asked = [
            await mute.tool(name)
            for name in ("test_elicitation", "test_sampling", "test_input_required_result_list_roots")
        ]
    assert told == {}
    assert all("error" in one.answer or one.result.get("isError") for one in asked)
    assert [one.asked for one in asked] == [[], [], []]


@every()
async def test_an_upstream_is_told_exactly_what_the_client_declared(theatre: Theatre, owners: Owners) -> None:
    declared: Json = {"elicitation": {"form": {}}, "sampling": {}}
    async with owners.own(theatre.client(declared)) as client:
        told = (await client.tool("probe_echo")).result["structuredContent"]["seen"]["capabilities"]
    assert told == declared


@every(
    only=lambda cell: cell.crossing == "L→L"
)  # the modern era has no such notification: roots are asked for anew in every request
async def test_changed_roots_are_told_upstream(client: Client) -> None:
    before = int((await client.tool("probe_roots_changed")).result["content"][0]["text"])
    await client.tell("notifications/roots/list_changed")
    with anyio.fail_after(PATIENCE):
        while int((await client.tool("probe_roots_changed")).result["content"][0]["text"]) == before:
            await anyio.lowlevel.checkpoint()


@every()
async def test_manifold_introduces_itself_with_what_it_can_serve(
    theatre: Theatre, client: Client, owners: Owners
) -> None:
    await client.send("tools/list")
    # By now it is known what the upstream says of itself. On a pipe the next one to come is still told what was known
    # when the last one came, and whoever comes then is told what was known meanwhile.
    for _ in range(2):
        async with owners.own(theatre.client()) as another:
            await another.send("tools/list")
            said = another.introduction
    assert said["instructions"] == "fixture instructions"
    capabilities = said["capabilities"]
    assert capabilities["tools"] == capabilities["prompts"] == {"listChanged": True}
    assert capabilities["resources"] == {"listChanged": True, "subscribe": True}
    assert capabilities["completions"] == capabilities["logging"] == {}
    info = said["_meta"][META + "serverInfo"] if client.modern else said["serverInfo"]
    assert info["name"] == "manifold"


@every()
async def test_every_result_is_signed_in_the_modern_era_and_no_other(client: Client) -> None:
    results = [
        (await client.send("tools/list")).result,
        (await client.tool("test_simple_text")).result,
        (await client.send("resources/read", {"uri": "test://static-text"})).result,
        (await client.send("prompts/get", {"name": "test_simple_prompt"})).result,
    ]
    for result in results:
        signed = (result.get("_meta") or {}).get(META + "serverInfo", {}).get("name")
        assert signed == ("manifold" if client.modern else None)
        assert result.get("resultType") == ("complete" if client.modern else None)


@every()
async def test_caching_hints_are_the_weakest_of_all_parts(theatre: Theatre, client: Client) -> None:
    listed = (await client.send("tools/list")).result
    read = (await client.send("resources/read", {"uri": "test://static-text"})).result
    hints = [(one.get("ttlMs"), one.get("cacheScope")) for one in (listed, read)]
    expected: list[Any] = {
        # The fixture's shortest list lives 5 s and is private; what it reads lives 1 s.
        "M→M": [(5000, "private"), (1000, "private")],
        "M→L": [(0, "private"), (0, "private")],
    }.get(theatre.cell.crossing, [(None, None), (None, None)])
    assert hints == expected


@every(only=lambda cell: cell.upstream == "M")  # a handshake upstream has no such output
async def test_structured_output_that_is_no_object_survives(client: Client) -> None:
    tools = (await client.send("tools/list")).result["tools"]
    schema = next(tool for tool in tools if tool["name"] == "probe_structured_array")["outputSchema"]
    result = (await client.tool("probe_structured_array")).result
    own = {"type": "array", "items": {"type": "integer"}}
    if client.modern:
        assert (schema, result["structuredContent"]) == (own, [1, 2])
    else:
        wrapped = {"type": "object", "properties": {"result": own}, "required": ["result"]}
        assert (schema, result["structuredContent"]) == (wrapped, {"result": [1, 2]})
    assert result["content"] == [{"type": "text", "text": "[1,2]"}]


@every()
async def test_a_visited_page_is_reported_as_done(theatre: Theatre, client: Client) -> None:
    exchange = await client.tool("probe_elicit_url", answer=person)
    question = exchange.asked[0]["params"]
    done = [note["params"] for note in exchange.notes if note["method"] == "notifications/elicitation/complete"]
    if client.modern:
        assert "elicitationId" not in question
        assert done == []
    elif theatre.cell.upstream == "M":
        assert done == [{"elicitationId": question["elicitationId"]}]
    else:
        assert question["elicitationId"] == "e-1"


@every(only=lambda cell: cell.door == "http")  # a pipe has one client
async def test_one_client_is_asked_while_another_takes_its_time(theatre: Theatre, owners: Owners) -> None:
    asked, answered = anyio.Event(), anyio.Event()
    seen: dict[str, Exchange] = {}

    async def slowly(method: str, params: Json | None) -> Json:
        asked.set()
        await answered.wait()
        return person(method, params)

    async with owners.own(theatre.client(FULL)) as first, owners.own(theatre.client(FULL)) as second:

        async def run() -> None:
            seen["first"] = await first.call("tools/call", _elicit("first"), answer=slowly, patience=10 * PATIENCE)

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run)
            await asked.wait()
            seen["second"] = await second.call("tools/call", _elicit("second"), answer=person)
            answered.set()
    assert {name: one.asked[0]["params"]["message"] for name, one in seen.items()} == {
        "first": "from first",
        "second": "from second",
    }
    assert all("action=accept" in one.result["content"][0]["text"] for one in seen.values())


def _elicit(name: str) -> Json:
    return {"name": "test_elicitation", "arguments": {"message": f"from {name}"}}


@every(only=lambda cell: cell.downstream == "M")  # the handshake era carries no state
@pytest.mark.parametrize("damage", ["changed", "cut", "another request", "nonsense"])
async def test_a_tampered_state_is_refused(client: Client, damage: str) -> None:
    call = {"name": "test_input_required_result_request_state", "arguments": {}}
    state = (await client.send("tools/call", call)).result["requestState"]
    changed = {
        "changed": ("A" if state[40] != "A" else "B").join((state[:40], state[41:])),
        "cut": state[:-4],
        "another request": state,
        "nonsense": "nonsense",
    }[damage]
    if damage == "another request":
        call = {**call, "name": "test_input_required_result_tampered_state"}
    answers = {"confirm": {"action": "accept", "content": {"ok": True}}}
    refused = await client.send("tools/call", {**call, "requestState": changed, "inputResponses": answers})
    assert refused.error["code"] == -32602
    assert refused.error["data"] == {"reason": "invalid_request_state"}


@every(only=lambda cell: cell.crossing == "M→L")  # elsewhere the upstream judges the answers
async def test_wrong_answers_are_asked_for_again(client: Client) -> None:
    call = _elicit("me")
    first = (await client.send("tools/call", call)).result
    key = next(iter(first["inputRequests"]))
    wrong: Json = {**call, "inputResponses": {key: {"roots": []}, "else": {}}}
    if "requestState" in first:
        wrong["requestState"] = first["requestState"]
    again = (await client.send("tools/call", wrong)).result
    assert again["inputRequests"] == first["inputRequests"]
    right = {"action": "accept", "content": {"username": "u", "email": "e"}}
    done = {**call, "inputResponses": {key: right}, "requestState": again["requestState"]}
    assert "action=accept" in (await client.send("tools/call", done)).result["content"][0]["text"]
