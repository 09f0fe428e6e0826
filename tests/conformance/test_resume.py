"""A client of the handshake era whose connection broke comes back for what it missed (2025-11-25, resumability)."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest

from tests.conformance.cells import Theatre, every
from tests.conformance.conftest import Owners
from tests.conformance.scripts import FULL
from tests.conformance.wire import PATIENCE, Client, Json, events

# A pipe breaks as a whole.
pytestmark = every(only=lambda cell: cell.downstream == "L" and cell.door == "http")


async def _broken(client: Client, number: str) -> str:
    """Start a call and lose the connection after the first event of its stream; the event's id."""
    params = {"name": "probe_slow", "arguments": {"seconds": 0.4, "tag": number}}
    message = {"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}
    fields: dict[str, str] = {}
    async with client.pipe.post(message) as response:
        assert response.content_type == "text/event-stream"
        while line := (await response.content.readline()).decode().strip():
            name, _, fields[name] = (part.strip() for part in line.partition(":"))
    assert fields["data"] == ""
    assert int(fields["retry"]) > 0
    return fields["id"]


@asynccontextmanager
async def _returned(client: Client, last: str) -> AsyncIterator[AsyncIterator[Json]]:
    async with client.pipe.get({"Last-Event-ID": last}) as response:
        assert response.status == 200
        yield events(response)


async def _first(messages: AsyncIterator[Json]) -> Any:
    with anyio.fail_after(PATIENCE):
        return await anext(messages)


@pytest.mark.parametrize("when", ["before the answer", "after the answer"])
async def test_a_broken_stream_is_resumed(theatre: Theatre, owners: Owners, when: str) -> None:
    async with owners.own(theatre.client(FULL)) as client:
        last = await _broken(client, "slow")
        if when == "after the answer":
            await client.tool("probe_slow", {"seconds": 0.6})
        async with _returned(client, last) as messages:
            answer = await _first(messages)
    assert answer["id"] == "slow"
    assert answer["result"]["content"][0]["text"] == "slept"


async def test_nobody_gets_the_stream_of_another_session(theatre: Theatre, owners: Owners) -> None:
    async with owners.own(theatre.client(FULL)) as client, owners.own(theatre.client(FULL)) as other:
        last = await _broken(client, "mine")
        async with _returned(client, last) as messages:
            assert (await _first(messages))["id"] == "mine"
        async with _returned(other, last) as messages:
            assert [message async for message in messages] == []
