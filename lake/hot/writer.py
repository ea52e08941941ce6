"""One unpublished segment: records in memory, then Arrow, then row groups in a scratch file."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import structlog

from lake import metrics
from lake.hot.parquet import SegmentFile
from lake.hot.quarantine import container
from lake.hot.rows import Rejected, RowBuilder
from lake.segments import Chain, Footer, quarantine_key
from lake.storage import Storage, create_bytes

log = structlog.get_logger()

#: Records decoded at once: a few milliseconds in which no other thread gets the GIL.
CHUNK_RECORDS = 5_000
#: Bytes that are decoded though they are fewer records; with the fetch on top far below the 2 GiB where ptars fails.
CHUNK_BYTES = 32 << 20
GROUP_ROWS = 50_000
#: Bytes of Python objects around a rejected record and each of its headers, roughly.
RECORD_OVERHEAD, HEADER_OVERHEAD = 1_000, 200
#: What Parquet makes of what is still in memory, roughly.
COMPRESSION = 3


class OpenSegment:
    """The end of one chain, from ``start``, not yet published.  Belongs to one thread.

    ``placed``: when it was known, on the caller's clock, that the chain ends at ``start``.
    """

    def __init__(
        self, chain: Chain, start: int, placed: float, builder: RowBuilder, storage: Storage, writer: str
    ) -> None:
        self.chain, self.start, self.placed, self.end = chain, start, placed, start
        #: Time of the first record, on the caller's clock; None while there is none.
        self.since: float | None = None
        #: Whether its file is complete: then it takes nothing more in.
        self.closed = False
        self._builder, self._storage, self._writer = builder, storage, writer
        self._records: list[Any] = []
        self._record_bytes = 0
        self._batches: list[pa.RecordBatch] = []
        self._batch_bytes = 0
        self._file: SegmentFile | None = None
        #: Offsets of the records that are no rows; ``_rejected`` are those of them that are not in quarantine yet.
        self._quarantined: list[int] = []
        self._rejected: list[Rejected] = []
        self._rejected_bytes = 0

    @property
    def unwritten(self) -> int:
        """Bytes in memory that ``spill`` lets go of."""
        return self._record_bytes + self._batch_bytes

    @property
    def held(self) -> int:
        """Bytes in memory."""
        file = self._file.memory + self._file.spool.waiting if self._file else 0
        return self.unwritten + self._rejected_bytes + file

    @property
    def size(self) -> int:
        """Bytes of the file that it would become, roughly."""
        return self.unwritten // COMPRESSION + (self._file.size if self._file else 0)

    @property
    def rows(self) -> int:
        """Rows written to the file; all of them, once it is closed."""
        return self._file.rows if self._file else 0

    @property
    def rejected(self) -> int:
        """Records found to be no rows; all of them, once nothing is unwritten."""
        return len(self._quarantined)

    @property
    def decoded(self) -> int:
        """Records found to be rows."""
        in_memory: int = sum(batch.num_rows for batch in self._batches)
        return self.rows + in_memory

    @property
    def first_rejected(self) -> Rejected | None:
        """The first of those that are not in quarantine yet."""
        return self._rejected[0] if self._rejected else None

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
        """What is in memory becomes a row group, on disk as soon as that has room."""
        self._encode()
        if self._batches:
            self._written().write(pa.Table.from_batches(self._batches))
            self._batches, self._batch_bytes = [], 0

    def settle(self) -> None:
        """Bring to the disk what it had no room for.  OSError if it has none."""
        if self._file and self._file.spool.waiting:
            self._file.spool.settle()

    def close(self) -> Path:
        """The finished file.  OSError while the disk has no room for it, and then repeated without harm."""
        if not self.closed:
            self.spill()
            file = self._written()  # without rows if every record was rejected: the chain goes on all the same
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
            self.closed = True
        self._written().spool.finish()
        return self._written().path

    def quarantine(self) -> None:
        """Put what the closed file leaves out into quarantine.  May be repeated, whatever the storage raised."""
        if not self._rejected:
            return
        chain, first = self.chain, self._rejected[0]
        for one in self._rejected:
            key = quarantine_key(chain, one.record.offset)
            if create_bytes(self._storage, key, container(chain, self._builder.event_type.name, one)):
                metrics.QUARANTINED.labels(chain.topic).inc()
        log.warning(
            "Records that cannot be decoded are in quarantine.",
            topic=chain.topic, partition=chain.partition, records=len(self._rejected),
            first_offset=first.record.offset, error=first.error,
        )  # fmt: skip
        self._rejected, self._rejected_bytes = [], 0

    def rest(self, start: int, now: float) -> "OpenSegment":
        """What the closed file holds from ``start``, as the segment that begins there: nothing is read again."""
        rest = OpenSegment(self.chain, start, now, self._builder, self._storage, self._writer)
        rest.end, rest.since = self.end, now
        rest._quarantined = [offset for offset in self._quarantined if offset >= start]
        rest._reject([one for one in self._rejected if one.record.offset >= start])
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
            self._quarantined += [one.record.offset for one in rejected]
            self._reject(rejected)
            self._batches += batches
            self._batch_bytes += sum(batch.nbytes for batch in batches)

    def _reject(self, rejected: Sequence[Rejected]) -> None:
        self._rejected += rejected
        self._rejected_bytes += sum(map(_size, rejected))

    def _written(self) -> SegmentFile:
        if self._file is None:
            self._file = SegmentFile(self._storage.scratch, self._builder)
        return self._file


def _size(rejected: Rejected) -> int:
    record = rejected.record
    return RECORD_OVERHEAD + HEADER_OVERHEAD * len(record.headers) + len(record.key or b"") + len(record.value or b"")
