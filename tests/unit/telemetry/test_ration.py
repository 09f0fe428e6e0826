"""Rations of log lines: for each of many, and for warnings by their wording."""

import logging

from proxy.telemetry.ration import MOST, Rationed, Rations


class Watch:
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_each_has_a_ration_of_its_own() -> None:
    rations = Rations(rate=1, burst=2, clock=Watch())
    assert [rations.take("a") for _ in range(3)] == [0, 0, None]
    assert rations.take("b") == 0


def test_there_are_so_many_rations_and_the_one_unused_the_longest_goes() -> None:
    rations = Rations(rate=1, burst=1, clock=Watch())
    assert (rations.take("first"), rations.take("second")) == (0, 0)
    for number in range(MOST - 1):
        rations.take(number)
        assert rations.take("second") is None
    assert rations.take("first") == 0


def test_the_next_warning_says_how_many_were_left_out() -> None:
    watch = Watch()
    rationed = Rationed(rate=1, burst=1, clock=watch)

    def warn() -> logging.LogRecord | None:
        record = logging.LogRecord("x", logging.WARNING, "", 0, "careful", None, None)
        return record if rationed.filter(record) else None

    assert [warn() is not None for _ in range(4)] == [True, False, False, False]
    watch.now = 1.0
    record = warn()
    assert record is not None
    assert vars(record)["suppressed"] == 3
