"""The whole history of one delivery: what each place knows of it, and what was done around it."""

from collections.abc import Iterator
from datetime import UTC, datetime

import psycopg

from chaos.ledger import Call, Entry, Evidence
from chaos.rig import Rig
from examples.demo.ledger import Delivery

#: Seconds around the calls in which faults are of interest.
AROUND = 20.0


def tell(rig: Rig, found: Evidence, delivery: Delivery) -> str:
    """In lines: outbox, Kafka, each call of the event to the consumer, retry and DLQ records, and the journal."""
    event, consumer = delivery.event_id, delivery.consumer
    calls = [c for c in found.calls if (c.delivery.event_id, c.delivery.consumer) == (event, consumer)]
    calls.sort(key=lambda call: call.at)
    lines = [
        f"{event} at {consumer}/{delivery.endpoint}",
        *_outbox(rig, event),
        *(f"Kafka    {t}[{p}] offset {o}" for (t, p, o), each in found.kafka.items() if each == event),
        *map(_call, calls),
        *_records(rig, event, f"{consumer}_retry"),
        *_records(rig, event, f"{consumer}_dlq"),
        *_journal(found, calls),
    ]
    return "\n  ".join(lines)


def _outbox(rig: Rig, event: str) -> Iterator[str]:
    with psycopg.connect(rig.stack.postgres) as database:
        for row in database.execute("SELECT topic, key, created_at, xmin FROM outbox_event WHERE id = %s", [event]):
            yield "outbox   {}, key {}, built {}, transaction {}".format(*row)


def _call(call: Call) -> str:
    told = f"attempt {call.attempt} by process {call.process}: {call.answer}, {call.left:.2f} s left"
    return f"call     {_clock(call.at)} {call.delivery.endpoint} {told}"


def _records(rig: Rig, event: str, topic: str) -> Iterator[str]:
    for record in rig.world.records(rig.world.topic(topic)):
        headers = {name: (value or b"").decode() for name, value in record.headers}
        if headers.get("ce_id") == event:
            told = {name: value for name, value in headers.items() if name.startswith("waybill_")}
            where = f"{topic}[{record.partition}] offset {record.offset}"
            yield f"record   {_clock(record.timestamp / 1000)} {where} {told}"


def _journal(found: Evidence, calls: list[Call]) -> Iterator[str]:
    start, end = (calls[0].at - AROUND, calls[-1].at + AROUND) if calls else (0.0, float("inf"))
    processes = {call.process for call in calls}
    for entry in sorted(found.journal, key=lambda entry: entry.start):
        if (entry.start <= end and entry.end >= start) or entry.process in processes:
            yield f"journal  {_clock(entry.start)} to {_clock(entry.end)} {_told(entry)}"


def _told(entry: Entry) -> str:
    return f"{entry.what}, process {entry.process}" if entry.process else entry.what


def _clock(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%H:%M:%S.%f")[:-3]
