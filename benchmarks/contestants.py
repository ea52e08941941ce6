"""One contestant of the benchmark in a process of its own: prints {"events", "wall", "cpu", "rss"} as JSON.

``wall`` and ``cpu`` are seconds, ``rss`` the most resident bytes there ever were.

contestants.py NAME COUNT [ADDRESS] [TOPIC]
"""

import asyncio
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Any

import consumers
import uvloop

METHOD = "/logistics.v1.EventsAPI/PackageDelivered"
METADATA = (("ce-id", "0" * 36), ("ce-type", "logistics.v1.PackageDeliveredEvent"), ("waybill-attempt", "1"))
IN_FLIGHT = 128
#: What is not measured: caches fill, connections are made.
WARM_UP = 0.1


class Meter:
    """Measures from the first ``WARM_UP`` of the events to the last, then ends the process."""

    def __init__(self, count: int, warm_up: float = WARM_UP) -> None:
        self.count, self.first = count, int(count * warm_up)
        self.seen = 0
        self.began: tuple[int, float, float] | None = None

    def add(self, events: int) -> None:
        self.seen += events
        if self.began is None and self.seen > self.first:
            self.began = self.seen, time.perf_counter(), time.process_time()
        if self.seen >= self.count and self.began:
            seen, wall, cpu = self.began
            result = {
                "events": self.seen - seen,
                "wall": time.perf_counter() - wall,
                "cpu": time.process_time() - cpu,
                "rss": most_resident(),
            }
            print(json.dumps(result), flush=True)
            os._exit(0)


def most_resident() -> int:
    status = Path("/proc/self/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


async def aiokafka(meter: Meter, address: str, topic: str) -> None:
    from aiokafka import AIOKafkaConsumer

    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=address, auto_offset_reset="earliest", isolation_level="read_committed"
    )
    await consumer.start()
    while True:
        for records in (await consumer.getmany(timeout_ms=200, max_records=500)).values():
            for _ in records:
                pass
            meter.add(len(records))


def stock_faust(meter: Meter, address: str, topic: str) -> None:
    import faust

    app = faust.App(
        f"bench-{time.time_ns()}",
        broker=f"kafka://{address}",
        consumer_auto_offset_reset="earliest",
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        stream_buffer_maxsize=65_536,  # its default stutters
    )

    @app.agent(app.topic(topic, key_type=bytes, value_type=bytes, value_serializer="raw", key_serializer="raw"))
    async def count(stream: Any) -> None:
        async for _ in stream:
            meter.add(1)

    work(app)


def waybill(meter: Meter, address: str, topic: str) -> None:
    from connectors.access import Access
    from connectors.kafka import App, Batch, Bounds

    app = App(f"bench-{time.time_ns()}", broker=Access(address), bounds=Bounds(), drain_timeout=5.0)

    async def count(batches: AsyncIterator[Batch]) -> None:
        async for batch in batches:
            for index in range(batch.count):
                batch.done(index)
            meter.add(batch.count)

    app.consume(count, topic, name="count")
    work(app)


async def grpc_aio(meter: Meter, address: str, _: str) -> None:
    import grpc

    call = grpc.aio.insecure_channel(address).unary_unary(METHOD)
    payload = b"x" * 300

    async def caller() -> None:
        while True:
            await call(payload, timeout=5, metadata=METADATA)
            meter.add(1)

    await asyncio.gather(*(caller() for _ in range(IN_FLIGHT)))


def delivery(meter: Meter, _: str, __: str) -> None:
    """A whole worker, made from WAYBILL_CONFIG: Kafka, breakers, commits and all."""
    from pipelines import apps, metrics

    app = apps.bench

    @app.task
    async def measure() -> None:
        seen = 0
        while True:
            now = sum(
                int(sample.value)
                for family in metrics.ATTEMPTS.collect()
                for sample in family.samples
                if sample.name.endswith("_total") and sample.labels["outcome"] == "delivered"
            )
            meter.add(now - seen)
            seen = now
            await asyncio.sleep(0.02)

    work(app)


def as_installed() -> None:
    """Without what only tests have: Arrow imports these two where they are."""
    sys.modules.update(numpy=None, pandas=None)


def archive(meter: Meter, _: str, topic: str) -> None:
    """The lake's sink, made from WAYBILL_CONFIG: until the last event is in a published segment."""
    as_installed()
    from prometheus_client import REGISTRY

    from connectors import settings
    from lake.apps import build

    app = build(settings.load(), id=f"bench-{time.time_ns()}")

    @app.task
    async def measure() -> None:
        seen = 0
        while seen < meter.count - 1:  # the last one counts when all are published
            read = sum(window.next or 0 for window in app.gate.windows.values())
            meter.add(min(read, meter.count - 1) - seen)
            seen = min(read, meter.count - 1)
            await asyncio.sleep(0.01)
        while (REGISTRY.get_sample_value("waybill_lake_rows_total", {"topic": topic}) or 0) < meter.count:
            for flush in app.gate.on_drain:
                await flush()
        meter.add(1)

    work(app)


def bare_archive(meter: Meter, address: str, topic: str) -> None:
    """What a lake costs without its promises: one file, nothing committed, nothing of what cannot be decoded."""
    as_installed()
    from itertools import accumulate, chain

    import pyarrow as pa
    import pyarrow.parquet as pq
    from confluent_kafka import Consumer, TopicPartition
    from ptars import HandlerPool, PtarsConfig

    from connectors import schemas, settings
    from lake.columns import schema

    event = schemas.load(settings.load().descriptors).event(topic)
    assert event is not None
    config = PtarsConfig(enum_repr="string", timestamp_unit="us", duration_unit="us", map_value_nullable=True)
    decoder = HandlerPool([event.descriptor.file], config=config).get_for_message(event.descriptor)

    def text(values: Iterable[bytes | None]) -> pa.Array:
        return pa.array(list(values), pa.binary()).cast(pa.string())

    def rows(messages: list[Any]) -> pa.RecordBatch:
        count, values = len(messages), [message.value() for message in messages]
        headers = [message.headers() or [] for message in messages]
        pairs = list(chain.from_iterable(headers))
        found = [dict(each) for each in headers]
        metadata = {
            "_topic": pa.repeat(topic, count),
            "_epoch": pa.repeat("epoch", count),
            "_partition": pa.array([message.partition() for message in messages], pa.int32()),
            "_offset": pa.array([message.offset() for message in messages], pa.int64()),
            "_timestamp": pa.array([message.timestamp()[1] for message in messages], pa.timestamp("ms", "UTC")),
            "_time": text(each.get("ce_time") for each in found).cast(schema.TIMESTAMP),
            "_key": pa.array([message.key() for message in messages], pa.binary()),
            "_headers": pa.MapArray.from_arrays(
                pa.array(accumulate(map(len, headers), initial=0), pa.int32()),
                pa.array([name for name, _ in pairs], pa.string()),
                pa.array([value for _, value in pairs], pa.binary()),
            ),
            "_raw": pa.array(values, pa.binary()),
            "_event_id": text(each.get("ce_id") for each in found),
            "_event_type": pa.repeat(event.name, count),
            "_source": text(each.get("ce_source") for each in found),
        }
        decoded = decoder.list_to_record_batch(values)
        return pa.RecordBatch.from_arrays(
            [*decoded.columns, *map(metadata.__getitem__, schema.METADATA.names)],
            schema=pa.schema([*decoded.schema, *schema.METADATA]),
        )

    consumer = Consumer({"bootstrap.servers": address, "group.id": "bench", "auto.offset.reset": "earliest"})
    consumer.assign([TopicPartition(topic, each, 0) for each in consumer.list_topics(topic).topics[topic].partitions])
    with tempfile.TemporaryDirectory() as folder:
        writer, batches, held = None, [], 0
        left = meter.count
        while left:
            messages = consumer.consume(min(left, 5_000), 1.0)
            if not messages:
                continue
            meter.add(min(len(messages), left - 1))
            left -= len(messages)
            batches.append(rows(messages))
            held += len(messages)
            if held >= 50_000 or not left:
                table = pa.Table.from_batches(batches)
                if writer is None:
                    writer = pq.ParquetWriter(
                        f"{folder}/{topic}.parquet",
                        table.schema,
                        compression="zstd",
                        compression_level=1,
                        use_dictionary=["_topic", "_epoch", "_event_type", "_source"],
                    )
                writer.write_table(table)
                batches, held = [], 0
        assert writer is not None
        writer.close()
    meter.add(1)


def work(app: Any) -> None:
    import faust

    faust.Worker(app, loglevel="error", quiet=True, redirect_stdouts=False).execute_from_commandline()


async def server(address: str) -> None:
    """The consumer service of the delivery contestants."""

    async def answer(_: bytes, __: Any) -> bytes:
        return b""

    await consumers.serve(address, answer)


if __name__ == "__main__":
    uvloop.install()
    name, count, *where = sys.argv[1:]
    if name == "server":
        asyncio.run(server(where[0]))
    contestant = {
        "aiokafka": aiokafka,
        "stock-faust": stock_faust,
        "waybill": waybill,
        "grpc.aio": grpc_aio,
        "delivery": delivery,
        "bare-archive": bare_archive,
        "archive": archive,
    }[name]
    warm_up = 0.0 if contestant in {archive, bare_archive} else WARM_UP
    running = contestant(Meter(int(count), warm_up), *where)
    if running is not None:
        asyncio.run(running)
