"""Who wants the event loop is told by the calls that began or ended a moment ago (proxy/upstream/demand.py)."""

from hypothesis import given
from hypothesis import strategies as st

from proxy.upstream.demand import MOMENT, Demand
from proxy.upstream.fair import Fair, here

NAMES = st.sampled_from(["one", "two", "three"])
CALLS = st.lists(st.tuples(NAMES, st.floats(0.0, MOMENT)), max_size=20)


@given(CALLS, NAMES, st.floats(0.0, 2 * MOMENT))
def test_others_want_the_loop_when_one_of_them_was_called_a_moment_ago(
    calls: list[tuple[str, float]], who: str, later: float
) -> None:
    demand, now, seen = Demand(), 100.0, dict[str, float]()
    for name, passed in calls:
        now += passed
        seen[name] = now
        demand.noted(name, now)
    now += later
    assert demand.of_others(who, now) is any(now - at < MOMENT for name, at in seen.items() if name != who)


def test_nobody_wants_it_before_the_first_call() -> None:
    assert not Demand().of_others("one", 0.0)


async def test_the_links_of_one_event_loop_know_of_each_other() -> None:
    share = here().large("one")
    here().demand.noted("one", share.now())
    assert not share.crowded
    here().demand.noted("two", share.now())
    assert share.crowded


def test_instances_of_one_upstream_are_no_others() -> None:
    fair = Fair()
    share = fair.large("group#1")
    assert fair.large("group") is share
    fair.demand.noted("group", share.now())
    assert not share.crowded
