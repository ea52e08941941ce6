"""What waits against an oracle: nothing is lost or given out twice, early, or past others of its lot."""

from dataclasses import dataclass

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from pipelines.waiting import Waiting


@dataclass(eq=False)
class Waiter:
    lot: str


class Lots(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.waiting: Waiting[Waiter] = Waiting()
        self.now = 0
        self.due: dict[Waiter, int] = {}
        self.parked: list[Waiter] = []
        self.out: list[Waiter] = []
        self.let_out: list[Waiter] = []

    @rule(lot=st.sampled_from("ab"), delay=st.integers(-3, 9))
    def arrive(self, lot: str, delay: int) -> None:
        waiter = Waiter(lot)
        self.due[waiter] = self.now + delay
        self.waiting.add(waiter, self.now + delay)

    @rule(seconds=st.integers(1, 5))
    def time_passes(self, seconds: int) -> None:
        self.now += seconds

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def turn_away(self, data: st.DataObject) -> None:
        waiter = self.out.pop(data.draw(st.integers(0, len(self.out) - 1)))
        self.parked.append(waiter)
        self.waiting.park(waiter)

    @rule(lot=st.sampled_from("ab"), most=st.integers(0, 3))
    def get_through(self, lot: str, most: int) -> None:
        self.release([waiter for waiter in self.parked if waiter.lot == lot][:most])
        self.waiting.let_out(lot, most)

    @rule()
    def knock(self) -> None:
        firsts = {waiter.lot: waiter for waiter in reversed(self.parked)}
        self.release(list(firsts.values()))
        self.waiting.knock()

    def release(self, waiters: list[Waiter]) -> None:
        self.let_out += waiters
        for waiter in waiters:
            self.parked.remove(waiter)

    @rule()
    def take_all(self) -> None:
        lots = {waiter.lot for waiter in self.parked}
        taken: list[Waiter] = []
        while waiter := self.waiting.take(self.now):
            assert waiter not in taken
            taken.append(waiter)
            assert waiter in self.let_out or (self.due[waiter] <= self.now and waiter.lot not in lots)
        assert set(taken) >= set(self.let_out)
        self.let_out.clear()
        ready = [waiter for waiter, due in self.due.items() if due <= self.now]
        for waiter in sorted(ready, key=self.due.__getitem__):  # earliest first; of one moment the first to come
            del self.due[waiter]
            if waiter not in taken:
                assert waiter.lot in lots, "who is due waits only behind others of its lot"
                self.parked.append(waiter)
        self.out += taken

    @invariant()
    def nobody_is_lost(self) -> None:
        assert len(self.waiting) == len(self.due) + len(self.parked) + len(self.let_out)

    @invariant()
    def the_next_time_to_look_is_that_of_the_earliest(self) -> None:
        assert self.waiting.next_due == min(self.due.values(), default=None)


TestLots = Lots.TestCase


def test_of_a_hundred_thousand_who_are_turned_away_each_knock_tries_another_one() -> None:
    waiting: Waiting[Waiter] = Waiting()
    for _ in range(100_000):
        waiting.add(Waiter("a"), 0)
    tried = [waiting.take(1)]
    waiting.park(tried[0])
    for _ in range(10):
        waiting.knock()
        while waiter := waiting.take(1):
            waiting.park(waiter)
            tried.append(waiter)
    assert len(tried) == 11
    assert len(set(tried)) == 9, "nobody but the first one had been turned away at the first two"
    assert len(waiting) == 100_000
