"""The rows of the retry table, and when they go: an index to the records of the retry topic, see ``retry_state``."""

import time
from typing import Any

import structlog

from connectors.kafka import App, Batch, on_partition_of, table_bytes
from pipelines import handover, retry_state
from pipelines.format import Consumer
from pipelines.retry_state import RetryState
from pipelines.versions import NewerVersion, UnreadableRow

log = structlog.get_logger()

#: Rows of ended deliveries that a rebalance left behind are removed after this many seconds.
ROW_AGE = 3600.0


class Rows:
    """Of one consumer's retry app.  A row belongs to the partition of the batch that it is read or written for."""

    def __init__(self, app: App, consumer: Consumer, table: Any) -> None:
        self.app, self.consumer, self.table = app, consumer, table
        self._latest: dict[int, Batch] = {}
        self._ended: list[tuple[Batch, int, bytes]] = []

    @property
    def size(self) -> int:
        """Bytes of memory they take."""
        return table_bytes(self.table)

    def received(self, batch: Batch) -> None:
        self._latest[batch.tp.partition] = batch

    def get(self, batch: Batch, key: bytes) -> RetryState | None:
        """Raises NewerVersion."""
        with on_partition_of(batch):
            row = self.table.get(key)
        try:
            return RetryState.from_bytes(row) if row else None
        except UnreadableRow as error:
            # The record is the truth, the row an index to it: at worst its consumer gets the event once more.
            log.error("a row of the retry table counts for nothing", consumer=self.consumer.name, reason=str(error))  # noqa: TRY400 - no fault of the code
            return None

    def put(self, batch: Batch, key: bytes, state: RetryState) -> None:
        if batch.live:
            with on_partition_of(batch):
                self.table[key] = state.to_bytes()

    def ended(self, batch: Batch, offset: int, key: bytes) -> None:
        """The delivery of the record at ``offset`` has ended: its row may go when that is committed."""
        self._ended.append((batch, offset, key))

    def sweep(self) -> None:
        """Remove rows whose records are committed: until then a record that is read again must find its row."""
        keep = []
        for ended in self._ended:
            batch, offset, key = ended
            if not batch.live:
                continue
            if (batch.window.committed or 0) <= offset:
                keep.append(ended)
            else:
                self._remove(batch, key)
        self._ended = keep

    async def sweep_old(self) -> None:
        """Remove ended rows that a rebalance kept from ``sweep``."""
        old, partitions = time.time() - ROW_AGE, await self.app.partitions_of(self.consumer.retry_topic)
        for key, row in list(self.table.items()):
            try:
                state, event_id = RetryState.from_bytes(row), retry_state.event_id(key)
            except (UnreadableRow, NewerVersion):
                continue  # not ours to judge
            batch = self._latest.get(handover.retry_partition(event_id, partitions))
            if state.done and state.at < old and batch and batch.live:
                self._remove(batch, key)

    def _remove(self, batch: Batch, key: bytes) -> None:
        with on_partition_of(batch):
            self.table.pop(key, None)
