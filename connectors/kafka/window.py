"""What of a partition may be committed: the contiguous prefix of records that are done.

One ``Batch`` is what one poll brought of one partition.  Its records may finish in any order; the window commits only
what lies below the first one that has not.  Nothing here knows Kafka, Faust or a clock.
"""

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

#: Bytes of Python objects around one record and around each of its headers, measured.
RECORD_OVERHEAD, HEADER_OVERHEAD = 400, 200
#: The same of a record that was forgotten, with what its agent remembers of it.
FORGOTTEN_OVERHEAD = 400


class HoleError(RuntimeError):
    """Records were skipped between Kafka and the agent; going on would commit past them."""


class TopicPartition(Protocol):
    """Faust's and aiokafka's are named tuples, equal to each other."""

    @property
    def topic(self) -> str: ...
    @property
    def partition(self) -> int: ...


class Forgotten(NamedTuple):
    """What stands for a record whose bytes were let go of while it waits.  ``timestamp``: milliseconds."""

    offset: int
    timestamp: int


@dataclass(slots=True)
class Load:
    """What all windows of one app hold together."""

    pending: int = 0  # records admitted and not done
    uncommitted: int = 0  # records admitted since the last commit the broker accepted
    held: int = 0  # bytes of records that are not done, taken or forgotten
    #: While somebody is ``waiting`` for room, ``on_release`` is called whenever there is more.
    waiting: bool = False
    on_release: Callable[[], None] = field(default=lambda: None)


class Batch:
    """The records of one partition from one poll, covering ``[start, next_offset)`` of its log."""

    __slots__ = (
        "_done", "_sizes", "count", "event", "left", "next_offset", "number", "records", "size", "start", "tp",
        "window",
    )  # fmt: skip

    def __init__(self, window: "Window", number: int, records: Sequence[Any], start: int, next_offset: int) -> None:
        self.window, self.number, self.tp = window, number, window.tp
        self.records = list(records)
        self.count = self.left = len(self.records)
        self.start, self.next_offset = start, next_offset
        self._sizes = _sizes(self.records)
        self.size = sum(self._sizes)
        self.event: Any = None  # Faust keeps only a weak reference to the event a table write belongs to
        self._done = bytearray(self.count)

    @property
    def live(self) -> bool:
        """False once the partition may belong to another worker: results no longer count."""
        return self.window.live

    def done(self, i: int) -> None:
        """Record ``i`` needs no further work here.  Idempotent, in any order; frees the record."""
        if not self._done[i]:
            self._done[i] = 1
            self.records[i], size = None, self._sizes[i]
            self.left -= 1
            self.size -= size
            self.window.finished(self, size)

    def forget(self, i: int) -> None:
        """Release the bytes of record ``i``, which stays undone: who goes on with it reads it again (``replace``)."""
        self.replace(i, Forgotten(self.records[i].offset, self.records[i].timestamp))

    def replace(self, i: int, record: Any) -> None:
        """Hold ``record`` in the place of record ``i``."""
        size = FORGOTTEN_OVERHEAD if isinstance(record, Forgotten) else _sizes([record])[0]
        change = size - self._sizes[i]
        self.records[i], self._sizes[i] = record, size
        self.size += change
        self.window.resized(change)

    @property
    def reach(self) -> int:
        """Behind the last record that is done; 0 if none is."""
        after = self._done.rfind(1) + 1
        offset: int = self.records[after].offset if after < self.count else self.next_offset
        return offset if after else 0

    @property
    def prefix(self) -> int:
        """How many records from the first on are done."""
        gap = self._done.find(0)
        return self.count if gap < 0 else gap

    def take(self) -> list[Any]:
        """Hand all records over at once; whoever takes them answers with ``Window.finish``."""
        records, self.records, self._sizes = self.records, [], []
        self.window.taken(self)
        return records


class Window:
    """The done-prefix of one partition in one assignment."""

    __slots__ = (
        "_batches", "_handed", "_reached", "_seen", "committed", "live", "load", "moves", "next", "origin", "tp",
        "uncommitted",
    )  # fmt: skip

    def __init__(self, tp: TopicPartition, load: Load, origin: int | None) -> None:
        self.tp, self.load, self.live = tp, load, True
        self.origin = origin  # behind which the first fetch must not start; None or 0 = anywhere
        self.next: int | None = None  # where the next one must start
        self.committed: int | None = None  # last offset the broker accepted
        self.uncommitted = 0  # records admitted since then
        self.moves = 0  # counts what got on: records done, offsets finished and committed
        self._reached: int | None = None  # the end of the last batch that is done, with all before it
        self._batches: deque[Batch] = deque()
        self._handed = self._seen = 0

    def admit(self, records: Sequence[Any], start: int, end: int) -> Batch:
        """Take in a fetch of ``[start, end)``.

        A fetch without records (transaction markers, compaction) only moves the prefix.  Raises HoleError if it does
        not begin where the last one ended: positions are compared, not offsets, so that gaps in the log are no holes.
        """
        due = self.next or self.origin
        # Before what the group has committed nothing is missing: the last assignment's commit may have arrived late.
        if due and (start > due or (self.next and start < due)):
            raise HoleError(
                f"{self.tp.topic}[{self.tp.partition}] was to go on at offset {due} but was read from {start}; "
                "the worker ends, and the next one reads again from the committed offset"
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
            self._pass_done()
        return batch

    def received(self, batch: Batch) -> None:
        """The agent got ``batch``.  Raises HoleError if one before it got lost on the way through Faust."""
        self._seen += 1
        if batch.number != self._seen:
            raise HoleError(
                f"{self.tp.topic}[{self.tp.partition}]: batch {batch.number} came where {self._seen} was due"
            )

    @property
    def position(self) -> int | None:
        """What may be committed: everything below it is done.  None if nothing is yet."""
        if self._batches:
            head = self._batches[0]
            if prefix := head.prefix:
                offset: int = head.records[prefix].offset
                return offset
        return self._reached

    @property
    def reach(self) -> int:
        """Behind the last record that is done, among the batches that are not; 0 if none is."""
        return max((batch.reach for batch in self._batches if batch.records), default=0)

    @property
    def pending(self) -> int:
        """Records that the agent has and that are not done."""
        return sum(batch.left for batch in self._batches if batch.records)

    @property
    def held(self) -> int:
        """Bytes of the batches they are in."""
        return sum(batch.size for batch in self._batches if batch.records)

    @property
    def oldest(self) -> Any | None:
        """The first record that is not done, if any."""
        if not self._batches or not self._batches[0].records:
            return None
        return self._batches[0].records[self._batches[0].prefix]

    def finished(self, batch: Batch, size: int) -> None:
        """A record of ``batch`` is done that held ``size`` bytes."""
        self.moves += 1
        if self.live:
            load = self.load
            load.pending -= 1
            load.held -= size
            if load.waiting:
                load.on_release()
        if not batch.left:
            self._pass_done()

    def taken(self, batch: Batch) -> None:
        if self.live:
            self.load.pending -= batch.count
        self.resized(-batch.size)

    def finish(self, offset: int) -> None:
        """Everything below ``offset`` is done (for batches that were taken whole)."""
        self.moves += 1
        while self._batches and self._batches[0].next_offset <= offset:
            self._batches.popleft()
        self._reached = max(self._reached or 0, offset)
        self._pass_done()  # trailing markers, else the lag never ends

    def accepted(self, offset: int) -> None:
        """The broker has committed ``offset``."""
        self.moves += offset != self.committed
        self.committed = offset
        left = sum(batch.count for batch in self._batches) - (self._batches[0].prefix if self._batches else 0)
        if self.live:
            self.load.uncommitted += left - self.uncommitted
        self.uncommitted = left

    def _pass_done(self) -> None:
        """Let go of the batches at the head that are done; the position moves to the end of the last of them."""
        while self._batches and not self._batches[0].left:
            self._reached = self._batches.popleft().next_offset

    def resized(self, change: int) -> None:
        """What a batch holds grew by ``change`` bytes."""
        if self.live:
            self.load.held += change
            if change < 0 and self.load.waiting:
                self.load.on_release()


def _sizes(records: Sequence[Any]) -> list[int]:
    """Bytes that are held for each."""
    return [
        RECORD_OVERHEAD + HEADER_OVERHEAD * len(one.headers) + len(one.value or b"") + len(one.key or b"")
        for one in records
    ]
