"""Replay plans: which dead letters go back to the retry topic, how fast, and up to where."""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Literal

from pydantic import AwareDatetime, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from pipelines import names
from pipelines.dlq import Filter

#: Offsets [from, to) of each partition.
Ranges = Mapping[int, tuple[int, int]]


class UnreadablePlan(Exception):
    """A record of the commands topic is no plan of a version this worker knows."""


@dataclass(frozen=True, slots=True)
class Channel:
    """The names replay goes by.  The commands topic and the changelog have the same number of partitions."""

    commands: str = names.COMMANDS
    group: str = names.REPLAY_GROUP
    partitions: int = 12

    @property
    def changelog(self) -> str:
        return names.changelog(self.group, names.REPLAY_TABLE)

    def partition_of(self, consumer: str) -> int:
        """All plans of a consumer lie in one partition, so one worker runs them, in order."""
        return zlib.crc32(consumer.encode()) % self.partitions


CHANNEL = Channel()


@checked(frozen=True, config=ConfigDict(extra="forbid", strict=True))
class Plan:
    """A command of the commands topic.

    ``ranges``: of the DLQ topic, fixed when the plan was made.  ``rate``: moves a second.
    """

    id: str
    consumer: str
    dlq_topic: str
    retry_topic: str
    filter: Filter
    rate: Annotated[float, Field(gt=0, allow_inf_nan=False)]
    ranges: dict[int, tuple[int, int]]
    made_at: AwareDatetime
    command: Literal["replay"] = "replay"
    version: Literal[1] = 1

    def to_bytes(self) -> bytes:
        return _PLAN.dump_json(self)

    @staticmethod
    def from_bytes(value: bytes | None) -> "Plan":
        """Raises UnreadablePlan, which says what is wrong."""
        try:
            return _PLAN.validate_json(value or b"")
        except ValidationError as error:
            first = error.errors()[0]
            raise UnreadablePlan(": ".join([*map(str, first["loc"]), first["msg"]])) from None


_PLAN: TypeAdapter[Plan] = TypeAdapter(Plan)


def new_id(now: datetime, chance: str) -> str:
    """Sorts by time; ``chance`` makes it unique."""
    return f"{now.astimezone(UTC):%Y%m%dT%H%M%S}{now.microsecond // 1000:03}-{chance}"
