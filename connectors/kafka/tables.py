"""Faust's tables beside batches."""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from faust import streams

from connectors.kafka.window import Batch

#: Bytes of Python objects around one row of a table, measured.
ROW_OVERHEAD = 150


def table_bytes(table: Any) -> int:
    """Bytes of memory that the rows of a table of bytes take."""
    rows = table.data.data
    return ROW_OVERHEAD * len(rows) + sum(map(len, rows)) + sum(map(len, rows.values()))


@contextmanager
def on_partition_of(batch: Batch) -> Iterator[None]:
    """Read and write tables for a record of ``batch``; all its records share the partition that a table needs.

    No await inside; check ``batch.live`` before a write.
    """
    token = streams._current_event.set(weakref.ref(batch.event))
    try:
        yield
    finally:
        streams._current_event.reset(token)
