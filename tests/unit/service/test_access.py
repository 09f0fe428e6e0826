"""The access log (proxy/service/access.py): which calls get an event, and what it says."""

from collections.abc import Callable
from typing import Any

import pytest
import structlog.testing

from proxy.errors import Lost, Rejected, UnknownTarget
from proxy.model import Caller, Principal, Reply
from proxy.service.access import FAILURES, GUESSES, SAMPLE, AccessLog, Mode
from proxy.service.observe import Observation, Outcome
from tests.support.services import make_call

WELL = Observation(make_call(), Outcome.OK, 0.25, 1, "upstream", 0.0, hedged=False, reply=Reply.of({}))
TOOL = Observation(make_call(), Outcome.TOOL_ERROR, 0.25, 1, "upstream", 0.0, hedged=False, reply=Reply.of({}))
GONE = Observation(make_call(), Outcome.CANCELLED, 0.25, 1, "upstream", 0.0, hedged=False)
LOST = Observation(
    make_call(), Outcome.FAILED, 0.25, 3, "upstream", 0.5, hedged=False, error=Lost("died", upstream="up")
)
REFUSED = Observation(
    make_call(), Outcome.REJECTED, 0.25, 1, "cache", 0.0, hedged=False, error=Rejected(-32000, "no", upstream="up")
)


def logged(mode: Mode, *observations: Observation) -> list[Any]:
    access = AccessLog(mode)
    with structlog.testing.capture_logs() as logs:
        for one in observations:
            access.observed(one)
    return logs


@pytest.mark.parametrize(
    ("mode", "outcomes"),
    [
        ("off", []),
        ("errors", ["tool_error", "failed", "rejected"]),
        ("sampled", ["tool_error", "failed", "rejected"]),
        ("all", ["ok", "tool_error", "cancelled", "failed", "rejected"]),
    ],
)
def test_a_mode_says_which_calls_get_an_event(mode: Mode, outcomes: list[str]) -> None:
    logs = logged(mode, WELL, TOOL, GONE, LOST, REFUSED)
    assert [one["outcome"] for one in logs] == outcomes
    assert {one["event"] for one in logs} <= {"call.done"}


def test_of_calls_that_went_well_every_hundredth_is_a_sample() -> None:
    assert len(logged("sampled", *[WELL] * (3 * SAMPLE))) == 3


def test_what_failed_is_a_warning_and_what_a_tool_says_is_not() -> None:
    assert [one["log_level"] for one in logged("all", WELL, TOOL, GONE, LOST, REFUSED)] == [
        "info",
        "info",
        "info",
        "warning",
        "warning",
    ]


def test_an_event_says_who_what_how_long_and_why() -> None:
    (event,) = logged("errors", LOST)
    assert event == {
        "event": "call.done",
        "log_level": "warning",
        "outcome": "failed",
        "method": "tools/call",
        "target": "search",
        "upstream": "up",
        "ms": 250.0,
        "error": "lost",
        "reason": "died",
        "sent": "maybe",
        "attempts": 3,
        "queued_ms": 500.0,
    }


def test_who_called_is_named() -> None:
    caller = Caller(agent="coder", principal=Principal("token:1", name="ci"))
    call = make_call().__class__("up", "tools/call", {}, "search", caller, public="mcp_up_search", number=9)
    (event,) = logged("all", Observation(call, Outcome.OK, 0.1, 1, "upstream", 0.0, hedged=False))
    assert (event["agent"], event["principal"], event["target"], event["request"]) == (
        "coder",
        "ci",
        "mcp_up_search",
        9,
    )


@pytest.mark.parametrize(("change", "told"), [(lambda a: a.configure("off"), 0), (lambda _: None, 1)])
def test_a_request_that_leads_nowhere_is_told_unless_it_is_off(change: Callable[[AccessLog], None], told: int) -> None:
    access = AccessLog()
    change(access)
    with structlog.testing.capture_logs() as logs:
        access.refused("tools/call", "nope", Caller(agent="coder"), UnknownTarget("no such tool"))
    assert len(logs) == told
    assert all(one["event"] == "call.refused" and one["error"] == "unknown-target" for one in logs)


def test_who_guesses_without_end_does_not_fill_the_log_and_hides_nobody() -> None:
    now = 0.0
    access = AccessLog(clock=lambda: now)
    guesser, other = Caller(principal=Principal("token:1")), Caller(principal=Principal("token:2"))

    def guess(caller: Caller) -> None:
        access.refused("tools/call", "nope", caller, UnknownTarget("no such tool"))

    with structlog.testing.capture_logs() as logs:
        for _ in range(GUESSES + 100):
            guess(guesser)
        assert len(logs) == GUESSES
        guess(other)
        assert len(logs) == GUESSES + 1
        now = 1.0
        guess(guesser)
    assert logs[-1]["suppressed"] == 100
    assert "suppressed" not in logs[0]


def test_failures_without_end_do_not_fill_the_log_and_hide_no_other() -> None:
    now = 0.0
    access = AccessLog(clock=lambda: now)
    rate, burst = FAILURES
    with structlog.testing.capture_logs() as logs:
        for _ in range(burst + 100):
            access.observed(LOST)
        assert len(logs) == burst
        access.observed(REFUSED)
        assert logs[-1]["error"] == "rejected"
        now = 1.0 / rate
        access.observed(LOST)
    assert logs[-1]["suppressed"] == 100
    assert "suppressed" not in logs[0]


def test_whoever_wants_all_calls_in_the_log_has_all_of_them() -> None:
    assert len(logged("all", *[LOST] * 200)) == 200
