"""An app on the engine for the tests: writes ``partition offset`` of each record to a ledger, after a short while.

faust -A engine_app:app worker     env: BOOTSTRAP, TOPIC, GROUP, LEDGER, SECONDS a record takes; optional
HAND_OVER_TO (a topic, instead of the ledger), METRICS_PORT, STALL_TIMEOUT, MAX_POLL_INTERVAL, COMMIT_TIMEOUT,
REQUEST_TIMEOUT, REBALANCE (at the stop)

What a record's value begins with: ``wait``: until the file LEDGER.go is there, on purpose; ``stall``: for ever, in the
agent; ``block``: for ever, and the event loop with it; ``anew``: and the partitions are assigned anew.
"""

import asyncio
import os
import sys
import threading
from collections.abc import AsyncIterator
from dataclasses import dataclass

from aiokafka.client import AIOKafkaClient

from connectors import prometheus
from connectors.access import Access
from connectors.kafka import App, Batch, Bounds, Pool

ENV = os.environ
ledger = os.open(ENV["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
if "METRICS_PORT" in ENV:
    prometheus.serve("127.0.0.1", int(ENV["METRICS_PORT"]))
app = App(
    ENV["GROUP"],
    broker=Access(ENV["BOOTSTRAP"]),
    bounds=Bounds(pending=200, uncommitted=400, partition=400),
    drain_timeout=5.0,
    stall_timeout=float(ENV.get("STALL_TIMEOUT", "300")),
    broker_max_poll_interval=float(ENV.get("MAX_POLL_INTERVAL", "1000")),
    broker_max_poll_records=100,
    broker_session_timeout=6.0,
    broker_heartbeat_interval=1.0,
    broker_request_timeout=float(ENV.get("REQUEST_TIMEOUT", "10")),
    consumer_metadata_max_age_ms=2_000,
)

app.commit_timeout = float(ENV.get("COMMIT_TIMEOUT", "10"))


async def rebalance() -> None:
    if app.should_stop:
        before = app.rebalancing_count
        await app.reassign()
        while app.rebalancing_count == before:  # noqa: ASYNC110 - nobody tells
            await asyncio.sleep(0.01)


if "REBALANCE" in ENV:
    app.gate.on_drain.append(rebalance)

_close = AIOKafkaClient.close


async def close(client: AIOKafkaClient) -> None:
    """Say so if it happens anywhere but in the loop that reads what the client asked for."""
    if client._loop is not asyncio.get_running_loop():
        sys.stderr.write("a client was closed from another thread\n")
    await _close(client)


AIOKafkaClient.close = close


@dataclass
class Item:
    batch: Batch
    index: int


async def handle(item: Item) -> None:
    if not app.gate.open:
        return
    app.gate.begin()
    try:
        record = item.batch.records[item.index]
        if await work(item.batch, record) and item.batch.live:
            item.batch.done(item.index)
    finally:
        app.gate.end()


async def work(batch: Batch, record: object) -> bool:
    value, go = record.value or b"", ENV["LEDGER"] + ".go"
    if value.startswith(b"wait"):
        while not os.path.exists(go):  # noqa: ASYNC240, PTH110 - a test may wait so long
            if not app.gate.open:
                return False
            await app.gate.sleep(0.5)
    elif value.startswith(b"block"):
        threading.Event().wait()
    elif value.startswith(b"anew"):
        await app.reassign()
    if "HAND_OVER_TO" in ENV:
        return await app.hand_over(batch, ENV["HAND_OVER_TO"], record.key, value, [])
    await asyncio.sleep(float(ENV["SECONDS"]))
    os.write(ledger, f"{record.partition} {record.offset}\n".encode())
    return True


pool = Pool(app, handle, 32)


async def count(batches: AsyncIterator[Batch]) -> None:
    async for batch in batches:
        for index in range(batch.count):
            if not (app.gate.open and batch.live):
                break
            if batch.records[index].value.startswith(b"stall"):
                await asyncio.Event().wait()
            await pool.put(Item(batch, index))


app.consume(count, ENV["TOPIC"], name="count")
