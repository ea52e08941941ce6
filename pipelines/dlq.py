"""Dead letters: what a record of a DLQ topic says, and which of them are meant."""

import heapq
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import AwareDatetime, ConfigDict
from pydantic.dataclasses import dataclass as checked

from pipelines import events, handover
from pipelines.events import Event
from pipelines.handover import HandOver, MalformedError
from pipelines.versions import NewerVersion

#: The status of a dead letter whose headers do not say which delivery it was.
MALFORMED = "MALFORMED"
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One record of a DLQ topic.

    ``topic``, ``partition``, ``offset`` and ``timestamp`` (ms since the epoch) are those of the DLQ record, the
    event's are those of its source.  ``delivery`` is None if the record is malformed; ``malformation`` then says why.
    """

    topic: str
    partition: int
    offset: int
    timestamp: int
    event: Event
    delivery: HandOver | None
    malformation: str = ""

    @property
    def endpoint(self) -> str:
        return self.delivery.endpoint if self.delivery else ""

    @property
    def status(self) -> str:
        return self.delivery.status if self.delivery else MALFORMED

    @property
    def error(self) -> str:
        return self.delivery.error if self.delivery else self.malformation

    @property
    def at(self) -> datetime:
        """When it was dead-lettered; the epoch if the record's time is none."""
        try:
            return datetime.fromtimestamp(self.timestamp / 1000, UTC)
        except (ValueError, OverflowError, OSError):
            return datetime.fromtimestamp(0, UTC)


def read(record: Any) -> DeadLetter:
    """Never fails: a record that is no proper dead letter says so in ``malformation``."""
    event = events.read(record, default_type="")
    delivery, malformation = None, ""
    try:
        delivery = handover.parse(event.headers)
        event = event._replace(topic=delivery.topic, partition=delivery.partition, offset=delivery.offset)
    except (MalformedError, NewerVersion) as error:
        malformation = str(error)
    return DeadLetter(
        topic=record.topic,
        partition=record.partition,
        offset=record.offset,
        timestamp=record.timestamp,
        event=event,
        delivery=delivery,
        malformation=malformation,
    )


@checked(frozen=True, config=ConfigDict(extra="forbid", strict=True))
class Filter:
    """Which dead letters are meant; an empty field means all of them.

    ``error``: part of the status or of the error text, in any case.  ``type``: full name of the event type, its last
    part, or the topic.  ``endpoint``: full name or its last part.  ``since``: dead-lettered at or after this time.
    """

    error: str = ""
    type: str = ""
    endpoint: str = ""
    since: AwareDatetime | None = None

    def matches(self, dead_letter: DeadLetter) -> bool:
        event, endpoint = dead_letter.event, dead_letter.endpoint
        said = f"{dead_letter.status}\n{dead_letter.error}".casefold()
        return (
            self.error.casefold() in said
            and self.type in {"", event.type, event.type.rpartition(".")[2], event.topic}
            and self.endpoint in {"", endpoint, endpoint.rpartition("/")[2]}
            and (self.since is None or dead_letter.at >= self.since)
        )


def parse_since(text: str, now: datetime) -> datetime:
    """``2h``, ``30m``, ``7d``, or a time in ISO 8601 (UTC unless it says otherwise).  Raises ValueError."""
    if match := re.fullmatch(r"(\d{1,6})([smhd])", text):
        return now - timedelta(**{_UNITS[match[2]]: int(match[1])})
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text!r} is neither a duration (30m, 2h, 7d) nor a time (2026-07-14T09:30Z)") from None
    return at if at.tzinfo else at.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Summary:
    """What a set of dead letters consists of; counts with the most frequent first, malformed ones only by error."""

    total: int
    malformed: int
    by_type: tuple[tuple[str, int], ...]
    by_endpoint: tuple[tuple[str, int], ...]
    by_error: tuple[tuple[str, int], ...]
    newest: tuple[DeadLetter, ...]

    @property
    def movable(self) -> int:
        """Malformed ones cannot be replayed."""
        return self.total - self.malformed


def summarize(dead_letters: Iterable[DeadLetter], keep: int) -> Summary:
    """Count ``dead_letters`` in one pass and keep the newest."""
    types, endpoints, errors = Counter[str](), Counter[str](), Counter[str]()

    def counted() -> Iterator[DeadLetter]:
        for dead_letter in dead_letters:
            errors[dead_letter.status] += 1
            if dead_letter.delivery:
                types[dead_letter.event.type or dead_letter.event.topic] += 1
                endpoints[dead_letter.endpoint] += 1
            yield dead_letter

    newest = heapq.nlargest(keep, counted(), key=lambda dead_letter: dead_letter.timestamp)
    return Summary(
        total=errors.total(),
        malformed=errors.total() - types.total(),
        by_type=tuple(types.most_common()),
        by_endpoint=tuple(endpoints.most_common()),
        by_error=tuple(errors.most_common()),
        newest=tuple(newest),
    )
