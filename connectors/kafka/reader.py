"""Bounded reading beside the consumer groups: what a topic holds now, without joining, committing, waiting for more."""

import time
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

from connectors.access import Access
from connectors.problems import Unreachable

#: Seconds without an answer after which Kafka counts as unreachable.
TIMEOUT = 10.0
_POLL = 0.5
#: A partition whose leader changes, or is only just made.
_ELECTING = {
    KafkaError.NOT_LEADER_FOR_PARTITION,
    KafkaError.LEADER_NOT_AVAILABLE,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._TRANSPORT,
}
#: What librdkafka recovers from by itself, and what does not matter: it looks for a group that nobody joins.
_PASSING = {
    KafkaError._TRANSPORT,
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._RESOLVE,
    KafkaError.GROUP_AUTHORIZATION_FAILED,
}


class MissingTopic(Unreachable):
    """Kafka answers, but does not have the topic."""


@dataclass(frozen=True, slots=True)
class Record:
    """One record, named like those the engine hands out.  ``timestamp``: milliseconds since the epoch."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


def ends(access: Access, topic: str) -> dict[int, tuple[int, int]]:
    """For each partition the offsets ``[low, high)``: of the oldest record kept, and one past the newest.

    Raises Unreachable, MissingTopic and Refused.
    """
    with _consumer(access, topic) as consumer:
        return {partition: _ends(consumer, topic, partition) for partition in _partitions(consumer, access, topic)}


def scan(access: Access, topic: str, ranges: Mapping[int, tuple[int, int]]) -> Generator[Record, None, None]:
    """The records of ``topic`` whose offsets lie in ``ranges`` ([from, to) by partition), in order within a partition.

    Offsets may be missing: aborted and compacted records, transaction markers, what retention removed.  A partition
    ends with the first record at or past its range, or where it has no more to read.  Close the iterator if you leave
    it early.  Raises Unreachable, MissingTopic and Refused.
    """
    left = {partition: span for partition, span in ranges.items() if span[0] < span[1]}
    if not left:
        return
    with _consumer(access, topic) as consumer:
        if absent := left.keys() - _partitions(consumer, access, topic):
            raise MissingTopic(f"topic {topic} on {access} has no partition {min(absent)}; was it created anew?")
        consumer.assign([TopicPartition(topic, partition, start) for partition, (start, _) in left.items()])
        while left:
            message = _next(consumer, access, topic)
            partition, offset, ended = message.partition(), message.offset(), message.error() is not None
            start, end = left.get(partition, (0, 0))
            if ended or offset >= end - 1:
                left.pop(partition, None)
                consumer.pause([TopicPartition(topic, partition)])
            if not ended and start <= offset < end:
                yield _record(message)


def _next(consumer: Any, access: Access, topic: str) -> Any:
    """The next record, or the end of a partition (a message with an error).  Unreachable if neither comes."""
    deadline = time.monotonic() + TIMEOUT
    while time.monotonic() < deadline:
        message = consumer.poll(_POLL)
        error = message.error() if message is not None else None
        if message is not None and (error is None or error.code() == KafkaError._PARTITION_EOF):
            return message
        if error and not error.retriable() and error.code() not in _PASSING:
            raise KafkaException(error)
    raise Unreachable(f"Kafka at {access} stopped answering while {topic} was read; try again")


def _ends(consumer: Any, topic: str, partition: int) -> tuple[int, int]:
    deadline = time.monotonic() + TIMEOUT
    while True:
        try:
            low, high = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=TIMEOUT, cached=False)
        except KafkaException as error:
            if error.args[0].code() not in _ELECTING or time.monotonic() > deadline:
                raise
            time.sleep(_POLL / 5)
        else:
            return low, high


def _record(message: Any) -> Record:
    return Record(
        topic=message.topic(),
        partition=message.partition(),
        offset=message.offset(),
        timestamp=message.timestamp()[1],
        key=message.key(),
        value=message.value(),
        headers=_headers(message),
    )


def _headers(message: Any) -> tuple[tuple[str, bytes | None], ...]:
    """None for a record with a name that is no UTF-8: confluent-kafka cannot read it, and Waybill writes none."""
    try:
        return tuple(message.headers() or ())
    except (SystemError, UnicodeDecodeError):
        return ()


@contextmanager
def _consumer(access: Access, topic: str) -> Iterator[Any]:
    connection = access.open(
        Consumer,
        {
            "group.id": "waybill-reader",  # demanded by librdkafka; nothing joins or commits
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "isolation.level": "read_committed",
            "auto.offset.reset": "earliest",  # where retention has removed the start of a range
            "max.poll.interval.ms": 86_400_000,  # a slow reader is no dead one
            "fetch.wait.max.ms": 50,  # how long the end of a partition takes to show
            "fetch.queue.backoff.ms": 5,  # its default of 1 s stalls whoever reads faster than that
            "queued.max.messages.kbytes": 16_384,
        },
    )
    try:
        yield connection.client
    except KafkaException as error:
        raise connection.problem(error, f"topic {topic}") from error
    finally:
        connection.client.close()


def _partitions(consumer: Any, access: Access, topic: str) -> set[int]:
    found = consumer.list_topics(topic, timeout=TIMEOUT).topics[topic]
    if found.error is not None:
        if found.error.code() == KafkaError.UNKNOWN_TOPIC_OR_PART:
            raise MissingTopic(f"topic {topic} does not exist on {access}; run `waybill topics apply`")
        raise KafkaException(found.error)
    return set(found.partitions)
