"""Older handshake revisions get what they know, and nothing else; and what only they have works."""

import json
from typing import Any

import anyio
import pytest

from tests.conformance.cells import Theatre, every
from tests.conformance.conftest import Owners
from tests.conformance.scripts import person
from tests.conformance.wire import PATIENCE, Client, Json, events

# How the upstream is reached makes no difference to what a downstream's revision knows.
pytestmark = every(only=lambda cell: cell.downstream == "L" and cell.link == "http")

OLDER = ("2024-11-05", "2025-03-26", "2025-06-18")
SINCE = {
    "annotations": "2025-03-26",
    "title": "2025-06-18",
    "outputSchema": "2025-06-18",
    "icons": "2025-11-25",
    "execution": "2025-11-25",
}
LISTS = ("tools", "resources", "prompts")


@pytest.mark.parametrize("version", OLDER)
async def test_an_older_revision_gets_what_it_knows_and_can_be_asked(
    theatre: Theatre, owners: Owners, version: str
) -> None:
    able: Json = {"sampling": {}, "roots": {}, **({"elicitation": {}} if version >= "2025-06-18" else {})}
    async with owners.own(theatre.client(able, version)) as client:
        assert client.introduction["protocolVersion"] == version
        lists = {key: (await client.send(f"{key}/list")).result[key] for key in LISTS}
        rich = (await client.tool("probe_rich_content")).result
        echoed = (await client.tool("probe_echo")).result
        audio = (await client.tool("test_audio_content")).result
        sampled = await client.tool("test_sampling", {"prompt": "?"}, answer=person)
        rooted = await client.tool("test_input_required_result_list_roots", answer=person)
        asked = await client.tool("test_elicitation", {"message": "?"}, answer=person)
    members = {member for entries in lists.values() for entry in entries for member in entry}
    # Annotations of resources are older than those of tools.
    tools = {member for entry in lists["tools"] for member in entry}
    assert not {name for name in tools if SINCE.get(name, "") > version}
    assert not {name for name in members - {"annotations"} if SINCE.get(name, "") > version}
    kinds = [block["type"] for block in rich["content"]]
    assert kinds == ["text", "resource_link" if version >= "2025-06-18" else "text", "resource"]
    assert "test://static-text" in json.dumps(rich["content"][1])
    assert ("structuredContent" in echoed) == (version >= "2025-06-18")
    assert audio["content"][0]["type"] == ("audio" if version >= "2025-03-26" else "text")
    assert "Paris" in sampled.result["content"][0]["text"]
    assert "file:///srv/code" in rooted.result["content"][0]["text"]
    assert len(asked.asked) == (version >= "2025-06-18")


# -- batches -----------------------------------------------------------------------------------------------------------

BATCH: list[Json] = [
    {"jsonrpc": "2.0", "id": "a", "method": "tools/call", "params": {"name": "test_simple_text", "arguments": {}}},
    {"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": "nobody"}},
    {"jsonrpc": "2.0", "id": 2**40, "method": "tools/call", "params": {"name": "no_such_tool"}},
    {"jsonrpc": "2.0", "id": "p", "method": "ping"},
]


async def _answers(client: Client, batch: Any) -> list[Json]:
    if not client.over_http:
        number = len(client.heard.messages)
        await client.pipe.write(batch)
        found: list[Json] = (await client.heard.until("batch"))[-1]["params"]
        assert len(client.heard.messages) == number + 1
        return found
    async with client.pipe.post(batch) as response:
        assert response.status == 200
        if response.content_type == "application/json":
            answers: list[Json] = await response.json()
            return answers
        return [message async for message in events(response)]


async def test_a_batch_is_answered_as_one(theatre: Theatre, owners: Owners) -> None:
    async with owners.own(theatre.client(version="2025-03-26")) as client:
        with anyio.fail_after(PATIENCE):
            answers = {answer["id"]: answer for answer in await _answers(client, BATCH)}
    assert answers.keys() == {"a", 2**40, "p"}
    assert answers["a"]["result"]["content"][0]["text"].startswith("This is a simple text")
    assert answers[2**40]["error"]["code"] == -32602
    assert answers["p"]["result"] == {}


async def test_a_batch_with_progress_is_answered_by_a_stream(theatre: Theatre, owners: Owners) -> None:
    params = {"name": "test_tool_with_progress", "arguments": {}, "_meta": {"progressToken": "b"}}
    batch = [BATCH[0], {"jsonrpc": "2.0", "id": "s", "method": "tools/call", "params": params}]
    async with owners.own(theatre.client(version="2025-03-26")) as client:
        with anyio.fail_after(PATIENCE):
            answers = await _answers_of_stream(client, batch)
    values = [one["params"]["progress"] for one in answers if one.get("method") == "notifications/progress"]
    assert values == [0, 50, 100]
    assert {one["id"] for one in answers if "id" in one} == {"a", "s"}


async def _answers_of_stream(client: Client, batch: list[Json]) -> list[Json]:
    if client.over_http:
        return await _answers(client, batch)
    await client.pipe.write(batch)
    found = (await client.heard.until("batch"))[-1]["params"]
    return [*client.heard.of("notifications/progress"), *found]


async def test_other_revisions_refuse_batches(client: Client) -> None:
    if client.over_http:
        async with client.pipe.post(BATCH) as response:
            assert response.status == 400
    else:
        await client.pipe.write(BATCH)
    assert (await client.send("ping")).result == {}
