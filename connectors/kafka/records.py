"""Records whose header names are no UTF-8, which Kafka takes and aiokafka cannot read.

A worker could never get past such a record.  Here its names show the bytes that are no text as escapes.

What is fetched ahead aiokafka bounds for each partition only; ``Fetcher.bound`` does it for all of them together.
"""

import random
from collections.abc import Callable, Iterable
from typing import Any

from aiokafka.consumer import consumer, fetcher
from aiokafka.record import default_records, memory_records


class Records(memory_records._MemoryRecordsPy):
    """The batches of one fetch of a partition."""

    def next_batch(self) -> Any:
        data = self._next_slice
        batch = super().next_batch()
        return Batch(batch, data) if isinstance(batch, default_records.DefaultRecordBatch) else batch


class Batch:
    """A batch as aiokafka reads it, quick; only where that fails, slow."""

    def __init__(self, quick: Any, data: Any) -> None:
        self._quick, self._data = quick, data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._quick, name)

    def __next__(self) -> Any:
        return next(self._quick)

    def __iter__(self) -> Any:
        try:
            return iter(list(self._quick))
        except UnicodeDecodeError:
            slow = default_records._DefaultRecordBatchPy(self._data)
            slow._maybe_uncompress()
            slow._buffer = _Forgiving(slow._buffer)
            return slow


class _Forgiving(bytearray):
    """Whatever is read from it as text is text."""

    def __getitem__(self, where: Any) -> Any:
        found = super().__getitem__(where)
        return _Forgiving(found) if isinstance(found, bytearray) else found

    def decode(self, encoding: str = "utf-8", errors: str = "backslashreplace") -> str:
        return bytes(self).decode(encoding, errors)


class FetchResult(fetcher.FetchResult):
    """What was fetched of a partition."""

    @property
    def size(self) -> int:
        """Bytes that came from the broker, until all of them are taken."""
        return self._partition_records._records.size_in_bytes() if self._partition_records else 0

    def drop(self) -> None:
        """Let go of what was fetched, as if nothing more was: the position stays, and nothing is fetched meanwhile."""
        self._partition_records = None

    def getall(self, max_records: int | None = None) -> Any:
        return super().getall(max_records) if self._partition_records else []


class Fetcher(fetcher.Fetcher):
    #: Bytes fetched ahead over all partitions at most, if not None.  While that much waits to be read nothing is
    #: fetched, of no partition: only for whoever reads all of them.
    bound: int | None = None
    #: Partitions of which nothing is read until they are assigned anew: what was fetched of them only takes room.
    held: Callable[[], Iterable[Any]] = tuple

    def _get_actions_per_node(self, assignment: Any) -> Any:
        for tp in self.held():
            if isinstance(result := self._records.get(tp), FetchResult):
                result.drop()
        requests, *others = super()._get_actions_per_node(assignment)
        if self.bound is not None:
            waiting = sum(result.size for result in self._records.values() if isinstance(result, FetchResult))
            room = max(0, self.bound - waiting) // self._fetch_max_bytes - len(self._in_flight)
            random.shuffle(requests)  # that no broker's always come last
            requests = requests[: max(0, room)]
        return requests, *others


def read_any_header_name() -> None:
    """From now on, in all consumers that aiokafka makes in this process."""
    fetcher.MemoryRecords, fetcher.FetchResult, consumer.Fetcher = Records, FetchResult, Fetcher
