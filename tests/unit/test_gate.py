"""How much may come in, and of which topic."""

from test_window import TP, Record

from connectors.kafka.gate import Bounds, Gate

A, B = TP("a"), TP("b")


def gate_with(**records: int) -> Gate:
    gate = Gate("g", Bounds(pending=100), drain_timeout=1.0)
    for topic, count in records.items():
        gate.window(TP(topic), None).admit([Record(offset) for offset in range(count)], 0, count)
    return gate


def test_while_there_is_much_room_a_topic_may_take_all_of_it() -> None:
    assert gate_with(a=49).with_room([A, B]) == {A, B}


def test_a_topic_that_has_its_share_leaves_the_rest_to_the_others() -> None:
    assert gate_with(a=50).with_room([A, B]) == {B}
    assert gate_with(a=50, b=10).with_room([A, B]) == {B}
    assert gate_with(a=34).with_room([A, B, TP("c")]) == {A, B, TP("c")}
    assert gate_with(a=34, b=20).with_room([A, B, TP("c")]) == {B, TP("c")}


def test_a_topic_alone_may_take_everything() -> None:
    assert gate_with(a=99).with_room([A]) == {A}


def test_records_that_are_done_count_no_more() -> None:
    gate = gate_with(a=50, b=30)
    batch = gate.windows[A]._batches[0]
    for index in range(1, 30):
        batch.done(index)
    assert gate.with_room([A, B]) == {A, B}


def test_a_topic_whose_bytes_are_many_leaves_room_too() -> None:
    gate = Gate("g", Bounds(held=100_000), drain_timeout=1.0)
    gate.window(A, None).admit([Record(0, b"x" * 60_000)], 0, 1)
    assert gate.with_room([A, B]) == {B}
