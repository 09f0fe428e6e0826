"""What is kept for downstreams that come back, and for how long; and which version counts within a session."""

from collections.abc import MutableMapping
from typing import Any

import pytest
from mcp.server.streamable_http import EventMessage
from mcp_types import JSONRPCNotification
from starlette.types import Receive, Scope, Send

from proxy.gateway.resume import Events, Negotiated


def note(text: str) -> JSONRPCNotification:
    return JSONRPCNotification(jsonrpc="2.0", method="notifications/message", params={"data": text})


async def replayed(events: Events, last: str) -> tuple[str | None, list[tuple[str | None, Any]]]:
    found: list[tuple[str | None, Any]] = []

    async def take(event: EventMessage) -> None:
        message = event.message
        assert isinstance(message, JSONRPCNotification)
        found.append((event.event_id, (message.params or {})["data"]))

    return await events.replay_events_after(last, take), found


async def test_what_came_after_an_event_of_a_stream_is_replayed_and_nothing_of_others() -> None:
    events = Events()
    opening = await events.store_event("s:1", None)
    await events.store_event("s:1", note("a"))
    await events.store_event("s:2", note("other"))
    await events.store_event("s:1", None)
    last = await events.store_event("s:1", note("ü"))
    stream, found = await replayed(events, opening)
    assert stream == "s:1"
    assert [text for _, text in found] == ["a", "ü"]
    assert await replayed(events, last) == ("s:1", [])


async def test_what_comes_while_the_rest_is_replayed_is_replayed_too() -> None:
    events = Events()
    opening = await events.store_event("s", None)
    await events.store_event("s", note("a"))
    found = []

    async def take(event: EventMessage) -> None:
        found.append(event.event_id)
        if len(found) < 3:
            await events.store_event("s", note("more"))

    await events.replay_events_after(opening, take)
    assert found == ["2", "3", "4"]


@pytest.mark.parametrize("last", ["", "99", "-1", "x", "1.0", "²"])
async def test_an_unknown_event_replays_nothing(last: str) -> None:
    events = Events()
    await events.store_event("s", note("a"))
    assert await replayed(events, last) == (None, [])


async def test_the_oldest_events_make_room() -> None:
    events = Events(max_events=3)
    ids = [await events.store_event("s", note(str(number))) for number in range(5)]
    assert len(events) == 3
    assert (await replayed(events, ids[1]))[0] is None
    assert [text for _, text in (await replayed(events, ids[2]))[1]] == ["3", "4"]


async def test_all_events_together_stay_within_their_bytes() -> None:
    events = Events(max_bytes=1000)
    first = await events.store_event("s", note("x" * 600))
    await events.store_event("s", note("y" * 600))
    assert len(events) == 1
    await events.store_event("s", note("z" * 2000))
    assert len(events) == 0
    assert (await replayed(events, first))[0] is None


@pytest.mark.parametrize(
    ("session", "sent", "arrives"),
    [
        ("known", "2025-03-26", "2025-11-25"),
        ("known", None, "2025-11-25"),
        ("known", "2025-11-25", "2025-11-25"),
        ("known", "2026-07-28", "2026-07-28"),
        ("known", "nonsense", "nonsense"),
        ("unknown", "2025-03-26", "2025-03-26"),
        ("unknown", None, None),
    ],
)
async def test_within_a_session_the_negotiated_version_counts(
    session: str, sent: str | None, arrives: str | None
) -> None:
    seen: list[MutableMapping[str, Any]] = []

    async def app(scope: Scope, _receive: Receive, _send: Send) -> None:
        seen.append(scope)

    async def nothing(*_: Any) -> Any:
        raise AssertionError

    headers = [(b"mcp-session-id", session.encode()), (b"accept", b"x")]
    if sent is not None:
        headers.append((b"mcp-protocol-version", sent.encode()))
    door = Negotiated(app, {"known": "2025-11-25"})
    await door({"type": "http", "headers": headers}, nothing, nothing)
    got = dict(seen[0]["headers"])
    assert got.get(b"mcp-protocol-version") == (None if arrives is None else arrives.encode())
    assert got[b"accept"] == b"x"


async def test_an_event_that_is_too_large_costs_others_nothing_and_its_stream_cannot_be_resumed() -> None:
    events = Events(max_bytes=1000)
    other = events.keep("other", b"x" * 900)
    first = events.keep("stream", None)
    events.keep("stream", [b"x" * 600, b"x" * 600])
    assert await events.replay_events_after(first, _nobody) is None
    assert await events.replay_events_after(other, _nobody) == "other"


async def test_an_event_in_pieces_is_replayed_whole() -> None:
    events = Events()
    first = events.keep("stream", None)
    events.keep("stream", [b'{"jsonrpc":"2.0","id":1,', b'"result":{"a":1}}'])
    heard: list[EventMessage] = []

    async def hear(message: EventMessage) -> None:
        heard.append(message)

    assert await events.replay_events_after(first, hear) == "stream"
    assert [one.message.model_dump()["result"] for one in heard] == [{"a": 1}]


async def _nobody(_message: EventMessage) -> None:
    raise AssertionError
