"""What comes unasked gets a share of the event loop and no more (proxy/upstream/share.py)."""

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from proxy.upstream.share import BURST, PART, Metered, Share, Turns
from proxy.upstream.slices import BRIEF, TURN


class Watch:
    """A clock that shows what it is told to."""

    def __init__(self) -> None:
        self.at = 100.0

    def __call__(self) -> float:
        return self.at


def used(share: Share, watch: Watch, seconds: float) -> None:
    """Let it have the loop for so long."""
    began = share.now()
    watch.at += seconds
    share.charge(began)


def test_a_burst_goes_through_without_a_rest() -> None:
    watch = Watch()
    share = Share(watch)
    used(share, watch, BURST * 0.9)
    assert share.rest() == 0.0


@given(st.lists(st.floats(TURN, 20 * TURN), min_size=50, max_size=200))
def test_a_flood_gets_its_part_of_the_time_and_no_more(turns: list[float]) -> None:
    watch = Watch()
    share = Share(watch)
    for turn in turns:
        used(share, watch, turn)
        watch.at += share.rest()
    elapsed = watch.at - 100.0
    assert sum(turns) <= elapsed * PART + BURST + max(turns)


def test_who_was_silent_for_a_while_has_a_burst_again_and_no_more() -> None:
    watch = Watch()
    share = Share(watch)
    used(share, watch, 10 * BURST)
    assert share.rest() > BURST
    watch.at += 3600.0
    assert share.rest() == 0.0
    used(share, watch, 2 * BURST)
    assert share.rest() > 0.0


def test_one_large_message_does_not_silence_it_for_long() -> None:
    watch = Watch()
    share = Share(watch)
    used(share, watch, 60.0)
    watch.at += 1.0
    assert share.rest() == 0.0


@given(st.lists(st.floats(TURN, 20 * TURN), min_size=50, max_size=200))
def test_a_flood_has_all_of_a_loop_that_nobody_else_wants(turns: list[float]) -> None:
    watch = Watch()
    share = Share(watch, others=lambda _now: False)
    for turn in turns:
        used(share, watch, turn)
        assert share.rest() == 0.0


def test_a_flood_that_had_all_of_it_gets_its_part_as_soon_as_others_want_it_and_has_no_debt() -> None:
    watch, others = Watch(), [False]
    share = Share(watch, others=lambda _now: others[0])
    for _ in range(100):
        used(share, watch, TURN)
        assert share.rest() == 0.0
    others[0] = True
    used(share, watch, TURN)
    assert 0.0 < share.rest() <= 2 * TURN / PART
    others[0] = False
    assert share.rest() == 0.0


def test_others_are_asked_for_only_when_the_credit_is_spent() -> None:
    asked: list[float] = []
    watch = Watch()

    def others(now: float) -> bool:
        asked.append(now)
        return True

    share = Share(watch, others=others)
    used(share, watch, BURST / 2)
    share.rest()
    assert asked == []
    used(share, watch, BURST)
    share.rest()
    assert len(asked) == 1


@pytest.mark.parametrize(("crowded", "turns"), [(True, 10), (False, 2)])
async def test_turns_are_brief_while_others_want_the_loop(crowded: bool, turns: int) -> None:
    watch, ran = Watch(), [0]
    share = Share(watch, part=1.0, others=lambda _now: crowded, brief=BRIEF)
    work = Turns(share)

    async def others() -> None:
        while True:
            ran[0] += 1
            await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(others)
        for _ in range(10):
            watch.at += BRIEF
            await work.pause()
        tasks.cancel_scope.cancel()
    assert ran[0] in (turns, turns + 1)


async def test_a_task_lets_others_run_as_long_as_the_share_says() -> None:
    watch = Watch()
    share = Share(watch)
    turns = Turns(share)
    watch.at += 2 * TURN
    others: list[str] = []
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: _note(others))
        await turns.pause()
        assert others == ["ran"]


async def _note(others: list[str]) -> None:
    others.append("ran")


@pytest.mark.parametrize("waited", [0.0, 60.0])
async def test_a_wait_for_more_costs_no_credit(waited: float) -> None:
    watch = Watch()
    share = Share(watch)
    turns = Turns(share)
    watch.at += waited
    turns.begin(watch.at)
    await turns.pause()
    assert share.rest() == 0.0


@pytest.mark.parametrize(("works", "waits", "rests"), [(2 * BURST, 0.0, True), (BURST / 4, 5 * BURST, False)])
async def test_what_is_metered_counts_while_it_runs_and_not_while_it_waits(
    works: float, waits: float, *, rests: bool
) -> None:
    watch = Watch()
    share = Share(watch)
    others = anyio.Event()

    async def work() -> str:
        watch.at += works / 2
        await others.wait()
        watch.at += works / 2
        return "done"

    async def wait() -> None:
        watch.at += waits
        others.set()
        await anyio.lowlevel.checkpoint()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(wait)
        assert await Metered(work(), share) == "done"
    assert (share.rest() > 0.0) is rests


async def test_what_is_metered_can_be_cancelled_and_fails_as_it_is() -> None:
    share = Share(Watch())
    told: list[str] = []

    async def patient() -> None:
        try:
            await anyio.sleep_forever()
        finally:
            told.append("cancelled")

    async def failing() -> None:
        await anyio.lowlevel.checkpoint()
        raise ValueError("no")

    with anyio.move_on_after(0.0) as scope:
        await Metered(patient(), share)
    assert scope.cancelled_caught
    assert told == ["cancelled"]
    with pytest.raises(ValueError, match="no"):
        await Metered(failing(), share)


def test_a_link_is_read_briefly_only_while_what_is_large_comes() -> None:
    watch = Watch()
    share = Share(watch, others=lambda _now: True, brief=BRIEF)
    assert share.reading() == TURN
    used(share, watch, BURST / 2)
    assert share.reading() == BRIEF
