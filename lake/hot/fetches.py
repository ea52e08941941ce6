"""What hangs on an assignment: the fetches that come in, the end of the chain that takes them, and the answers."""

from dataclasses import dataclass, field
from typing import Any

from connectors.kafka.holds import Halt
from lake.hot.writer import OpenSegment
from lake.segments import Rotation


@dataclass(frozen=True, slots=True)
class Fetch:
    """All of one partition in ``[start, end)``; ``size`` is the memory of the records, ``window`` their assignment."""

    window: Any
    topic: str
    partition: int
    records: list[Any]
    start: int
    end: int
    size: int


@dataclass(frozen=True, slots=True)
class Finished:
    """Everything of ``window`` below ``offset`` is in the lake."""

    window: Any
    offset: int


@dataclass(frozen=True, slots=True)
class Halted:
    """Nothing of ``window`` is taken in or published any more: its partition waits for a new assignment."""

    window: Any
    topic: str
    partition: int
    halt: Halt


Answer = Finished | Halted


@dataclass(slots=True)
class Tail:
    """What an assignment has of the end of a chain.

    ``due``: why the segment is to be published.  ``behind``: what came since its file was closed.
    """

    segment: OpenSegment
    due: Rotation | None = None
    behind: list[Fetch] = field(default_factory=list)

    @property
    def held(self) -> int:
        """Bytes in memory."""
        return self.segment.held + sum(fetch.size for fetch in self.behind)
