"""The circuit breaker's machine (proxy/service/breaker_state.py)."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from proxy.service.backoff import BackoffPolicy, ceiling
from proxy.service.breaker_state import REFUSED, TRANSITIONS, BreakerPolicy, BreakerState, Event, Permit, State
from proxy.service.verdict import Verdict

POLICY = BreakerPolicy(failure_rate=0.5, window=10.0, min_calls=4, open_for=BackoffPolicy(base=5.0, cap=20.0), probes=2)


def state(machine: BreakerState) -> State:
    """The state, read anew: the type checker takes it for constant otherwise."""
    return machine.state


def tripped(policy: BreakerPolicy = POLICY, now: float = 0.0) -> BreakerState:
    machine = BreakerState(policy)
    for _ in range(policy.min_calls):
        machine.record(machine.admit(now), Verdict.FAILURE, now)
    assert state(machine) is State.OPEN
    return machine


def test_it_trips_at_the_failure_rate() -> None:
    machine = BreakerState(POLICY)
    for verdict in (Verdict.SUCCESS, Verdict.SUCCESS, Verdict.FAILURE):
        machine.record(machine.admit(0.0), verdict, 0.0)
    assert state(machine) is State.CLOSED

    machine.record(machine.admit(0.0), Verdict.FAILURE, 0.0)

    assert state(machine) is State.OPEN
    assert machine.admit(0.0) == REFUSED
    assert machine.retry_in(1.0) == 4.0


def test_it_does_not_judge_on_few_calls() -> None:
    machine = BreakerState(POLICY)
    for _ in range(POLICY.min_calls - 1):
        machine.record(machine.admit(0.0), Verdict.FAILURE, 0.0)

    assert state(machine) is State.CLOSED


def test_old_failures_are_forgotten() -> None:
    machine = BreakerState(POLICY)
    for _ in range(3):
        machine.record(machine.admit(0.0), Verdict.FAILURE, 0.0)

    machine.record(machine.admit(10.0), Verdict.FAILURE, 10.0)

    assert state(machine) is State.CLOSED


def test_half_open_admits_so_many_probes_and_not_one_more() -> None:
    machine = tripped()

    permits = [machine.admit(5.0) for _ in range(50)]

    assert sum(permit != REFUSED for permit in permits) == 2
    assert state(machine) is State.HALF_OPEN


def test_all_probes_must_succeed() -> None:
    machine = tripped()
    first, second = machine.admit(5.0), machine.admit(5.0)

    machine.record(first, Verdict.SUCCESS, 5.0)
    assert state(machine) is State.HALF_OPEN
    assert machine.admit(5.0) == REFUSED
    machine.record(second, Verdict.SUCCESS, 5.0)
    assert state(machine) is State.CLOSED


def test_each_relapse_lasts_longer_up_to_the_cap_and_recovery_starts_over() -> None:
    machine, now, waits = tripped(), 0.0, []
    for _ in range(4):
        waits.append(machine.retry_in(now))
        now += waits[-1]
        machine.record(machine.admit(now), Verdict.FAILURE, now)
    assert waits == [5.0, 10.0, 20.0, 20.0]

    now += machine.retry_in(now)
    for permit in [machine.admit(now), machine.admit(now)]:
        machine.record(permit, Verdict.SUCCESS, now)
    for _ in range(POLICY.min_calls):
        machine.record(machine.admit(now), Verdict.FAILURE, now)
    assert machine.retry_in(now) == 5.0


def test_a_probe_that_says_nothing_gives_its_place_back() -> None:
    machine = tripped()
    permits = [machine.admit(5.0), machine.admit(5.0)]

    machine.record(permits[0], Verdict.NEITHER, 5.0)

    assert state(machine) is State.HALF_OPEN
    assert machine.admit(5.0) != REFUSED
    assert machine.admit(5.0) == REFUSED


def test_calls_from_before_the_trip_are_no_probes() -> None:
    machine = BreakerState(POLICY)
    old = machine.admit(0.0)
    for _ in range(POLICY.min_calls):
        machine.record(machine.admit(0.0), Verdict.FAILURE, 0.0)
    probe = machine.admit(5.0)

    machine.record(old, Verdict.FAILURE, 5.0)
    assert state(machine) is State.HALF_OPEN
    machine.record(old, Verdict.SUCCESS, 5.0)
    assert machine.probing == 1
    machine.record(probe, Verdict.SUCCESS, 5.0)
    assert state(machine) is State.HALF_OPEN


def test_a_new_link_lets_probes_through_and_a_failing_one_still_opens_it_for_longer() -> None:
    machine = tripped()
    assert machine.admit(0.1) == REFUSED
    machine.probe(0.1)
    permit = machine.admit(0.1)
    assert permit != REFUSED
    machine.record(permit, Verdict.FAILURE, 0.2)
    assert state(machine) is State.OPEN
    assert machine.retry_in(0.2) > POLICY.open_for.base


def test_a_new_link_is_no_news_for_one_that_is_not_open() -> None:
    machine = BreakerState(POLICY)
    machine.probe(0.0)
    assert state(machine) is State.CLOSED


def test_reset_closes_it_from_anywhere() -> None:
    for machine in (BreakerState(POLICY), tripped(), tripped()):
        machine.admit(5.0)
        machine.reset(6.0)
        assert state(machine) is State.CLOSED
        machine.record(machine.admit(6.0), Verdict.FAILURE, 6.0)
        assert state(machine) is State.CLOSED


def test_retuning_keeps_what_was_counted_and_the_end_of_an_opening() -> None:
    machine = BreakerState(POLICY)
    for _ in range(3):
        machine.record(machine.admit(0.0), Verdict.FAILURE, 0.0)
    longer = BreakerPolicy(failure_rate=0.5, window=60.0, min_calls=4, open_for=BackoffPolicy(base=1.0, cap=1.0))
    machine.retune(longer, 1.0)
    machine.record(machine.admit(1.0), Verdict.FAILURE, 1.0)
    assert state(machine) is State.OPEN

    machine.retune(POLICY, 1.0)

    assert machine.retry_in(1.0) == 1.0


def test_fewer_probes_than_have_passed_already_are_enough() -> None:
    machine = tripped()
    machine.record(machine.admit(5.0), Verdict.SUCCESS, 5.0)

    machine.retune(BreakerPolicy(probes=1), 5.0)

    assert state(machine) is State.CLOSED


def test_it_tells_of_every_change_once() -> None:
    changes: list[tuple[State, State, float]] = []
    machine = BreakerState(POLICY, lambda old, new, wait: changes.append((old, new, wait)))
    for _ in range(POLICY.min_calls):
        machine.record(machine.admit(0.0), Verdict.FAILURE, 0.0)
    for permit in [machine.admit(5.0), machine.admit(5.0)]:
        machine.record(permit, Verdict.SUCCESS, 5.0)
    machine.reset(5.0)

    assert changes == [
        (State.CLOSED, State.OPEN, 5.0),
        (State.OPEN, State.HALF_OPEN, 0.0),
        (State.HALF_OPEN, State.CLOSED, 0.0),
    ]


def test_the_table_lists_what_can_happen_and_nothing_else() -> None:
    impossible = set(itertools.product(State, Event)) - set(TRANSITIONS)

    assert impossible == {
        (State.CLOSED, Event.COOL),
        (State.CLOSED, Event.RECOVER),
        (State.CLOSED, Event.RELAPSE),
        (State.OPEN, Event.TRIP),
        (State.OPEN, Event.RECOVER),
        (State.OPEN, Event.RELAPSE),
        (State.HALF_OPEN, Event.TRIP),
        (State.HALF_OPEN, Event.COOL),
    }


@given(st.lists(st.booleans(), max_size=40), st.floats(0.1, 1.0), st.integers(1, 10))
def test_a_closed_breaker_opens_exactly_at_its_rate(outcomes: list[bool], rate: float, least: int) -> None:
    machine = BreakerState(BreakerPolicy(failure_rate=rate, window=10.0, min_calls=least))
    for count, _ in enumerate(outcomes, 1):
        failed = not outcomes[count - 1]
        machine.record(machine.admit(0.0), Verdict.FAILURE if failed else Verdict.SUCCESS, 0.0)
        failures = outcomes[:count].count(False)
        if failed and count >= least and failures / count >= rate:
            assert state(machine) is State.OPEN
            return
        assert state(machine) is State.CLOSED


class BreakerMachine(RuleBasedStateMachine):
    """Calls begin and end in any order, over any time, with any verdict, under changing policies."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 10.0
        self.policy = POLICY
        self.machine = BreakerState(POLICY, self.changed)
        self.changes: list[tuple[State, State]] = []
        self.opened = 0
        """How often it opened in a row."""
        self.under_way: list[tuple[Permit, State]] = []
        self.probes: set[Permit] = set()

    def changed(self, old: State, new: State, wait: float) -> None:
        self.changes.append((old, new))
        if new is State.OPEN:
            self.opened += 1
            assert wait == pytest.approx(ceiling(self.opened, self.policy.open_for)), "it backs off like everybody"
        else:
            assert wait == 0.0
            self.opened = 0 if new is State.CLOSED else self.opened

    @rule(seconds=st.floats(0.0, 30.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds

    @precondition(lambda self: not self.under_way)
    @rule(times=st.integers(1, 8))
    def fail_again_and_again(self, times: int) -> None:
        """Calls one after the other that all fail, at once when they are admitted."""
        for _ in range(times):
            self.now += self.machine.retry_in(self.now)
            self.machine.record(self.machine.admit(self.now), Verdict.FAILURE, self.now)

    @rule()
    def begin(self) -> None:
        was_open = self.machine.state is State.OPEN
        wait = self.machine.retry_in(self.now)
        permit = self.machine.admit(self.now)
        if permit == REFUSED:
            assert self.machine.state is not State.CLOSED
            assert wait > 0.0 or self.machine.probing > 0
        else:
            assert not (was_open and wait > 0.0), "it admitted a call before its time"
            self.under_way.append((permit, self.machine.state))

    @precondition(lambda self: self.under_way)
    @rule(data=st.data(), verdict=st.sampled_from(Verdict))
    def end(self, data: st.DataObject, verdict: Verdict) -> None:
        permit, admitted_in = self.under_way.pop(data.draw(st.integers(0, len(self.under_way) - 1)))
        before, changes = self.machine.state, len(self.changes)
        current = permit == self.machine.epoch
        self.machine.record(permit, verdict, self.now)
        if not current or verdict is Verdict.NEITHER:
            assert len(self.changes) == changes, "an old or mute report changed the state"
        elif admitted_in is State.HALF_OPEN and verdict is Verdict.FAILURE:
            assert before is State.HALF_OPEN
            assert self.machine.state is State.OPEN

    @rule()
    def probe(self) -> None:
        before = self.machine.state
        self.machine.probe(self.now)
        assert self.machine.state is before, "what it does with calls, calls decide"
        assert self.machine.retry_in(self.now) == 0.0

    @rule()
    def reset(self) -> None:
        self.machine.reset(self.now)
        assert self.machine.state is State.CLOSED

    @rule(
        policy=st.builds(
            BreakerPolicy,
            failure_rate=st.floats(0.1, 1.0),
            window=st.sampled_from([5.0, 10.0, 60.0]),
            min_calls=st.integers(1, 6),
            probes=st.integers(1, 4),
            open_for=st.sampled_from([POLICY.open_for, BackoffPolicy(base=1.0, cap=30.0, factor=3.0)]),
        )
    )
    def retune(self, policy: BreakerPolicy) -> None:
        before, passed = self.machine.state, self.machine._passed
        self.policy = policy
        self.machine.retune(policy, self.now)
        recovered = before is State.HALF_OPEN and passed >= policy.probes
        assert self.machine.state is (State.CLOSED if recovered else before)

    @invariant()
    def probes_under_way_are_exactly_the_permits_of_this_epoch(self) -> None:
        if self.machine.state is State.HALF_OPEN:
            mine = [permit for permit, _ in self.under_way if permit == self.machine.epoch]
            assert self.machine.probing == len(mine)

    @invariant()
    def every_change_is_in_the_table(self) -> None:
        known = {(old, new) for (old, _), new in TRANSITIONS.items()}
        assert set(self.changes) <= known

    @invariant()
    def an_open_breaker_always_says_when_it_will_try_again(self) -> None:
        wait = self.machine.retry_in(self.now)
        assert 0.0 <= wait <= 30.0 + 1e-9  # sums of floats
        assert (self.machine.state is State.OPEN) or wait == 0.0

    def teardown(self) -> None:
        """However it went: when calls succeed from now on, it is closed before long."""
        for permit, _ in self.under_way:
            self.machine.record(permit, Verdict.NEITHER, self.now)
        self.now += 100.0
        for _ in range(10):
            permit = self.machine.admit(self.now)
            assert permit != REFUSED
            self.machine.record(permit, Verdict.SUCCESS, self.now)
        assert self.machine.state is State.CLOSED


TestBreaker = BreakerMachine.TestCase


class ProbeMachine(RuleBasedStateMachine):
    """With one policy, probes under way and passed never exceed the figure, whatever is cancelled when."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self.machine = tripped()
        self.permits: list[Permit] = []

    @rule(count=st.integers(1, 5))
    def ask(self, count: int) -> None:
        if self.machine.state is State.CLOSED:
            self.machine, self.permits = tripped(now=self.now), []
        self.now += self.machine.retry_in(self.now)
        for _ in range(count):
            permit = self.machine.admit(self.now)
            if permit != REFUSED:
                self.permits.append(permit)
        taken = len(self.permits) + self.machine._passed
        assert taken == POLICY.probes or count < POLICY.probes

    @precondition(lambda self: self.permits)
    @rule(verdict=st.sampled_from(Verdict))
    def end(self, verdict: Verdict) -> None:
        self.machine.record(self.permits.pop(0), verdict, self.now)
        if self.machine.state is not State.HALF_OPEN:
            self.permits.clear()

    @invariant()
    def never_too_many(self) -> None:
        assert self.machine.probing + self.machine._passed <= POLICY.probes


TestProbes = ProbeMachine.TestCase


@pytest.mark.parametrize("probes", [1, 2, 5])
def test_a_cancelled_probe_never_leaves_it_stuck(probes: int) -> None:
    machine = tripped(BreakerPolicy(min_calls=1, probes=probes, open_for=BackoffPolicy(base=1.0)))
    for _ in range(100):
        permit = machine.admit(2.0)
        assert permit != REFUSED
        machine.record(permit, Verdict.NEITHER, 2.0)
