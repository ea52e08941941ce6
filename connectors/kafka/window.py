"""What of a partition may be committed: the contiguous prefix of records that are done.

One ``Batch`` is what one poll brought of one partition.  Its records may finish in any order; the window commits only
what lies below the first one that has not.  Nothing here knows Kafka, Faust or a clock.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

#: Bytes of Python objects around one record with three headers, measured.
RECORD_OVERHEAD = 700


class HoleError(RuntimeError):
    """Records were skipped between Kafka and the agent; going on would commit past them."""


class TopicPartition(Protocol):
    """Faust's and aiokafka's are named tuples, equal to each other."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...


@dataclass(slots=True)
class Load:
    """What all windows of one app hold together."""

    pending: int = 0  # records admitted and not done
    uncommitted: int = 0  # records admitted since the last commit the broker accepted
    held: int = 0  # bytes of records admitted and not done or taken
    on_release: Callable[[], None] = field(default=lambda: None)


def size_of(record: Any) -> int:
    """Memory of one record, in bytes."""
    return len(record.value or b"") + len(record.key or b"") + RECORD_OVERHEAD


class Batch:
    """The records of one partition from one poll, covering ``[start, next_offset)`` of its log."""

    __slots__ = (
        "_done",
        "_prefix",
        "count",
        "event",
        "next_offset",
        "number",
        "records",
        "size",
        "start",
        "tp",
        "window",
    )

    def __init__(self, window: "Window", number: int, records: Sequence[Any], start: int, next_offset: int) -> None:
        self.window, self.number, self.tp = window, number, window.tp
        self.records = list(records)
        self.count = len(self.records)
        self.start, self.next_offset = start, next_offset
        self.size = sum(map(size_of, self.records))
        self.event: Any = None  # Faust keeps only a weak reference to the event a table write belongs to
        self._done, self._prefix = bytearray(self.count), 0

    @property
    def live(self) -> bool:
        """False once the partition may belong to another worker: results no longer count."""
        return self.window.live

    def done(self, i: int) -> None:
        """Record ``i`` needs no further work here.  Idempotent, in any order; frees the record."""
        if not self._done[i]:
            self._done[i] = 1
            self.window.finished(self, i)

    def take(self) -> list[Any]:
        """Hand all records over at once; whoever takes them answers with ``Window.finish``."""
        records, self.records = self.records, []
        self.window.taken(self)
        return records


class Window:
    """The done-prefix of one partition in one assignment."""

    __slots__ = ("_batches", "_handed", "_seen", "committed", "live", "load", "next", "position", "tp", "uncommitted")

    def __init__(self, tp: TopicPartition, load: Load, origin: int | None) -> None:
        self.tp, self.load, self.live = tp, load, True
        self.next = origin  # where the next fetch must start; None or 0 = anywhere
        self.position: int | None = None  # committable: everything below it is done
        self.committed: int | None = None  # last offset the broker accepted
        self.uncommitted = 0  # records admitted since then
        self._batches: deque[Batch] = deque()
        self._handed = self._seen = 0

    def admit(self, records: Sequence[Any], start: int, end: int) -> Batch:
        """Take in a fetch of ``[start, end)``.

        A fetch without records (transaction markers, compaction) only moves the prefix.  Raises HoleError if it does
        not begin where the last one ended: positions are compared, not offsets, so that gaps in the log are no holes.
        """
        if self.next and start != self.next:
            raise HoleError(
                f"{self.tp.topic}[{self.tp.partition}] was to go on at offset {self.next} but was read from {start}; "
                "the worker ends and a new one reads again from the committed offset"
            )
        self.next = end
        self._handed += bool(records)
        batch = Batch(self, self._handed, records, start, end)
        self._batches.append(batch)
        self.uncommitted += batch.count
        self.load.pending += batch.count
        self.load.uncommitted += batch.count
        self.load.held += batch.size
        if not records:
            self._advance()
        return batch

    def received(self, batch: Batch) -> None:
        """The agent got ``batch``.  Raises HoleError if one before it got lost on the way through Faust."""
        self._seen += 1
        if batch.number != self._seen:
            raise HoleError(
                f"{self.tp.topic}[{self.tp.partition}]: batch {batch.number} came where {self._seen} was due"
            )

    def finished(self, batch: Batch, i: int) -> None:
        record = batch.records[i]
        batch.records[i] = None
        if self.live:
            self.load.pending -= 1
            self.load.held -= size_of(record)
            self.load.on_release()
        if i == batch._prefix:
            self._advance()

    def taken(self, batch: Batch) -> None:
        if self.live:
            self.load.pending -= batch.count
            self.load.held -= batch.size
            self.load.on_release()

    def finish(self, offset: int) -> None:
        """Everything below ``offset`` is done (for batches that were taken whole)."""
        while self._batches and self._batches[0].next_offset <= offset:
            self._batches.popleft()
        # With nothing left the position is that of the last fetch: past trailing markers, else the lag never ends.
        reached = offset if self._batches else max(self.next or 0, offset)
        self.position = max(self.position or 0, reached)

    @property
    def oldest(self) -> Any | None:
        """The first record that is not done, if any."""
        for batch in self._batches:
            if batch._prefix < len(batch.records):
                return batch.records[batch._prefix]
        return None

    def accepted(self, offset: int) -> None:
        """The broker has committed ``offset``."""
        self.committed = offset
        left = sum(b.count - b._prefix for b in self._batches)
        if self.live:
            self.load.uncommitted += left - self.uncommitted
        self.uncommitted = left

    def _advance(self) -> None:
        while self._batches:
            head = self._batches[0]
            gap = head._done.find(0, head._prefix)
            if gap >= 0:
                if gap:
                    self.position = head.records[gap].offset
                head._prefix = gap
                return
            self.position = head.next_offset
            self._batches.popleft()
