"""The table of an upstream's lifecycle."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.model import UpstreamState as S
from proxy.upstream.lifecycle import SERVING, TRANSITIONS, Event, step

events = st.sampled_from(list(Event))


def after(*happened: Event, start: S = S.IDLE) -> S:
    state = start
    for event in happened:
        state = step(state, event)
    return state


@pytest.mark.parametrize(
    ("happened", "state"),
    [
        ([Event.START], S.CONNECTING),
        ([Event.START, Event.CONNECTED], S.READY),
        ([Event.START, Event.FAILED], S.BACKING_OFF),
        ([Event.START, Event.FAILED, Event.START, Event.CONNECTED], S.READY),
        ([Event.START, Event.CRASHING], S.ERROR),
        ([Event.START, Event.AUTH], S.AUTH_REQUIRED),
        ([Event.START, Event.CONNECTED, Event.LOST], S.BACKING_OFF),
        ([Event.START, Event.CONNECTED, Event.IDLE], S.IDLE),
        ([Event.START, Event.CONNECTED, Event.WARN], S.DEGRADED),
        ([Event.START, Event.CONNECTED, Event.CRITICAL, Event.HEALTHY], S.READY),
        ([Event.START, Event.CONNECTED, Event.DRAIN], S.DRAINING),
        ([Event.START, Event.CONNECTED, Event.DRAIN, Event.STOP], S.STOPPED),
    ],
)
def test_what_happens_leads_to_a_state(happened: list[Event], state: S) -> None:
    assert after(*happened) is state


@given(st.lists(events))
def test_whatever_happens_an_upstream_can_be_stopped_and_started_again(happened: list[Event]) -> None:
    assert after(*happened, Event.STOP) is S.STOPPED
    assert after(*happened, Event.STOP, Event.IDLE, Event.START, Event.CONNECTED) is S.READY


@given(st.lists(events))
def test_calls_are_sent_only_after_a_connection(happened: list[Event]) -> None:
    if Event.CONNECTED not in happened and Event.CRASHING not in happened:
        assert after(*happened) not in SERVING


@given(st.lists(events.filter(lambda event: event is not Event.STOP)))
def test_nothing_but_the_end_follows_draining(happened: list[Event]) -> None:
    assert after(*happened, start=S.DRAINING) is S.DRAINING


def test_an_event_that_means_nothing_changes_nothing() -> None:
    assert step(S.IDLE, Event.LOST) is S.IDLE
    assert step(S.AUTH_REQUIRED, Event.FAILED) is S.AUTH_REQUIRED


def test_every_state_can_be_reached() -> None:
    assert {S.IDLE, *TRANSITIONS.values()} == set(S)
