"""The rolling window (proxy/service/window.py)."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.service.window import Window

STEPS = st.lists(st.tuples(st.floats(0.0, 15.0), st.booleans()), max_size=60)


@given(STEPS)
def test_it_counts_what_is_young_and_forgets_what_is_old(steps: list[tuple[float, bool]]) -> None:
    window, now = Window(10.0, buckets=10), 100.0
    seen: list[tuple[float, bool]] = []
    for wait, good in steps:
        now += wait
        (window.add_good if good else window.add_bad)(now)
        seen.append((now, good))
        for counted, kind in ((window.good, True), (window.bad, False)):
            surely = sum(1 for at, each in seen if each is kind and at > now - 9.0 + 1e-6)
            at_most = sum(1 for at, each in seen if each is kind and at > now - 10.0 - 1e-6)
            assert surely <= counted <= at_most
        assert window.total() == window.good + window.bad
        assert 0.0 <= window.rate() <= 1.0


@given(STEPS, st.sampled_from([1.0, 10.0, 300.0]))
def test_another_length_keeps_what_was_counted(steps: list[tuple[float, bool]], seconds: float) -> None:
    window, now = Window(10.0), 100.0
    for wait, good in steps:
        now += wait
        (window.add_good if good else window.add_bad)(now)

    other = window.resized(seconds, now)
    assert (other.good, other.bad) == (window.good, window.bad)
    other.roll(now + seconds + 0.01)
    assert other.total() == 0


def test_time_that_goes_back_counts_as_none() -> None:
    window = Window(10.0)
    window.add_good(100.0)
    window.add_bad(50.0)
    window.add_good(50.0)
    window.roll(100.0)
    assert (window.good, window.bad) == (2, 1)


def test_clearing_forgets_everything() -> None:
    window = Window(10.0)
    window.add_bad(100.0)
    window.clear()
    window.roll(101.0)
    assert (window.total(), window.rate()) == (0, 0.0)
