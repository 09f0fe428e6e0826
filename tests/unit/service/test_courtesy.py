"""Giving way to other processes: often enough, and for at most as long as we run ourselves."""

from proxy.service.courtesy import EVERY, Courtesy, give_way


class Machine:
    """A clock, and others who run for so many seconds when they are let."""

    def __init__(self) -> None:
        self.now = 100.0
        self.others = 0.0
        self.let = 0

    def clock(self) -> float:
        return self.now

    def yields(self) -> None:
        self.let += 1
        self.now += self.others

    def works(self, courtesy: Courtesy, seconds: float, turn: float) -> None:
        """We work for so long, and give way after each turn."""
        for _ in range(round(seconds / turn)):
            self.now += turn
            courtesy.give()


def test_where_nobody_waits_for_the_processor_the_system_is_asked_after_each_turn() -> None:
    machine = Machine()
    courtesy = Courtesy(machine.clock, machine.yields)
    machine.works(courtesy, 0.01, 2 * EVERY)
    assert machine.let == 100


def test_turns_that_are_next_to_nothing_do_not_ask_each_time() -> None:
    machine = Machine()
    courtesy = Courtesy(machine.clock, machine.yields)
    machine.works(courtesy, 100 * EVERY, EVERY / 10)
    assert 90 <= machine.let <= 100


def test_whoever_never_has_enough_gets_no_more_of_the_processor_than_we_do() -> None:
    machine = Machine()
    machine.others = 0.004
    courtesy = Courtesy(machine.clock, machine.yields)
    began = machine.now
    machine.works(courtesy, 1.0, 0.0001)
    assert 1.9 <= machine.now - began <= 2.1


def test_it_is_possible_on_this_system() -> None:
    for _ in range(3):
        give_way()
