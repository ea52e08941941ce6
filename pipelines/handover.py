"""The headers of a record in a retry or DLQ topic: which delivery it is and what happened to it.

Key, value and the event's own headers stay as they were; the ``waybill_`` headers are added, or replaced by a later
hand-over.  All of them are text, so any Kafka tool can read them.

A change of what is written here needs a higher FORMAT and a golden file of it (tests/golden).
"""

import zlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from pipelines.events import Event, Headers, text_headers
from pipelines.versions import NewerVersion

PREFIX = "waybill_"
#: The version of these headers that is written, and the newest that is read; without its header it is 0.
FORMAT = 1
FORMAT_HEADER = f"{PREFIX}format"
#: Characters of an error text that are kept, so that what could be read can also be handed over.
ERROR_LIMIT = 1024
#: Characters that one of our headers can have at most: an error text of ERROR_LIMIT, all of it escaped.
_LONGEST = 10 * ERROR_LIMIT
#: No number of ours has more digits; Python refuses to read very long ones.
_MOST_DIGITS = 19


class MalformedError(Exception):
    """A record of a retry or DLQ topic does not say which delivery it is."""


@dataclass(frozen=True, slots=True)
class HandOver:
    """One delivery on its way.  Times are ISO 8601 in UTC; topic, partition and offset are those of the event."""

    consumer: str
    endpoint: str
    topic: str
    partition: int
    offset: int
    generation: int = 0
    attempts: int = 0
    status: str = ""
    error: str = ""
    first_failed_at: str = ""
    last_failed_at: str = ""

    def failed(self, status: str, error: str, now: float) -> "HandOver":
        """One more attempt was made and failed.  ``now``: seconds since the epoch."""
        at = datetime.fromtimestamp(now, UTC).isoformat(timespec="milliseconds")
        return replace(
            self,
            attempts=self.attempts + 1,
            status=status,
            error=error[:ERROR_LIMIT],
            first_failed_at=self.first_failed_at or at,
            last_failed_at=at,
        )

    def ended(self, status: str, error: str, now: float) -> "HandOver":
        """Given up without another attempt."""
        return replace(self.failed(status, error, now), attempts=self.attempts)

    def replayed(self) -> "HandOver":
        """The next generation, with a fresh budget."""
        return replace(self, generation=self.generation + 1, attempts=0)


FIELDS = tuple(HandOver.__dataclass_fields__)
_NAMES = frozenset([FORMAT_HEADER, *(PREFIX + field for field in FIELDS)])
_NUMBERS = ("partition", "offset", "generation", "attempts")


def start(consumer: str, endpoint: str, event: Event) -> HandOver:
    """The delivery of an event that was just read."""
    return HandOver(consumer, endpoint, event.topic, event.partition, event.offset)


def headers(original: Headers, event_id: str, handover: HandOver) -> list[tuple[str, bytes | None]]:
    """The original headers and ours; an event without an id gets the one it is known by from here on."""
    kept = [(name, value) for name, value in original if name not in _NAMES]
    if not any(name == "ce_id" and value for name, value in kept):
        kept = [(name, value) for name, value in kept if name != "ce_id"]
        kept.append(("ce_id", event_id.encode()))
    ours: list[tuple[str, bytes | None]] = [
        (PREFIX + field, str(getattr(handover, field)).encode(errors="backslashreplace")) for field in FIELDS
    ]
    return [*kept, (FORMAT_HEADER, str(FORMAT).encode()), *ours]


def parse(original: Headers) -> HandOver:
    """Read our headers back.

    Raises MalformedError naming the first that is missing, too long or no number; NewerVersion if they cannot be known.
    """
    found = text_headers(original, _NAMES)
    version = _number(FORMAT_HEADER, found.get(FORMAT_HEADER, "0"))
    if version > FORMAT:
        raise NewerVersion("a hand-over", version, FORMAT)
    for field in FIELDS:
        if PREFIX + field not in found:
            raise MalformedError(f"no header {PREFIX}{field}")
        if len(found[PREFIX + field]) > _LONGEST:
            raise MalformedError(f"header {PREFIX}{field} is longer than {_LONGEST} characters")
    values = {field: found[PREFIX + field] for field in FIELDS}
    numbers = {field: _number(PREFIX + field, values[field]) for field in _NUMBERS}
    return HandOver(**(values | numbers))  # type: ignore[arg-type] # numbers are where the class has them


def _number(name: str, text: str) -> int:
    if text.isascii() and text.isdigit() and len(text) <= _MOST_DIGITS:
        return int(text)
    raise MalformedError(f"header {name} is no number: {text[:40]!r}")


def retry_partition(event_id: str, partitions: int) -> int:
    """All copies of an event meet in one partition, hence in one row of the retry table."""
    return zlib.crc32(event_id.encode()) % partitions
