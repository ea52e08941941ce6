"""The INSERTs that every way of saving shares."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from waybill_outbox.event import Event

_ONE = """
INSERT INTO outbox_event (id, topic, key, type, payload, source, created_at, traceparent, tracestate)
VALUES (%s, %s, %s, %s, %s, coalesce(%s::text, outbox_source()), %s, %s, %s)
"""
_MANY = """
INSERT INTO outbox_event (id, topic, key, type, payload, source, created_at, traceparent, tracestate)
SELECT id, topic, key, type, payload, coalesce(source, outbox_source()), created_at, traceparent, tracestate
FROM unnest(%s::uuid[], %s::text[], %s::text[], %s::text[], %s::bytea[], %s::text[], %s::timestamptz[], %s::text[],
            %s::text[])
     AS event (id, topic, key, type, payload, source, created_at, traceparent, tracestate)
"""

# One statement stays far below Postgres' 1 GB and does not double a service's memory.
STATEMENT_ROWS = 1000
STATEMENT_BYTES = 16 * 1024 * 1024


def inserts(events: "Sequence[Event]") -> Iterator[tuple[str, list[Any]]]:
    """SQL and its parameters, for the events in order."""
    for part in parts(events):
        rows = [_row(event) for event in part]
        yield (_ONE, list(rows[0])) if len(rows) == 1 else (_MANY, [list(column) for column in zip(*rows, strict=True)])


def parts(events: "Sequence[Event]") -> "Iterator[Sequence[Event]]":
    """The events in order, cut into what one INSERT carries."""
    start, size = 0, 0
    for i, event in enumerate(events):
        if i > start and (i - start == STATEMENT_ROWS or size + len(event.payload) > STATEMENT_BYTES):
            yield events[start:i]
            start, size = i, 0
        size += len(event.payload)
    if start < len(events):
        yield events[start:]


def _row(event: "Event") -> tuple[Any, ...]:
    return (
        event.id,
        event.topic,
        event.key,
        event.type,
        event.payload,
        event.source,
        event.created_at,
        event.traceparent,
        event.tracestate,
    )
