"""What is in Kafka, and what therefore must be in a lake.  Knows nothing of the code under test."""

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field

from confluent_kafka import Consumer, Message, TopicPartition

from lake_chaos.lakes import Topic

#: What the producer sends now and then: no protobuf.
BAD = b"\xff" * 9


@dataclass(frozen=True)
class Truth:
    """``values`` of all committed records by partition and offset; ``good``: offsets that must be rows, in order."""

    values: Mapping[tuple[int, int], bytes]
    good: Mapping[int, list[int]] = field(init=False)

    def __post_init__(self) -> None:
        good = defaultdict(list)
        for partition, offset in sorted(place for place, value in self.values.items() if value != BAD):
            good[partition].append(offset)
        object.__setattr__(self, "good", good)

    def below(self, partition: int, offset: int) -> int:
        """How many rows must have a lower offset."""
        return bisect_left(self.good[partition], offset)


def of(topic: Topic) -> Truth:
    """Read the whole topic, committed records only."""
    consumer = Consumer(
        {
            "bootstrap.servers": topic.bootstrap,
            "group.id": "nobody",
            "isolation.level": "read_committed",
            "enable.partition.eof": True,
            "enable.auto.commit": False,
        }
    )
    consumer.assign([TopicPartition(topic.name, partition, 0) for partition in range(topic.partitions)])
    values: dict[tuple[int, int], bytes] = {}
    ended: set[int | None] = set()
    while len(ended) < topic.partitions:
        messages: list[Message] = consumer.consume(1000, 1.0)
        for message in messages:
            if message.error():
                ended.add(message.partition())
            else:
                values[message.partition(), message.offset()] = message.value()
    consumer.close()
    return Truth(values)
