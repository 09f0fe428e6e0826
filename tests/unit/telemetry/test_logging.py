"""Logs: structured, on one stream, without secrets."""

import io
import json
import logging as stdlib
from collections.abc import Iterator
from typing import Any

import fastmcp
import pytest
import structlog

from proxy.telemetry import logging


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    root = stdlib.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def logged(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_an_event_is_one_line_of_json() -> None:
    logging.configure(style="json", stream=(stream := io.StringIO()))
    structlog.get_logger("x").info("upstream.state", upstream="a", text="two\nlines")
    (event,) = logged(stream)
    assert event.pop("timestamp").endswith("Z")
    assert event == {"event": "upstream.state", "level": "info", "upstream": "a", "text": "two\nlines"}


def test_records_of_other_libraries_look_the_same() -> None:
    logging.configure(style="json", stream=(stream := io.StringIO()))
    stdlib.getLogger("somebody.else").warning("careful: %s", 1)
    (event,) = logged(stream)
    assert (event["event"], event["level"]) == ("careful: 1", "warning")


@pytest.mark.parametrize("name", ["uvicorn", "mcp", "fastmcp", "aiohttp"])
def test_libraries_are_heard_from_warnings_on(name: str) -> None:
    logging.configure(style="json", stream=(stream := io.StringIO()))
    assert fastmcp.__version__  # once imported, it has handlers of its own
    stdlib.getLogger(f"{name}.inner").info("chatter")
    stdlib.getLogger(f"{name}.inner").warning("trouble")
    assert [event["event"] for event in logged(stream)] == ["trouble"]


def test_events_below_the_level_are_not_written() -> None:
    logging.configure(level="warning", style="json", stream=(stream := io.StringIO()))
    log = structlog.get_logger("x")
    log.info("quiet")
    log.warning("loud")
    assert [event["event"] for event in logged(stream)] == ["loud"]


@pytest.mark.parametrize(
    "key", ["authorization", "Authorization", "api_key", "api-key", "client_secret", "password", "Set-Cookie"]
)
def test_values_under_secret_names_are_masked_wherever_they_are(key: str) -> None:
    logging.configure(style="json", stream=(stream := io.StringIO()))
    structlog.get_logger("x").info("event", **{key: "hunter2"}, headers={"Accept": "*/*", key: "hunter2"})
    assert "hunter2" not in stream.getvalue()
    assert logged(stream)[0]["headers"]["Accept"] == "*/*"


def test_an_exception_is_part_of_its_event() -> None:
    logging.configure(style="json", stream=(stream := io.StringIO()))
    try:
        raise ValueError("boom")  # noqa: TRY301 - the point of the test
    except ValueError:
        structlog.get_logger("x").exception("failed")
    (event,) = logged(stream)
    assert "ValueError: boom" in event["exception"]


def test_on_the_console_people_can_read_it() -> None:
    logging.configure(style="console", stream=(stream := io.StringIO()))
    structlog.get_logger("x").info("upstream.state", upstream="a")
    assert "upstream.state" in stream.getvalue()
    assert "upstream=a" in stream.getvalue()
