"""What has become of replay plans: the rows of the replay agent's table.

Anybody can read them from the table's changelog.  A change of what is written here needs a higher FORMAT and a golden
file of it (tests/golden).
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from enum import Enum
from typing import Any

import structlog
from pydantic import TypeAdapter, ValidationError

from pipelines import versions
from pipelines.dlq import DeadLetter
from pipelines.plan import Plan, Ranges
from pipelines.versions import UnreadableRow

log = structlog.get_logger()

#: The version of rows that is written, and the newest that is read.
FORMAT = 1


class State(Enum):
    RUNNING = "running"
    ENDED = "ended"


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a plan has come: the row ``plan/<id>``.

    ``next``: the offset of each DLQ partition where it goes on.  ``skipped``: malformed dead letters, which stay open.
    Times are ISO 8601.
    """

    consumer: str
    started_at: str
    updated_at: str
    next: Mapping[int, int] = field(default_factory=dict)
    moved: int = 0
    skipped: int = 0
    state: State = State.RUNNING

    def left(self, ranges: Ranges) -> dict[int, tuple[int, int]]:
        return {partition: (self.next.get(partition, start), end) for partition, (start, end) in ranges.items()}

    def after(self, portion: "Portion", now: datetime) -> "Progress":
        reached = {dead_letter.partition: dead_letter.offset + 1 for dead_letter in portion.read}
        return replace(
            self,
            next={**self.next, **reached},
            moved=self.moved + len(portion.move) + portion.moved_before,
            skipped=self.skipped + portion.skipped,
            updated_at=now.isoformat(),
        )

    def ended(self, ranges: Ranges, now: datetime) -> "Progress":
        reached = {partition: end for partition, (_, end) in ranges.items()}
        return replace(self, next=reached, state=State.ENDED, updated_at=now.isoformat())

    def to_bytes(self) -> bytes:
        return json.dumps({"format": FORMAT, **_PROGRESS.dump_python(self, mode="json")}).encode()


_PROGRESS: TypeAdapter[Progress] = TypeAdapter(Progress)


def started(consumer: str, now: datetime) -> Progress:
    return Progress(consumer=consumer, started_at=now.isoformat(), updated_at=now.isoformat())


@dataclass(frozen=True, slots=True)
class Mark:
    """The row ``dead/<topic>/<partition>/<offset>``: which plan moved that dead letter.

    ``event`` tells it from a record that got the same offset when the topic was created anew.
    """

    plan: str
    event: str

    def to_bytes(self) -> bytes:
        return json.dumps({"format": FORMAT, "plan": self.plan, "event": self.event}).encode()


def plan_key(plan_id: str) -> bytes:
    return f"plan/{plan_id}".encode()


def mark_key(dead_letter: DeadLetter) -> bytes:
    return f"dead/{dead_letter.topic}/{dead_letter.partition}/{dead_letter.offset}".encode()


def read_progress(row: bytes | None) -> Progress | None:
    """The progress in a row of a plan.  Raises NewerVersion.

    One that cannot be read counts for nothing: the plan begins anew, and marks tell what it had moved.
    """
    if not row:
        return None
    try:
        return _PROGRESS.validate_python(versions.fields("a plan's row of the replay table", row, FORMAT))
    except (UnreadableRow, ValidationError) as error:
        log.error("a plan's row of the replay table cannot be read: it counts for nothing", reason=str(error))  # noqa: TRY400 - no fault of the code
        return None


def mover(row: bytes | None, dead_letter: DeadLetter) -> str | None:
    """The plan that moved ``dead_letter``, going by its row; None while it is open.  Raises NewerVersion."""
    match _mark(row):
        case Mark(plan, event) if event == dead_letter.event.id:
            return plan
        case _:
            return None


def _mark(row: bytes | None) -> Mark | None:
    """One that cannot be read counts for nothing: at worst a consumer gets an event twice."""
    if not row:
        return None
    try:
        match versions.fields("a mark of the replay table", row, FORMAT):
            case [str(plan), str(event)] | {"plan": str(plan), "event": str(event)}:  # a list in version 0
                return Mark(plan, event)
    except UnreadableRow:
        pass
    log.error("a mark of the replay table cannot be read: it counts for nothing", row=repr(row[:100]))
    return None


class Fate(Enum):
    """What a plan does with one dead letter."""

    LEAVE = "not meant, or moved by another plan"
    SKIP = "meant, but malformed"
    MOVE = "meant and open"
    MOVED = "moved by this plan already, before a crash"


def fate(plan: Plan, dead_letter: DeadLetter, mark: bytes | None) -> Fate:
    """``mark``: the row of the dead letter, if there is one."""
    if not plan.filter.matches(dead_letter):
        return Fate.LEAVE
    if dead_letter.delivery is None:
        return Fate.SKIP
    match mover(mark, dead_letter):
        case None:
            return Fate.MOVE
        case plan.id:
            return Fate.MOVED
        case _:
            return Fate.LEAVE


@dataclass(frozen=True, slots=True)
class ReplayState:
    """The replay agent's table, as its changelog tells it."""

    rows: Mapping[bytes, bytes]

    def moved_by(self, dead_letter: DeadLetter) -> str | None:
        """The plan that moved ``dead_letter``; None while it is open."""
        return mover(self.rows.get(mark_key(dead_letter)), dead_letter)

    def fate(self, plan: Plan, dead_letter: DeadLetter) -> Fate:
        return fate(plan, dead_letter, self.rows.get(mark_key(dead_letter)))

    def progress(self, plan_id: str) -> Progress | None:
        return read_progress(self.rows.get(plan_key(plan_id)))


def state_of(changelog: Iterable[Any]) -> ReplayState:
    """Put the records of the changelog together; the last of a key counts."""
    return ReplayState({record.key: record.value for record in changelog if record.key and record.value})


@dataclass(frozen=True, slots=True)
class Portion:
    """A stretch of the DLQ that is dealt with in one step."""

    read: tuple[DeadLetter, ...] = ()
    move: tuple[DeadLetter, ...] = ()
    moved_before: int = 0
    skipped: int = 0


def portions(page: Iterable[DeadLetter], fate: Callable[[DeadLetter], Fate], limit: int) -> Iterator[Portion]:
    """Cut a page where ``limit`` dead letters to move have come together."""
    read: list[DeadLetter] = []
    fates: list[Fate] = []

    def portion() -> Portion:
        move = tuple(dead_letter for dead_letter, its in zip(read, fates, strict=True) if its is Fate.MOVE)
        return Portion(tuple(read), move, fates.count(Fate.MOVED), fates.count(Fate.SKIP))

    for dead_letter in page:
        read.append(dead_letter)
        fates.append(fate(dead_letter))
        if fates.count(Fate.MOVE) == limit:
            yield portion()
            read, fates = [], []
    if read:
        yield portion()
