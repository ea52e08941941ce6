"""Records whose header names are no UTF-8, which Kafka takes and aiokafka cannot read.

A worker could never get past such a record.  Here its names show the bytes that are no text as escapes.
"""

from typing import Any

from aiokafka.consumer import fetcher
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


def read_any_header_name() -> None:
    """From now on, in all consumers that aiokafka makes in this process."""
    fetcher.MemoryRecords = Records
