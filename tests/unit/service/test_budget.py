"""The retry budget (proxy/service/budget.py)."""

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from proxy.service.budget import Budget, BudgetPolicy


class BudgetMachine(RuleBasedStateMachine):
    """However calls, failures and time mix: never more repetitions than burst + ratio x calls + rate x time."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 50.0
        self.policy = BudgetPolicy(ratio=0.2, per_second=0.5, burst=4.0)
        self.budget = Budget(self.policy, self.now)
        self.most = 4.0
        self.spent = 0

    @rule()
    def call(self) -> None:
        self.budget.deposit()
        self.most += self.policy.ratio

    @rule()
    def repeat(self) -> None:
        before = self.budget.balance(self.now)
        paid = self.budget.withdraw(self.now)
        assert paid == (before >= 1.0)
        assert self.budget.balance(self.now) == pytest.approx(before - paid)
        self.spent += paid

    @rule(seconds=st.floats(0.0, 30.0))
    def wait(self, seconds: float) -> None:
        self.now += seconds
        self.most += seconds * self.policy.per_second

    @precondition(lambda self: self.policy.per_second > 0.01)
    @rule()
    def rest(self) -> None:
        """However much was spent, it fills up again."""
        self.wait(self.policy.burst / self.policy.per_second)
        assert self.budget.balance(self.now) == pytest.approx(self.policy.burst)

    @rule(
        policy=st.builds(
            BudgetPolicy, ratio=st.floats(0.0, 1.0), per_second=st.floats(0.0, 5.0), burst=st.floats(0.0, 20.0)
        )
    )
    def retune(self, policy: BudgetPolicy) -> None:
        before = self.budget.balance(self.now)
        self.budget.retune(policy, self.now)
        self.policy = policy
        assert self.budget.balance(self.now) == min(before, policy.burst)

    @invariant()
    def the_promise_holds(self) -> None:
        assert self.spent <= self.most + 1e-6
        assert 0.0 <= self.budget.balance(self.now) <= self.policy.burst


TestBudget = BudgetMachine.TestCase


def test_a_new_budget_is_full() -> None:
    budget = Budget(BudgetPolicy(burst=3.0), 0.0)

    assert [budget.withdraw(0.0) for _ in range(4)] == [True, True, True, False]


def test_an_upstream_that_is_rarely_called_still_gets_repetitions() -> None:
    budget = Budget(BudgetPolicy(ratio=0.0, per_second=0.5, burst=1.0), 0.0)
    assert budget.withdraw(0.0)

    assert not budget.withdraw(1.0)
    assert budget.withdraw(2.0)
