"""Errors of one upstream are told no faster than so many a second (proxy/service/brake.py)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.service.brake import BURST, LONGEST, RATE, Brake


def test_the_first_errors_do_not_wait() -> None:
    brake = Brake()
    assert [brake.wait(100.0) for _ in range(BURST)] == pytest.approx([0.0] * BURST)
    assert brake.wait(100.0) > 0.0


def test_after_a_quiet_time_they_do_not_wait_again() -> None:
    brake = Brake()
    for _ in range(3 * BURST):
        brake.wait(100.0)
    assert [brake.wait(200.0) for _ in range(BURST)] == pytest.approx([0.0] * BURST)


def test_callers_who_repeat_a_failing_call_at_once_have_so_many_answers_a_second() -> None:
    brake, now, told = Brake(), 100.0, 0
    while now < 110.0:
        now += brake.wait(now)
        told += 1
    assert told <= BURST + 10 * RATE + 1


@given(st.lists(st.floats(0.0, 0.1), max_size=300))
def test_no_error_waits_for_long_however_many_come(pauses: list[float]) -> None:
    brake, now = Brake(), 5.0
    for pause in pauses:
        now += pause
        assert 0.0 <= brake.wait(now) <= LONGEST + 1e-9


def test_an_upstream_that_fails_seldom_is_never_slowed_down() -> None:
    brake = Brake()
    assert [brake.wait(100.0 + number / RATE) for number in range(500)] == pytest.approx([0.0] * 500)
