"""Compacted topics as tables: the latest value by key, read and written beside the consumer groups."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from confluent_kafka import KafkaError, KafkaException, Producer

from connectors.access import Access
from connectors.kafka import reader


@dataclass(slots=True)
class Table:
    """What was read so far of ``topic``; ``refresh`` reads on from there."""

    access: Access
    topic: str
    rows: dict[bytes, bytes] = field(default_factory=dict)
    _reached: dict[int, int] = field(default_factory=dict)

    def refresh(self) -> "Table":
        """Raises Unreachable, and MissingTopic."""
        ends = reader.ends(self.access, self.topic)
        left = {p: (max(low, self._reached.get(p, 0)), high) for p, (low, high) in ends.items()}
        for record in reader.scan(self.access, self.topic, left):
            if record.value is None:
                self.rows.pop(record.key or b"", None)
            else:
                self.rows[record.key or b""] = record.value
        self._reached = {partition: high for partition, (_, high) in ends.items()}
        return self


def write(access: Access, topic: str, rows: Mapping[bytes, bytes | None], timeout: float = reader.TIMEOUT) -> None:
    """Set rows, or remove those that are None; all in-sync brokers have them.  Raises Unreachable, and MissingTopic."""
    failed: list[KafkaError] = []
    connection = access.open(Producer, {"enable.idempotence": True, "message.timeout.ms": int(timeout * 1000)})
    for key, value in rows.items():
        connection.client.produce(
            topic, value, key, on_delivery=lambda error, _: failed.append(error) if error else None
        )
    connection.client.flush(timeout + 1)
    if failed and failed[0].code() in {KafkaError.UNKNOWN_TOPIC_OR_PART, KafkaError._UNKNOWN_TOPIC}:
        raise reader.MissingTopic(f"topic {topic} does not exist on {access}; run `waybill topics apply`")
    if failed:
        raise connection.problem(KafkaException(failed[0]), f"topic {topic}")
