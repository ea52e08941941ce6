"""Replay plans: which dead letters go back to the retry topic, how fast, and up to where.

A change of what is written here needs a higher VERSION and a golden file of it (tests/golden).
"""

import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Final, Literal

from pydantic import AwareDatetime, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass as checked

from pipelines import names, versions
from pipelines.dlq import Filter
from pipelines.versions import UnreadableRow

#: The version of a plan that is written, and the newest that is read.
VERSION: Final = 1

#: Offsets [from, to) of each partition.
Ranges = Mapping[int, tuple[int, int]]

_Partition = Annotated[int, Field(ge=0, lt=1 << 31)]
_Offset = Annotated[int, Field(ge=0, lt=1 << 63)]


class UnreadablePlan(Exception):
    """A record of the commands topic is no plan."""


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
    rate: Annotated[float, Field(ge=0.001, le=1e6)]
    ranges: dict[_Partition, tuple[_Offset, _Offset]]
    made_at: AwareDatetime
    command: Literal["replay"] = "replay"
    version: Literal[1] = VERSION

    def to_bytes(self) -> bytes:
        return _PLAN.dump_json(self)

    @staticmethod
    def from_bytes(value: bytes | None) -> "Plan":
        """Raises UnreadablePlan, which says what is wrong, and NewerVersion."""
        try:
            versions.fields("a plan", value or b"", VERSION, "version")
            return _PLAN.validate_json(value or b"")
        except UnreadableRow as error:
            raise UnreadablePlan(str(error)) from None
        except ValidationError as error:
            first = error.errors()[0]
            raise UnreadablePlan(": ".join([*map(str, first["loc"]), first["msg"]])) from None


_PLAN: TypeAdapter[Plan] = TypeAdapter(Plan)


def new_id(now: datetime, chance: str) -> str:
    """Sorts by time; ``chance`` makes it unique."""
    return f"{now.astimezone(UTC):%Y%m%dT%H%M%S}{now.microsecond // 1000:03}-{chance}"
