"""Targets of the benchmark in turns, and what becomes of those that fail."""

import sys
from pathlib import Path

from bench.driving import Load, Row, Size, driven, in_turns, over_pipes, over_sse, under_load
from bench.products import BARE, PIPED, SSE, Starter
from bench.targets import Served, Target, Upstreams

SMALL = Size(rounds=1, seconds=0.05)
STDIO = Upstreams(kind="stdio")


def served(name: str, *pids: int) -> Served:
    return Served(name, "", pids, "echo")


def ends(*_: object) -> list[str]:
    return [sys.executable, "-S", "-c", "raise SystemExit(3)"]


def is_nowhere(*_: object) -> list[str]:
    return [str(Path(__file__).parent / "there is no such program")]


def by_target(rows: list[Row]) -> dict[str, Row]:
    return {row["target"]: row for row in rows}


def test_a_target_that_hangs_has_no_more_turns_and_the_others_have_all_of_theirs() -> None:
    targets = [served("a"), served("b")]
    rows = in_turns(targets, Size(rounds=3), {}, lambda one: {"gone": True} if one.name == "a" else {"calls": 1})
    assert [row["target"] for row in rows] == ["a", "b", "b", "b"]
    assert [one.name for one in targets] == ["b"]


def test_a_target_that_failed_once_has_its_other_turns() -> None:
    answers = iter(list[Row]([{"fault": "500"}, {"calls": 1}]))
    rows = in_turns([served("a")], Size(rounds=2), {"connections": 1}, lambda _: next(answers))
    assert [("fault" in row, row["round"], row["connections"]) for row in rows] == [(True, 0, 1), (False, 1, 1)]


def test_a_target_that_has_used_up_the_time_of_its_turns_has_no_more() -> None:
    assert len(in_turns([served("a")], Size(rounds=3, seconds=0.0), {}, lambda _: {"calls": 1})) == 1


def test_a_target_whose_process_has_ended_is_said_to_have_ended() -> None:
    assert driven(served("a", 2**30), ["true"], 0.1) == {"fault": "it ended", "gone": True}


def test_a_load_generator_that_fails_leaves_its_last_words() -> None:
    command = [sys.executable, "-S", "-c", "raise SystemExit('status 500')"]
    assert driven(served("a"), command, 0.1) == {"fault": "status 500"}


def test_what_cannot_be_started_is_listed_with_the_reason_and_the_rest_is_measured() -> None:
    broken = (Target("ends", ends), Target("nowhere", is_nowhere))
    rows = by_target(under_load(STDIO, (*broken, BARE), [Load(2)], SMALL))
    assert rows["ends"]["reason"] == "ended with status 3 at its start"
    assert "cannot be started" in rows["nowhere"]["reason"]
    assert rows["bare relay"]["calls"] > 0


def test_calls_over_pipes_are_measured_with_as_many_in_flight_as_asked() -> None:
    broken = (Starter("ends", ends), Starter("nowhere", is_nowhere))
    rows = over_pipes(STDIO, (*broken, *PIPED[:2]), (1, 4), SMALL)
    assert [row["reason"][:30] for row in rows[:2]] == ["does not serve over pipes as m"] * 2
    assert [(row["target"], row["in_flight"], row["calls"] > 0) for row in rows[2:]] == [
        ("direct", 1, True),
        ("bare relay", 1, True),
        ("direct", 4, True),
        ("bare relay", 4, True),
    ]


def test_calls_over_pipes_reach_an_http_upstream() -> None:
    rows = by_target(over_pipes(Upstreams(), PIPED[:2], (2,), SMALL))
    assert rows["direct"]["reason"] == "relays to one stdio server only"
    assert rows["bare relay"]["calls"] > 0


def test_sessions_of_the_legacy_transport_are_measured() -> None:
    (row,) = over_sse(STDIO, SSE[:1], (2,), SMALL)
    assert (row["target"], row["upstream"], row["connections"], row["calls"] > 0) == ("bare relay", "stdio", 2, True)
