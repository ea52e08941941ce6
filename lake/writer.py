"""One unpublished segment: records in memory, then Arrow, then row groups in a scratch file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import structlog

from lake import metrics
from lake.parquet import SegmentFile
from lake.quarantine import container
from lake.rows import Rejected, RowBuilder
from lake.segments import Chain, Footer, quarantine_key
from lake.storage import Storage, create_bytes

log = structlog.get_logger()

#: Records decoded at once: a few milliseconds in which no other thread gets the GIL.
CHUNK_RECORDS = 5_000
#: Bytes that are decoded though they are fewer records; with the fetch on top far below the 2 GiB where ptars fails.
CHUNK_BYTES = 32 << 20
GROUP_ROWS = 50_000
#: What Parquet makes of what is still in memory, roughly.
COMPRESSION = 3


class OpenSegment:
    """The end of one chain, from ``start``, not yet published.  Belongs to one thread."""

    def __init__(self, chain: Chain, start: int, builder: RowBuilder, storage: Storage, writer: str) -> None:
        self.chain, self.start, self.end = chain, start, start
        #: Time of the first record, on the caller's clock; None while there is none.
        self.since: float | None = None
        self._builder, self._storage, self._writer = builder, storage, writer
        self._quarantined: list[int] = []
        self._records: list[Any] = []
        self._record_bytes = 0
        self._batches: list[pa.RecordBatch] = []
        self._batch_bytes = 0
        self._file: SegmentFile | None = None

    @property
    def held(self) -> int:
        """Bytes in memory."""
        return self._record_bytes + self._batch_bytes

    @property
    def size(self) -> int:
        """Bytes of the file that it would become, roughly."""
        return self.held // COMPRESSION + (self._file.size if self._file else 0)

    @property
    def rows(self) -> int:
        """Rows written to the file; all of them, once it is closed."""
        return self._file.rows if self._file else 0

    def add(self, records: Sequence[Any], end: int, size: int, now: float) -> None:
        """Take in all that lies before offset ``end``; ``size`` is what the records hold in memory."""
        if self.since is None:
            self.since = now
        self.end = end
        self._records += records
        self._record_bytes += size
        if len(self._records) >= CHUNK_RECORDS or self._record_bytes >= CHUNK_BYTES:
            self._encode()
        if sum(batch.num_rows for batch in self._batches) >= GROUP_ROWS:
            self.spill()

    def spill(self) -> None:
        """What is in memory becomes a row group on disk."""
        self._encode()
        if self._batches:
            self._written().write(pa.Table.from_batches(self._batches))
            self._batches, self._batch_bytes = [], 0

    def close(self) -> Path:
        """The finished file.  All that it leaves out is in quarantine by now."""
        self.spill()
        file = self._written()  # without rows if every record was quarantined: the chain goes on all the same
        footer = Footer(
            start=self.start,
            next=self.end,
            rows=file.rows,
            quarantined=tuple(self._quarantined),
            topic_id=self.chain.epoch,
            schema=self._builder.fingerprint,
            writer=self._writer,
        )
        file.close(footer.encode())
        return file.path

    def rest(self, start: int, now: float) -> "OpenSegment":
        """What the closed file holds from ``start``, as the segment that begins there: nothing is read again."""
        rest = OpenSegment(self.chain, start, self._builder, self._storage, self._writer)
        rest.end, rest.since = self.end, now
        rest._quarantined = [offset for offset in self._quarantined if offset >= start]
        if self._file:
            for table in self._file.tables_from(start):
                rest._written().write(table)
        return rest

    def discard(self) -> None:
        """Remove the scratch file."""
        if self._file:
            self._file.discard()

    def _encode(self) -> None:
        records, self._records, self._record_bytes = self._records, [], 0
        for at in range(0, len(records), CHUNK_RECORDS):
            batches, rejected = self._builder.build(self.chain, records[at : at + CHUNK_RECORDS])
            if rejected:
                self._quarantine(rejected)
            self._batches += batches
            self._batch_bytes += sum(batch.nbytes for batch in batches)

    def _quarantine(self, rejected: Sequence[Rejected]) -> None:
        chain, first = self.chain, rejected[0]
        for one in rejected:
            key = quarantine_key(chain, one.record.offset)
            if create_bytes(self._storage, key, container(chain, self._builder.event_type.name, one)):
                metrics.QUARANTINED.labels(chain.topic).inc()
        self._quarantined += [one.record.offset for one in rejected]
        log.warning(
            "Records that cannot be decoded are in quarantine.",
            topic=chain.topic, partition=chain.partition, records=len(rejected), first_offset=first.record.offset,
            error=first.error,
        )  # fmt: skip

    def _written(self) -> SegmentFile:
        if self._file is None:
            self._file = SegmentFile(self._storage.scratch, self._builder)
        return self._file
