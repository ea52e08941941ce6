"""Bounded reading of real topics, with everything that makes offsets skip."""

import time
from collections.abc import Callable

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from connectors.access import Access
from connectors.kafka import reader
from connectors.local.state import Stack
from connectors.problems import Unreachable


@pytest.fixture
def topic(admin: AdminClient, topic_name: Callable[[str], str]) -> str:
    name = topic_name("reader")
    admin.create_topics([NewTopic(name, 2, 1)])[name].result(20)
    return name


def fill(bootstrap: str, topic: str, count: int, partition: int = 0) -> None:
    producer = Producer({"bootstrap.servers": bootstrap, "linger.ms": 5})
    for index in range(count):
        producer.produce(topic, b"%d" % index, b"key", partition, headers=[("a", b"1"), ("empty", None)])
    assert producer.flush(20) == 0


def transactions(bootstrap: str, topic: str, *outcomes: bool) -> Producer:
    """Ten records each, committed or aborted."""
    producer = Producer({"bootstrap.servers": bootstrap, "transactional.id": topic, "linger.ms": 5})
    producer.init_transactions(20)
    for committed in outcomes:
        producer.begin_transaction()
        for _ in range(10):
            producer.produce(topic, b"x", partition=0)
        producer.flush(20)
        producer.commit_transaction(20) if committed else producer.abort_transaction(20)
    return producer


def offsets(bootstrap: str, topic: str, ranges: dict[int, tuple[int, int]] | None = None) -> list[tuple[int, int]]:
    ranges = reader.ends(Access(bootstrap), topic) if ranges is None else ranges
    return sorted((record.partition, record.offset) for record in reader.scan(Access(bootstrap), topic, ranges))


def test_a_scan_reads_exactly_the_offsets_of_its_ranges(stack: Stack, topic: str) -> None:
    fill(stack.kafka, topic, 8)
    fill(stack.kafka, topic, 5, partition=1)
    assert reader.ends(Access(stack.kafka), topic) == {0: (0, 8), 1: (0, 5)}
    assert offsets(stack.kafka, topic, {0: (2, 4), 1: (4, 5)}) == [(0, 2), (0, 3), (1, 4)]
    assert offsets(stack.kafka, topic, {0: (3, 3)}) == []
    assert len(offsets(stack.kafka, topic)) == 13


def test_a_record_of_a_scan_is_whole(stack: Stack, topic: str) -> None:
    before = time.time() * 1000 - 1000
    fill(stack.kafka, topic, 1)
    (record,) = reader.scan(Access(stack.kafka), topic, reader.ends(Access(stack.kafka), topic))
    assert (record.topic, record.key, record.value) == (topic, b"key", b"0")
    assert record.headers == (("a", b"1"), ("empty", None))
    assert before < record.timestamp < time.time() * 1000 + 1000


def test_a_scan_passes_markers_and_aborted_records_and_ends_behind_an_aborted_tail(stack: Stack, topic: str) -> None:
    transactions(stack.kafka, topic, True, False, True, False)
    assert reader.ends(Access(stack.kafka), topic)[0] == (0, 44)
    assert offsets(stack.kafka, topic) == [(0, i) for i in (*range(10), *range(22, 32))]


def test_a_scan_ends_before_an_open_transaction(stack: Stack, topic: str) -> None:
    producer = transactions(stack.kafka, topic, True)
    producer.begin_transaction()
    producer.produce(topic, b"x", partition=0)
    producer.flush(20)
    assert reader.ends(Access(stack.kafka), topic)[0] == (0, 11)
    assert len(offsets(stack.kafka, topic, {0: (0, 12)})) == 10
    producer.abort_transaction(20)


def test_a_scan_of_what_retention_has_removed_or_nobody_has_written_ends(
    stack: Stack, admin: AdminClient, topic: str
) -> None:
    fill(stack.kafka, topic, 8)
    admin.delete_records([TopicPartition(topic, 0, 5)])[TopicPartition(topic, 0)].result(20)
    assert reader.ends(Access(stack.kafka), topic)[0] == (5, 8)
    assert offsets(stack.kafka, topic, {0: (0, 4)}) == []
    assert offsets(stack.kafka, topic, {0: (0, 7)}) == [(0, 5), (0, 6)]
    assert offsets(stack.kafka, topic, {0: (6, 900), 1: (0, 900)}) == [(0, 6), (0, 7)]
    assert offsets(stack.kafka, topic, {0: (500, 900)}) == []


def test_a_missing_topic_is_named_with_what_creates_it(stack: Stack) -> None:
    with pytest.raises(reader.MissingTopic, match=r"never_made does not exist .* `waybill topics apply`"):
        reader.ends(Access(stack.kafka), "never_made")
    with pytest.raises(reader.MissingTopic, match="never_made"):
        next(reader.scan(Access(stack.kafka), "never_made", {0: (0, 1)}))


def test_a_kafka_that_does_not_answer_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reader, "TIMEOUT", 0.5)
    with pytest.raises(Unreachable, match=r"127\.0\.0\.1:1 .* does not answer.*kafka.bootstrap-servers"):
        reader.ends(Access("127.0.0.1:1"), "topic")
