"""Single records read again, by their offsets, beside the group: nothing joins, nothing is committed."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import ConsumerStoppedError, KafkaError, OffsetOutOfRangeError
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth

from connectors.access import Access
from connectors.kafka.stock import credentials
from connectors.problems import Unreachable

log = structlog.get_logger("waybill.engine")

#: Offsets between two wanted records that are read and thrown away rather than jumped over.
NEAR = 100
#: Milliseconds without any record after which Kafka counts as unreachable.
TIMEOUT_MS = 10_000
#: Bytes fetched ahead, in all and of one partition; one batch of records may be more.
FETCH_BYTES, PARTITION_BYTES = 1 << 20, 128 << 10


@dataclass(slots=True)
class Found:
    """What became of wanted records, by (partition, offset); what is in neither was not looked at yet."""

    records: dict[tuple[int, int], Any] = field(default_factory=dict)
    gone: list[tuple[int, int]] = field(default_factory=list)
    size: int = 0


class Again:
    """Reads records of ``topic``; connects at the first use, and belongs to the event loop of that."""

    def __init__(self, access: Access, topic: str) -> None:
        self.access, self.topic = access, topic
        self._consumer: Any = None

    async def read(self, wanted: Mapping[int, Sequence[int]], max_bytes: int) -> Found:
        """Read ``wanted``, offsets in ascending order by partition, until they are ``max_bytes`` together or more.

        Raises Unreachable.
        """
        left = {TopicPartition(self.topic, partition): deque(offsets) for partition, offsets in wanted.items()}
        found = Found()
        try:
            consumer = await self._connected()
            consumer.assign(list(left))
            for tp, offsets in left.items():
                consumer.seek(tp, offsets[0])
            while left and found.size < max_bytes:
                await self._read_on(consumer, left, found)
        except (KafkaError, ConsumerStoppedError) as error:
            await self.close()
            raise Unreachable(f"records of {self.topic} could not be read again: {error!r}") from error
        consumer.unsubscribe()
        return found

    async def close(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer:
            await consumer.stop()

    async def _connected(self) -> Any:
        if self._consumer is None:
            consumer = AIOKafkaConsumer(
                bootstrap_servers=self.access.servers.split(","),
                auto_offset_reset="none",
                isolation_level="read_committed",
                enable_auto_commit=False,
                fetch_max_bytes=FETCH_BYTES,
                max_partition_fetch_bytes=PARTITION_BYTES,
                fetch_max_wait_ms=100,
                **credentials_to_aiokafka_auth(credentials(self.access), None),
            )
            try:
                await consumer.start()
            except KafkaError:
                await consumer.stop()
                raise
            self._consumer = consumer
        return self._consumer

    async def _read_on(self, consumer: Any, left: dict[TopicPartition, deque[int]], found: Found) -> None:
        """One fetch: sort out what it brought, and go to what is wanted next."""
        try:
            fetched = await consumer.getmany(timeout_ms=TIMEOUT_MS)
        except OffsetOutOfRangeError as error:
            for tp, offset in error.args[0].items():
                if tp in left:
                    if left[tp][0] == offset:
                        found.gone.append((tp.partition, left[tp].popleft()))
                    self._go_on(consumer, left, tp, None)
            return
        if not fetched:
            raise KafkaError(f"no answer within {TIMEOUT_MS} ms")
        for tp, records in fetched.items():
            offsets = left.get(tp, deque())
            for record in records:
                while offsets and offsets[0] < record.offset:  # it was removed, or never was a record
                    found.gone.append((tp.partition, offsets.popleft()))
                if offsets and offsets[0] == record.offset:
                    found.records[tp.partition, offsets.popleft()] = record
                    found.size += len(record.value or b"")
            self._go_on(consumer, left, tp, records[-1].offset + 1)

    def _go_on(self, consumer: Any, left: dict[TopicPartition, deque[int]], tp: TopicPartition, at: int | None) -> None:
        offsets = left.get(tp)
        if not offsets:
            left.pop(tp, None)
            consumer.pause(tp)
        elif at is None or offsets[0] - at > NEAR:
            consumer.seek(tp, offsets[0])
