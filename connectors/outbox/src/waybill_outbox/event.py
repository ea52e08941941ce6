"""An event as it is saved: built once from a protobuf message, immutable."""

import os
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

from google.protobuf.message import Message

from waybill_outbox import trace
from waybill_outbox.errors import InvalidEvent, OutboxError
from waybill_outbox.event_types import MAX_KEY_BYTES, event_type, key_of
from waybill_outbox.ids import uuid7

if TYPE_CHECKING:
    import psycopg

#: Largest serialised message: the topics, the connector and the table's CHECK are made for it.
MAX_MESSAGE_BYTES = 4 * 1024 * 1024

# Sources travel as gRPC metadata, which is printable ASCII.
_SOURCE = re.compile(r"[!-~]{1,255}")


@dataclass(frozen=True, slots=True)
class Event:
    """A row of outbox_event.

    Attributes:
        id: UUIDv7, stable through retry, dead letter and replay (header ce_id).
        topic: Kafka topic of the event type.
        key: Key of the Kafka record.
        type: Full name of the message (ce_type).
        payload: The serialised message.
        source: Service that saved it (ce_source); None lets the database fill in outbox_source().
        created_at: When it was built, UTC (ce_time).
        traceparent: W3C trace context; None is absent.
        tracestate: Same.

    """

    id: UUID
    topic: str
    key: str
    type: str
    payload: bytes = field(repr=False)
    source: str | None
    created_at: datetime
    traceparent: str | None = None
    tracestate: str | None = None

    def save(self, connection: "psycopg.Connection[Any] | None" = None, *, using: str | None = None) -> None:
        """Insert into the outbox, in the transaction of your data; see `save_many`."""
        save_many([self], connection, using=using)

    async def asave(self, connection: "psycopg.AsyncConnection[Any]") -> None:
        """`save` for an asynchronous psycopg connection."""
        await asave_many([self], connection)


def build_event(message: Message, *, key: str | int | None = None, source: str | None = None) -> Event:
    """The event that carries `message`, whose type has the option (waybill.v1.event).

    `key` replaces the key that the option names.  `source` is the name of this service; without it, WAYBILL_SOURCE of
    Django's settings or of the environment, else what the database says: its setting waybill.source, or its name.
    InvalidEvent if the message cannot travel.
    """
    kind = event_type(message.DESCRIPTOR)
    event_id = uuid7()
    text_key = key_of(message, kind) if key is None else str(key)
    payload = message.SerializeToString()
    source = source or _configured_source()
    traceparent, tracestate = trace.current()
    event = Event(
        id=event_id,
        topic=kind.topic,
        key=str(event_id) if text_key is None else text_key,
        type=kind.name,
        payload=payload,
        source=source,
        created_at=datetime.now(UTC),
        traceparent=traceparent,
        tracestate=tracestate,
    )
    _check(event)
    return event


def save_many(
    events: Sequence[Event], connection: "psycopg.Connection[Any] | None" = None, *, using: str | None = None
) -> None:
    """Insert events with few statements, in the transaction of your data.

    With a psycopg connection, in its transaction; without, in Django's transaction on the database alias `using`.
    NotInTransaction if there is none: an event saved apart from its data could stay behind or go astray.
    """
    if connection is not None and using is not None:
        raise TypeError("pass a psycopg connection or using=..., not both")
    if connection is not None:
        from waybill_outbox import psycopg  # noqa: PLC0415  # optional: only who has a connection has psycopg

        psycopg.save(events, connection)
    elif _django_settings():
        from waybill_outbox.django import saving  # noqa: PLC0415  # optional

        saving.save(events, using)
    else:
        raise OutboxError("save() without a connection uses Django, which is not set up here: save(connection)")


async def asave_many(events: Sequence[Event], connection: "psycopg.AsyncConnection[Any]") -> None:
    """`save_many` for an asynchronous psycopg connection."""
    from waybill_outbox import psycopg  # noqa: PLC0415  # optional

    await psycopg.asave(events, connection)


def _django_settings() -> Any | None:
    # A service that uses Django has imported it and read its settings long before its first event.
    conf = sys.modules.get("django.conf")
    return conf.settings if conf and conf.settings.configured else None


def _configured_source() -> str | None:
    return getattr(_django_settings(), "WAYBILL_SOURCE", None) or os.environ.get("WAYBILL_SOURCE") or None


def _check(event: Event) -> None:
    if len(event.payload) > MAX_MESSAGE_BYTES:
        raise InvalidEvent(
            f"{event.type} has {len(event.payload):,} bytes, more than the {MAX_MESSAGE_BYTES:,} an event may have: "
            "store the bulk elsewhere and send its address"
        )
    if not 1 <= len(event.key.encode()) <= MAX_KEY_BYTES or "\0" in event.key:
        raise InvalidEvent(f"{event.type}: its key must have 1 to {MAX_KEY_BYTES} bytes of text without NUL")
    if event.source is not None and not _SOURCE.fullmatch(event.source):
        raise InvalidEvent(f"the source {event.source!r} must be 1 to 255 printable ASCII characters without spaces")
