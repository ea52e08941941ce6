"""One contestant of the benchmark in a process of its own: prints {"events", "wall", "cpu"} (seconds) as JSON.

contestants.py NAME COUNT [ADDRESS] [TOPIC]
"""

import asyncio
import json
import os
import sys
import time
from collections.abc import AsyncIterator
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

    def __init__(self, count: int) -> None:
        self.count, self.first = count, int(count * WARM_UP)
        self.seen = 0
        self.began: tuple[int, float, float] | None = None

    def add(self, events: int) -> None:
        self.seen += events
        if self.began is None and self.seen >= self.first:
            self.began = self.seen, time.perf_counter(), time.process_time()
        if self.seen >= self.count and self.began:
            seen, wall, cpu = self.began
            result = {
                "events": self.seen - seen,
                "wall": time.perf_counter() - wall,
                "cpu": time.process_time() - cpu,
            }
            print(json.dumps(result), flush=True)
            os._exit(0)


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
    }[name]
    running = contestant(Meter(int(count)), *where)
    if running is not None:
        asyncio.run(running)
