"""Logs: structured, on one stream, without secrets."""

import io
import json
import logging as stdlib
import re
from collections.abc import Iterator
from typing import Any

import fastmcp
import pytest
import structlog

from proxy import masking
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


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_a_known_secret_is_in_no_line_whoever_wrote_it_in_whatever_format() -> None:
    masking.learn(['planted-"log"-secret-1'])
    for style, stream in (("json", io.StringIO()), ("console", io.StringIO()), ("console", Terminal())):
        logging.configure(style=style, stream=stream)
        structlog.get_logger("x").info(
            "said", text='it is planted-"log"-secret-1!', deep=[{"a": 'planted-"log"-secret-1'}]
        )
        stdlib.getLogger("other").error("%s", 'planted-"log"-secret-1')
        try:
            raise ValueError('planted-"log"-secret-1')  # noqa: TRY301 - the point of the test
        except ValueError:
            structlog.get_logger("x").exception("failed")
        text = stream.getvalue()
        assert text.count("•••") + text.count("\\u2022\\u2022\\u2022") >= 4
        assert "planted" not in text


def test_a_traceback_shows_no_variables() -> None:
    logging.configure(style="console", stream=(stream := Terminal()))
    try:
        local = "value-of-a-variable"
        raise ValueError(len(local))  # noqa: TRY301 - the point of the test
    except ValueError:
        structlog.get_logger("x").exception("failed")
    assert "ValueError: 19" in stream.getvalue()
    assert "value-of-a-variable" not in stream.getvalue()


def test_headers_and_lists_are_looked_through_too() -> None:
    logging.configure(style="json", stream=(stream := io.StringIO()))
    headers = [("Authorization", "hunter2"), (b"cookie", b"hunter2"), ("Accept", "x")]
    structlog.get_logger("x").info("e", headers=headers, list=[{"a": {"password": "hunter2"}}], tokens=12)
    assert "hunter2" not in stream.getvalue()
    (event,) = logged(stream)
    assert event["headers"][2] == ["Accept", "x"]
    assert event["tokens"] == 12


@pytest.mark.parametrize("colours", [True, False])
def test_untrusted_text_neither_forges_a_line_nor_drives_a_terminal(*, colours: bool) -> None:
    stream = Terminal() if colours else io.StringIO()
    logging.configure(style="console", stream=stream)
    evil = "x\n2026-01-01 [info] forged\r\x1b[2J\x1b]0;title\x07\x9b31m\u202e"
    log = structlog.get_logger("x")
    log.info("upstream.stderr", line=evil, deep={"a": evil})
    stdlib.getLogger("other").error("said %s", evil)
    try:
        raise ValueError(evil)  # noqa: TRY301 - the point of the test
    except ValueError:
        log.exception("failed")
    text = stream.getvalue()
    assert not [line for line in text.splitlines() if line.startswith("2026-01-01")]
    own = re.sub(r"\x1b\[[0-9;]*m", "", text)
    assert not set(own) & set("\r\x1b\x07\x9b\u202e")
    assert "forged" in own


def test_a_program_with_logs_of_its_own_gets_no_secret_either(caplog: pytest.LogCaptureFixture) -> None:
    masking.learn(["planted-embed-secret-1"])
    logging.embed()
    with caplog.at_level("INFO"):
        structlog.get_logger("proxy.x").warning("said", text="planted-embed-secret-1")
    assert "planted" not in caplog.text
    assert "•••" in caplog.text


def test_what_anybody_can_cause_at_will_does_not_fill_the_log() -> None:
    logging.configure(style="json", stream=(stream := io.StringIO()))
    for _ in range(200):
        stdlib.getLogger("uvicorn.error").warning("Nonsense came in.")
    stdlib.getLogger("uvicorn.error").warning("Something else.")
    for _ in range(20):
        stdlib.getLogger("uvicorn.error").error("It is broken.")
    events = [event["event"] for event in logged(stream)]
    assert 1 <= events.count("Nonsense came in.") <= 10
    assert events.count("Something else.") == 1
    assert events.count("It is broken.") == 20
