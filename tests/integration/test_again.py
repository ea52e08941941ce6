"""Single records read again from a real topic: scattered ones, across what makes offsets skip, and what is gone."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

import pytest
from confluent_kafka import Producer, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from connectors.access import Access
from connectors.kafka.again import NEAR, Again, Found
from connectors.local.state import Stack
from connectors.problems import Unreachable

#: Records of each partition, a transaction of ten and its marker after the other.
COUNT, SIZE = 500, 1000


@pytest.fixture
def topic(stack: Stack, admin: AdminClient, topic_name: Callable[[str], str]) -> str:
    name = topic_name("again")
    admin.create_topics([NewTopic(name, 2, 1)])[name].result(20)
    producer = Producer({"bootstrap.servers": stack.kafka, "transactional.id": name, "linger.ms": 5})
    producer.init_transactions(20)
    for start in range(0, COUNT, 10):
        producer.begin_transaction()
        for partition in (0, 1):
            for index in range(start, start + 10):
                producer.produce(name, b"%d" % index * SIZE, b"key", partition)
        producer.commit_transaction(20)
    return name


def read(stack: Stack, topic: str, *rounds: Mapping[int, Sequence[int]], max_bytes: int = 100 << 20) -> list[Found]:
    async def run() -> list[Found]:
        again = Again(Access(stack.kafka), topic)
        try:
            return [await again.read(wanted, max_bytes) for wanted in rounds]
        finally:
            await again.close()

    return asyncio.run(run())


def at(offset: int) -> bytes:
    """The value of the record there: a marker stands behind every tenth."""
    return b"%d" % (offset - offset // 11) * SIZE


def test_wanted_records_are_read_again_wherever_they_lie(stack: Stack, topic: str) -> None:
    near, far = [0, 1, 5, 12, 40], [3, 3 + NEAR, 3 + 3 * NEAR, 546]
    first, second = read(stack, topic, {0: near, 1: far}, {0: far})
    assert first.gone == second.gone == []
    assert {place: record.value for place, record in first.records.items()} == {
        **{(0, offset): at(offset) for offset in near},
        **{(1, offset): at(offset) for offset in far},
    }
    assert [record.offset for record in second.records.values()] == far


def test_reading_again_stops_at_its_bound_and_says_nothing_of_the_rest(stack: Stack, topic: str) -> None:
    wanted = [offset for offset in range(500) if offset % 11 != 10]
    (found,) = read(stack, topic, {0: wanted}, max_bytes=20 * SIZE)
    assert found.gone == []
    assert 20 * SIZE <= found.size < 400 * SIZE
    assert [offset for _, offset in found.records] == wanted[: len(found.records)]


def test_what_is_no_record_any_more_is_named(stack: Stack, admin: AdminClient, topic: str) -> None:
    admin.delete_records([TopicPartition(topic, 0, 100)])[TopicPartition(topic, 0)].result(20)
    (found,) = read(stack, topic, {0: [4, 50, 99, 101, 109, 111], 1: [0, 10, 11]})
    assert sorted(found.gone) == [(0, 4), (0, 50), (0, 99), (0, 109), (1, 10)]
    assert sorted(found.records) == [(0, 101), (0, 111), (1, 0), (1, 11)]


def test_a_kafka_that_is_away_is_said_to_be_unreachable() -> None:
    again = Again(Access("127.0.0.1:9"), "topic")
    with pytest.raises(Unreachable, match="records of topic could not be read again"):
        asyncio.run(again.read({0: [1]}, 1))
