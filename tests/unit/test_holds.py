"""Which partitions are held, and what is said about them."""

import pytest
from faust.types import TP
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from connectors.kafka.holds import Halt, Hold, Holds, judge


@given(st.integers(0, 100), st.integers(0, 100), st.integers(0, 100))
def test_a_partition_is_held_exactly_if_its_next_record_is_not_in_the_log(position: int, start: int, size: int) -> None:
    hold = judge(position, start, start + size)

    assert (hold is None) == (start <= position <= start + size)


@pytest.mark.parametrize(
    ("hold", "words"),
    [
        (Hold(24, 45, 90), "offsets 24 to 44 are gone"),
        (Hold(500, 0, 300), "the next offset is 500, but the log ends at 300"),
    ],
)
def test_the_gap_is_told_in_offsets(hold: Hold, words: str) -> None:
    assert hold.gap.startswith(words)


def test_a_partition_that_the_agent_halted_is_told_with_a_way_out_of_its_own() -> None:
    holds = Holds("group of test_holds", "do this")
    with capture_logs() as lines:
        holds.add(
            {TP("a", 0): Halt(7, "records are garbage", "do that"), TP("b", 0): Halt(None, "no topic", "make it")}
        )
    assert [(line["gap"], line["next_offset"], line["what_to_do"]) for line in lines] == [
        ("records are garbage", 7, "do that"),
        ("no topic", None, "make it"),
    ]
    holds.clear()


def test_held_partitions_are_counted_by_topic_and_told_with_the_way_out_until_the_next_assignment() -> None:
    holds = Holds("group of test_holds", "do this")

    def counted(topic: str) -> float | None:
        return REGISTRY.get_sample_value("waybill_partitions_held", {"group": "group of test_holds", "topic": topic})

    with capture_logs() as lines:
        holds.add({TP("a", 0): Hold(1, 2, 3)})
        holds.add({TP("a", 1): Hold(1, 5, 9), TP("b", 0): Hold(9, 0, 3)})
    assert (counted("a"), counted("b"), TP("a", 1) in holds, TP("a", 2) in holds) == (2, 1, True, False)
    assert [(line["log_level"], line["topic"], line["partition"], line["what_to_do"]) for line in lines] == [
        ("error", "a", 0, "do this"),
        ("error", "a", 1, "do this"),
        ("error", "b", 0, "do this"),
    ]
    holds.clear()
    assert (counted("a"), counted("b"), TP("a", 1) in holds) == (0, 0, False)
