"""An app on the engine for the tests: writes ``partition offset`` of each record to a ledger, after a short while.

faust -A engine_app:app worker     env: BOOTSTRAP, TOPIC, GROUP, LEDGER, SECONDS a record takes
"""

import asyncio
import os
from collections.abc import AsyncIterator
from dataclasses import dataclass

from connectors.kafka import App, Batch, Bounds, Pool

ENV = os.environ
ledger = os.open(ENV["LEDGER"], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
app = App(
    ENV["GROUP"],
    broker=ENV["BOOTSTRAP"],
    bounds=Bounds(pending=200, uncommitted=400, partition=400),
    drain_timeout=5.0,
    broker_max_poll_records=100,
    broker_session_timeout=6.0,
    broker_heartbeat_interval=1.0,
    broker_request_timeout=10.0,
)


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
        await asyncio.sleep(float(ENV["SECONDS"]))
        os.write(ledger, f"{record.partition} {record.offset}\n".encode())
        if item.batch.live:
            item.batch.done(item.index)
    finally:
        app.gate.end()


pool = Pool(app, handle, 32)


async def count(batches: AsyncIterator[Batch]) -> None:
    async for batch in batches:
        for index in range(batch.count):
            if not (app.gate.open and batch.live):
                break
            await pool.put(Item(batch, index))


app.consume(count, ENV["TOPIC"], name="count")
