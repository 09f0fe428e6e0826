"""What a child writes for people."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from proxy.telemetry.ration import Ration
from proxy.upstream.tap import Tap, redactor


@given(st.lists(st.floats(0, 10), max_size=50))
def test_a_ration_lets_through_a_burst_and_then_its_rate(pauses: list[float]) -> None:
    now = 0.0
    ration = Ration(rate=2, burst=3, clock=lambda: now)
    let_through = 0
    for pause in pauses:
        now += pause
        let_through += ration.take() is not None
        assert let_through <= 3 + 2 * now + 1e-6


def test_a_ration_says_how_many_it_refused() -> None:
    now = 0.0
    ration = Ration(rate=1, burst=1, clock=lambda: now)
    assert [ration.take(), ration.take(), ration.take()] == [0, None, None]
    now = 1.0
    assert ration.take() == 2


@pytest.mark.parametrize(
    ("secrets", "text", "shown"),
    [
        (["secret-1", "secret-12"], "a secret-12, b secret-1", "a ***, b ***"),
        (["1"], "1 of 1", "1 of 1"),
        ([], "text", "text"),
        (["a.b*c[d"], "xa.b*c[dx", "x***x"),
    ],
)
def test_secrets_are_masked(secrets: list[str], text: str, shown: str) -> None:
    assert redactor(secrets)(text) == shown


def test_lines_are_logged_without_what_could_fool_a_terminal() -> None:
    with capture_logs() as logs:
        tap = Tap("upstream.stderr", "up", lambda text: text)
        tap.feed(b"\x1b[31mred\x1b[0m\x07\n\x1b]0;title\x07plain\r\n  \n\xff\nlast without end")
        tap.close()
    assert [entry["line"] for entry in logs] == ["red", "plain", "\ufffd", "last without end"]


def test_the_last_words_leave_out_the_stack() -> None:
    with capture_logs():
        tap = Tap("upstream.stderr", "up", lambda text: text)
        tap.feed(b"start\nTraceback:\n  File x\n    y()\nValueError: no\n")
    assert tap.last_words(2) == "Traceback: | ValueError: no"


def test_last_words_that_are_all_indented_are_words_too() -> None:
    with capture_logs():
        tap = Tap("upstream.stderr", "up", lambda text: text)
        tap.feed(b"  one\n  two\n")
    assert tap.last_words(1) == "  two"
