"""What the log hears of the states of an upstream (proxy/upstream/standing.py)."""

from typing import Any

import structlog.testing

from proxy.config.model import UpstreamConfig
from proxy.model import UpstreamState
from proxy.upstream.lifecycle import Event
from proxy.upstream.standing import Hooks, Standing
from tests.support.clock import ManualClock

LOSSES = 100


def crashing(*last: tuple[Event, str]) -> list[Any]:
    """The log above debug level of one that is lost again and again, and then does something else."""
    at = Standing("up", UpstreamConfig(command="x"), Hooks(), ManualClock())
    with structlog.testing.capture_logs() as logs:
        for _ in range(LOSSES):
            at.move(Event.START, "connecting")
            at.move(Event.CONNECTED, "handshake")
            at.move(Event.LOST, "it crashed")
            at.move(Event.CRASHING, "again and again")
        for event, reason in last:
            at.move(event, reason)
    assert len([one for one in logs if one["new"] == "backing_off"]) >= LOSSES
    return [one for one in logs if one["log_level"] != "debug"]


def test_one_that_is_lost_without_end_does_not_fill_the_log() -> None:
    assert 10 < len(crashing()) < LOSSES


def test_the_last_word_about_one_that_came_back_is_that_it_is_ready() -> None:
    assert crashing((Event.START, "connecting"), (Event.CONNECTED, "handshake"))[-1]["new"] == UpstreamState.READY


def test_one_that_does_not_come_back_is_told_of() -> None:
    last = crashing((Event.START, "connecting"), (Event.FAILED, "refused"))[-1]
    assert (last["new"], last["reason"]) == ("backing_off", "refused")
