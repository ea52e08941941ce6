"""How a consumer is retired: everything saved before it was begun reaches it, then its offsets are forgotten.

The record of it, in the state topic, fixes up to where it must have read; so it can be asked for again and again.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass

from pydantic import TypeAdapter

from connectors.access import Access
from connectors.kafka import compacted
from connectors.kafka.offsets import Commit, Offsets
from connectors.problems import Problem
from pipelines import names, versions
from pipelines.format import Consumer

FORMAT = 1


@dataclass(frozen=True, slots=True)
class Retirement:
    """``deliveries``: by topic, the ends that its groups must reach.  ``retries``: those of the retry topic, fixed when
    all of that is delivered.  Times are seconds since the epoch; ``topics`` are the consumer's retry and DLQ topic.
    """

    consumer: str
    topics: tuple[str, str]
    begun_at: float
    deliveries: dict[str, dict[int, int]]
    retries: dict[int, int] | None = None
    retired_at: float | None = None

    def to_bytes(self) -> bytes:
        return json.dumps({"format": FORMAT, **asdict(self)}).encode()


_RETIREMENT: TypeAdapter[Retirement] = TypeAdapter(Retirement)


def key(consumer: str) -> bytes:
    return f"retirement/{consumer}".encode()


def read(access: Access, consumer: str) -> Retirement | None:
    """None if it was not begun.  Raises Unreachable, MissingTopic and NewerVersion."""
    return of(compacted.Table(access, names.STATE).refresh().rows, consumer)


def of(rows: Mapping[bytes, bytes], consumer: str) -> Retirement | None:
    row = rows.get(key(consumer))
    return _RETIREMENT.validate_python(versions.fields("a retirement", row, FORMAT)) if row else None


def write(access: Access, consumer: str, retirement: Retirement | None) -> None:
    compacted.write(access, names.STATE, {key(consumer): retirement.to_bytes() if retirement else None})


def refuse_retired(rows: Mapping[bytes, bytes], consumer: str) -> None:
    """Problem if the consumer was retired: whoever starts it again means it, or does not know."""
    found = of(rows, consumer)
    if found and found.retired_at:
        raise Problem(
            f"{consumer} was retired, so its workers would begin anew, at `start-from`; if that is meant, run "
            f"`waybill consumer retire {consumer} --undo` first"
        )


def behind(commits: Mapping[int, Commit], ends: Offsets) -> int:
    """Offsets that are still to be committed."""
    none = Commit(0)
    return sum(max(0, end - commits.get(partition, none).offset) for partition, end in ends.items())


def groups(consumer: Consumer) -> tuple[str, ...]:
    """Every group that may hold offsets of the consumer."""
    topics = [subscription.topic for subscription in consumer.distribution]
    own = (names.delivery_group(consumer.name), names.retry_group(consumer.name))
    return *own, *(names.dedicated_group(consumer.name, topic) for topic in topics)
