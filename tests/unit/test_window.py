"""The commit rule against an oracle: polls, completions in any order, gaps, refused commits."""

from dataclasses import dataclass
from typing import NamedTuple

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from connectors.kafka.window import FORGOTTEN_OVERHEAD, Forgotten, HoleError, Load, Window


class TP(NamedTuple):
    topic: str = "t"
    partition: int = 0


@dataclass
class Record:
    offset: int
    value: bytes = b"v"
    key: bytes | None = None
    headers: tuple = ()
    timestamp: int = 0


class DonePrefix(RuleBasedStateMachine):
    """The oracle: an offset may be committed when no record below it is unfinished."""

    def __init__(self) -> None:
        super().__init__()
        self.load = Load()
        self.window = Window(TP(), self.load, origin=None)
        self.position = 0
        self.open: dict[int, tuple] = {}
        self.records = 0
        self.committed_at = 0

    @rule(gaps=st.lists(st.integers(0, 3), max_size=6), tail=st.integers(0, 3))
    def poll(self, gaps: list[int], tail: int) -> None:
        start, at, records = self.position, self.position, []
        for gap in gaps:
            records.append(Record(at + gap))
            at += gap + 1
        self.position = at + tail
        if self.position == start:
            return
        batch = self.window.admit(records, start, self.position)
        for i, record in enumerate(records):
            self.open[record.offset] = (batch, i)
        self.records += len(records)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def complete(self, data: st.DataObject) -> None:
        offset = data.draw(st.sampled_from(sorted(self.open)))
        batch, i = self.open.pop(offset)
        batch.done(i)
        batch.done(i)

    @precondition(lambda self: self.open)
    @rule(data=st.data())
    def let_go_of_one_and_read_it_again(self, data: st.DataObject) -> None:
        offset = data.draw(st.sampled_from(sorted(self.open)))
        batch, i = self.open[offset]
        held = self.load.held
        if isinstance(batch.records[i], Forgotten):
            batch.replace(i, Record(offset, b"v" * 1000))
            assert self.load.held > held
        else:
            batch.forget(i)
            assert self.load.held < held

    @precondition(lambda self: self.window.position is not None)
    @rule(accepted=st.booleans())
    def commit(self, accepted: bool) -> None:
        if accepted:
            self.window.accepted(self.window.position)

    @invariant()
    def nothing_unfinished_lies_below_the_position(self) -> None:
        first_open = min(self.open, default=self.position)
        reached = self.window.position or 0
        assert reached <= first_open
        if not self.open and self.position:
            assert reached == self.position, "markers at the end are passed, else the lag never ends"
        elif self.open and first_open and self.window.position is not None:
            assert all(offset >= reached for offset in self.open)

    @invariant()
    def the_load_is_what_is_open(self) -> None:
        assert self.load.pending == len(self.open)
        assert self.load.held >= len(self.open) * FORGOTTEN_OVERHEAD
        if not self.open:
            assert self.load.held == 0
        assert 0 <= self.load.uncommitted <= self.records
        assert self.load.uncommitted >= self.load.pending


TestDonePrefix = DonePrefix.TestCase


def test_a_fetch_that_skips_records_is_a_hole() -> None:
    window = Window(TP(), Load(), origin=5)
    with pytest.raises(HoleError, match=r"t\[0\] was to go on at offset 5 but was read from 7"):
        window.admit([Record(7)], 7, 8)


def test_a_fetch_before_what_the_group_has_committed_is_no_hole_and_one_before_the_last_fetch_is() -> None:
    window = Window(TP(), Load(), origin=5)
    window.admit([Record(3)], 3, 4)
    with pytest.raises(HoleError, match=r"t\[0\] was to go on at offset 4 but was read from 3"):
        window.admit([Record(3)], 3, 4)


def test_a_batch_lost_on_the_way_to_the_agent_is_a_hole() -> None:
    window = Window(TP(), Load(), origin=None)
    window.admit([Record(0)], 0, 1)
    second = window.admit([Record(1)], 1, 2)
    with pytest.raises(HoleError, match="batch 2 came where 1 was due"):
        window.received(second)


def test_what_finishes_after_the_partition_was_given_up_does_not_count_in_the_load() -> None:
    load = Load()
    window = Window(TP(), load, origin=None)
    batch = window.admit([Record(0)], 0, 1)
    window.live = False
    load.pending = load.held = 0
    batch.done(0)
    assert (load.pending, load.held) == (0, 0)


@given(ends=st.lists(st.integers(1, 9), min_size=1, max_size=6), data=st.data())
def test_batches_taken_whole_are_finished_by_offset(ends: list[int], data: st.DataObject) -> None:
    load = Load()
    window = Window(TP(), load, origin=0)
    at, edges = 0, [0]
    for length in ends:
        batch = window.admit([Record(o) for o in range(at, at + length)], at, at + length)
        assert [r.offset for r in batch.take()] == list(range(at, at + length))
        at += length
        edges.append(at)
    assert (load.pending, load.held) == (0, 0)
    offset = data.draw(st.integers(0, at))
    window.finish(offset)
    assert window.position == (at if offset == at else offset)
