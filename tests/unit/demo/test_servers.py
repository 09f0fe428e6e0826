"""The demo servers, through FastMCP's own client: they must be right before they say anything about Manifold."""

from datetime import UTC, datetime

import pytest
from fastmcp import Client
from fastmcp.exceptions import ToolError
from mcp_types import PromptReference

from proxy.demo import clock, library, notes

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


async def test_notes_are_created_found_read_and_deleted() -> None:
    async with Client(notes.build()) as client:
        await client.call_tool("create_note", {"title": "Shopping", "text": "milk and honey"})
        await client.call_tool("create_note", {"title": "Garden"})
        found = await client.call_tool("search_notes", {"words": "HONEY shop"})
        assert found.structured_content == {"result": [{"id": 1, "title": "Shopping", "text": "milk and honey"}]}
        contents = await client.read_resource("note://1")
        assert getattr(contents[0], "text", "") == "# Shopping\n\nmilk and honey"
        await client.call_tool("delete_note", {"note_id": 1})
        left = await client.call_tool("list_notes")
        assert [note["title"] for note in (left.structured_content or {})["result"]] == ["Garden"]


async def test_two_notes_servers_share_nothing() -> None:
    async with Client(notes.build()) as one, Client(notes.build()) as other:
        await one.call_tool("create_note", {"title": "mine"})
        assert (await other.call_tool("list_notes")).structured_content == {"result": []}


@pytest.mark.parametrize("tool", ["read_note", "delete_note"])
async def test_a_missing_note_is_an_error_that_says_where_to_look(tool: str) -> None:
    async with Client(notes.build()) as client:
        with pytest.raises(ToolError, match=r"no note 7.*list_notes"):
            await client.call_tool(tool, {"note_id": 7})


async def test_the_notes_summary_prompt_takes_a_topic() -> None:
    async with Client(notes.build()) as client:
        await client.call_tool("create_note", {"title": "Shopping", "text": "milk"})
        await client.call_tool("create_note", {"title": "Garden", "text": "roses"})
        prompt = await client.get_prompt("summarise", {"topic": "roses"})
        text = getattr(prompt.messages[0].content, "text", "")
        assert "Garden" in text
        assert "Shopping" not in text


async def test_the_demo_tools_say_what_they_change() -> None:
    async with Client(notes.build()) as client:
        hints = {tool.name: tool.annotations for tool in await client.list_tools()}
    assert {name for name, hint in hints.items() if hint and hint.read_only_hint} == {
        "list_notes",
        "read_note",
        "search_notes",
    }
    assert {name for name, hint in hints.items() if hint and hint.destructive_hint} == {"delete_note"}


@pytest.mark.parametrize(
    ("timezone", "time", "weekday"),
    [
        ("Asia/Tokyo", "2026-11-21T21:00:00+09:00", "Saturday"),
        ("Pacific/Auckland", "2026-11-22T01:00:00+13:00", "Sunday"),
    ],
)
async def test_the_clock_tells_the_time_of_a_zone(timezone: str, time: str, weekday: str) -> None:
    async with Client(clock.build(lambda: NOW)) as client:
        told = await client.call_tool("now_in", {"timezone": timezone})
    assert told.structured_content == {"time": time, "timezone": timezone, "weekday": weekday}


async def test_the_clock_converts_between_zones() -> None:
    async with Client(clock.build()) as client:
        arguments = {"time": "2026-11-21T14:30", "from_timezone": "Europe/Paris", "to_timezone": "America/New_York"}
        converted = await client.call_tool("convert", arguments)
    assert (converted.structured_content or {})["time"] == "2026-11-21T08:30:00-05:00"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"time": "noon", "from_timezone": "UTC", "to_timezone": "UTC"}, "not an ISO 8601 time"),
        ({"time": "2026-11-21T14:30", "from_timezone": "Mars", "to_timezone": "UTC"}, "no time zone 'Mars'"),
    ],
)
async def test_the_clock_says_what_it_cannot_read(arguments: dict[str, str], message: str) -> None:
    async with Client(clock.build()) as client:
        with pytest.raises(ToolError, match=message):
            await client.call_tool("convert", arguments)


async def test_the_countdown_reports_every_step() -> None:
    seen: list[tuple[float, float | None]] = []

    async def note(progress: float, total: float | None, message: str | None) -> None:
        del message
        seen.append((progress, total))

    async with Client(clock.build()) as client:
        await client.call_tool("countdown", {"steps": 3, "interval": 0}, progress_handler=note)
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]


async def test_the_library_pages_through_what_it_found() -> None:
    titles: list[str] = []
    offset: int | None = 0
    async with Client(library.build()) as client:
        while offset is not None:
            found = await client.call_tool("search_books", {"subject": "fiction", "offset": offset, "limit": 2})
            content = found.structured_content or {}
            titles += [book["title"] for book in content["books"]]
            offset = content["next_offset"]
    assert titles == [book.title for book in library.BOOKS if book.subject == "fiction"]


async def test_the_library_completes_authors() -> None:
    async with Client(library.build()) as client:
        reference = PromptReference(name="recommend")
        completed = await client.complete(reference, {"name": "author", "value": "george"})
    assert completed.values == ["George Boole", "George Eliot"]


async def test_an_author_is_a_resource() -> None:
    async with Client(library.build()) as client:
        contents = await client.read_resource("library://authors/Jane%20Austen")
    assert getattr(contents[0], "text", "").splitlines() == [
        "Emma, Jane Austen (1815)",
        "Persuasion, Jane Austen (1817)",
    ]


async def test_search_has_an_output_schema() -> None:
    async with Client(library.build()) as client:
        tools = {tool.name: tool for tool in await client.list_tools()}
    schema = tools["search_books"].output_schema or {}
    assert set(schema["properties"]) == {"books", "total", "next_offset"}
