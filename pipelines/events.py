"""What a record of an event topic says about itself: CloudEvents headers (Kafka protocol binding, binary mode)."""

from collections.abc import Iterable
from typing import Any, NamedTuple
from urllib.parse import quote

Headers = Iterable[tuple[str, bytes | None]]

#: Status of a dead letter that nobody was called with, in place of a gRPC status.
REFUSED = "REFUSED"

#: Headers that travel to the consumer as gRPC metadata, under the name on the right.
METADATA = {
    "ce_id": "ce-id",
    "ce_type": "ce-type",
    "ce_source": "ce-source",
    "ce_time": "ce-time",
    "traceparent": "traceparent",
    "tracestate": "tracestate",
}
#: Characters of metadata values a call carries at most.  A gRPC server refuses more than 8 KiB of metadata in all, some
#: of the time, unless it is told otherwise; what proxies add comes on top of ours.
METADATA_LIMIT = 4096
#: What is left out where it does not fit: nobody needs it to know the event.
_TRACE = frozenset({"traceparent", "tracestate"})
_FIRST = ("waybill-attempt", "1")
_PRINTABLE = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")


class Event(NamedTuple):
    """One event as it lies in Kafka.

    ``id`` is the producer's, or ``topic/partition/offset`` where a record has none.  ``headers`` are the original ones;
    ``metadata`` is what of them a call carries: printable ASCII, the rest percent-encoded as CloudEvents does it; no
    trace context where that would go over METADATA_LIMIT.
    """

    id: str
    type: str
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]
    metadata: tuple[tuple[str, str], ...]


def read(record: Any, default_type: str) -> Event:
    """Never fails: what is missing or no text gets the stand-in that the guarantees name."""
    headers = tuple(record.headers or ())
    found = text_headers(headers, METADATA)
    event_id = found.setdefault("ce_id", "") or f"{record.topic}/{record.partition}/{record.offset}"
    event_type = found.setdefault("ce_type", "") or default_type
    found["ce_id"], found["ce_type"] = event_id, event_type
    metadata = tuple([(METADATA[name], printable(value)) for name, value in found.items()])
    if _size(metadata) > METADATA_LIMIT:
        metadata = tuple([entry for entry in metadata if entry[0] not in _TRACE])
    topic, partition, offset = record.topic, record.partition, record.offset
    return Event(event_id, event_type, topic, partition, offset, record.key, record.value, headers, metadata)


def refusal(event: Event, expected_type: str, max_bytes: int) -> str | None:
    """Why ``event`` cannot be delivered to anybody, or None."""
    if event.type != expected_type:
        return f"unexpected type: {event.type!r} on a topic of {expected_type}"
    if event.value is None:
        return "no payload: the record's value is null"
    if len(event.value) > max_bytes:
        return f"too large: {len(event.value)} bytes, max-message-bytes is {max_bytes}"
    if (size := _size(event.metadata)) > METADATA_LIMIT:
        longest = max(event.metadata, key=lambda entry: len(entry[1]))[0]
        return f"too much metadata: {size} characters, most of them in {longest}; a call carries {METADATA_LIMIT}"
    return None


def _size(metadata: tuple[tuple[str, str], ...]) -> int:
    return sum([len(value) for _, value in metadata])


def attempt_number(number: int) -> tuple[str, str]:
    """The metadata entry that tells a consumer which attempt this is, from 1."""
    return _FIRST if number == 1 else ("waybill-attempt", str(number))


def printable(value: str) -> str:
    """As gRPC can carry it.  What is longer than a call can carry anyway is not escaped to its end."""
    return (
        value
        if value.isascii() and value.isprintable() and "%" not in value
        else quote(value[: METADATA_LIMIT + 1], safe=_PRINTABLE)
    )


def text_headers(headers: Headers, names: Iterable[str]) -> dict[str, str]:
    """The first header of each name that is not empty.  Bytes that are no UTF-8 stay visible as escapes."""
    found: dict[str, str] = {}
    for name, value in headers:
        if name in names and value is not None and not found.get(name):
            found[name] = str(value, "utf-8", "backslashreplace")
    return found
