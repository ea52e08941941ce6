"""What a fetch brings, as records: quicker than aiokafka does it, and whatever their header names are.

aiokafka makes each record twice, the second time in Python, and hands them out one by one: more work than reading them.
And a record whose header names are no UTF-8, which Kafka takes, it cannot read at all: a worker could never get past
it.  Here such names show the bytes that are no text as escapes.  All this is for ``getmany`` alone.

What is fetched ahead aiokafka bounds for each partition only; ``Fetcher.bound`` does it for all of them together.
"""

import random
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from aiokafka.consumer import consumer, fetcher
from aiokafka.record import default_records, memory_records


class Record(NamedTuple):
    """``timestamp``: milliseconds since the epoch."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...]


class _Chunk(NamedTuple):
    """All that one batch of a log holds; takes the place of one record in what aiokafka does with a batch."""

    records: list[Any]
    offset: int


class _PartitionRecords(fetcher.PartitionRecords):
    """Those of one fetch.  ``next_fetch_offset`` is where the partition goes on behind what was taken."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._left: list[Record] = []

    def _consumer_record(self, tp: Any, record: _Chunk) -> list[Record]:
        """Those of a batch; a fetch from within one begins before the position."""
        new, (topic, partition) = tuple.__new__, tp
        found = [
            new(Record, (topic, partition, one.offset, one.timestamp, one.key, one.value, tuple(one.headers)))
            for one in record.records
        ]
        start = self.next_fetch_offset
        return found if found[0].offset >= start else [one for one in found if one.offset >= start]

    def take(self, count: int | None) -> list[Record]:
        """The next ``count``, or all; fewer only if there are no more."""
        found = self._left
        while count is None or len(found) < count:
            chunk = next(self, None)
            if chunk is None:
                self._left = []
                return found
            found += chunk
        taken, self._left = found[:count], found
        del found[:count]
        self.next_fetch_offset = taken[-1].offset + 1
        return taken


class _FetchResult(fetcher.FetchResult):
    _partition_records: _PartitionRecords | None

    @property
    def size(self) -> int:
        """Bytes that came from the broker, until all of them are taken."""
        return self._partition_records._records.size_in_bytes() if self._partition_records else 0

    def drop(self) -> None:
        """Let go of what was fetched, as if nothing more was: the position stays, and nothing is fetched meanwhile."""
        self._partition_records = None

    def getall(self, max_records: int | None = None) -> list[Record]:
        if self._partition_records is None or not self.check_assignment(self._topic_partition):
            return []
        found = self._partition_records.take(max_records)
        self._update_position()
        if max_records is None or len(found) < max_records:
            self._partition_records = None
        return found


class Fetcher(fetcher.Fetcher):
    #: Bytes fetched ahead over all partitions at most, if not None.  While that much waits to be read nothing is
    #: fetched, of no partition: only for whoever reads all of them.
    bound: int | None = None
    #: Partitions of which nothing is read until they are assigned anew: what was fetched of them only takes room.
    held: Callable[[], Iterable[Any]] = tuple

    def _get_actions_per_node(self, assignment: Any) -> Any:
        for tp in self.held():
            if isinstance(result := self._records.get(tp), _FetchResult):
                result.drop()
        requests, *others = super()._get_actions_per_node(assignment)
        if self.bound is not None:
            waiting = sum(result.size for result in self._records.values() if isinstance(result, _FetchResult))
            room = max(0, self.bound - waiting) // self._fetch_max_bytes - len(self._in_flight)
            random.shuffle(requests)  # that no broker's always come last
            requests = requests[: max(0, room)]
        return requests, *others


class _Records(memory_records._MemoryRecordsPy):
    """The batches of one fetch of a partition."""

    def next_batch(self) -> Any:
        data = self._next_slice
        return _Batch(super().next_batch(), data)


class _Batch:
    """A batch as aiokafka reads it, quick; only where that fails, slow."""

    def __init__(self, quick: Any, data: Any) -> None:
        self._quick, self._data = quick, data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._quick, name)

    def __next__(self) -> Any:
        return next(self._quick)

    def __iter__(self) -> Any:
        try:
            records = list(self._quick)
        except UnicodeDecodeError:
            slow = default_records._DefaultRecordBatchPy(self._data)
            slow._maybe_uncompress()
            slow._buffer = _Forgiving(slow._buffer)
            records = list(slow)
        return iter([_Chunk(records, records[-1].offset)] if records else [])


class _Forgiving(bytearray):
    """Whatever is read from it as text is text."""

    def __getitem__(self, where: Any) -> Any:
        found = super().__getitem__(where)
        return _Forgiving(found) if isinstance(found, bytearray) else found

    def decode(self, encoding: str = "utf-8", errors: str = "backslashreplace") -> str:
        return bytes(self).decode(encoding, errors)


def read_by_batches() -> None:
    """From now on, in all consumers that aiokafka makes in this process."""
    fetcher.MemoryRecords, fetcher.PartitionRecords, fetcher.FetchResult = _Records, _PartitionRecords, _FetchResult
    consumer.Fetcher = Fetcher
