"""Quarantined records decoded again, with the catalog as it is now.

Those that decode become rows of ``requarantined/<topic>/``, whose files are numbered: file N is created only if absent,
by somebody who has read files 1 to N - 1 and leaves out what they have.  So each record is a row there once, whoever
does it, and however often.  Those that still do not decode stay as they are; nothing leaves quarantine.
"""

import uuid
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import pyarrow as pa
import pyarrow.parquet as pq

from connectors.schemas import EventType
from lake.hot.rows import RowBuilder
from lake.proof import inventory
from lake.proof.inventory import Damaged, Quarantined
from lake.reading.reader_files import write_views
from lake.segments import Chain
from lake.storage import Storage

#: Records, and bytes of them, that are decoded at once.
CHUNK_RECORDS = 1_000
CHUNK_BYTES = 16 << 20
#: Rows of a file, and bytes of them in memory, at most, but for one chunk.
FILE_ROWS = 5_000
FILE_BYTES = 64 << 20
#: Records that a plan shows.
SAMPLE = 5
MISSING = "its container is missing or unreadable; see `waybill lake verify`"

#: Epoch, partition and offset.
Where = tuple[str, int, int]
#: Called with the number of records that were tried.
Progress = Callable[[int], None]


@dataclass(slots=True)
class Outcome:
    """What came of the records of ``topic`` in quarantine, or would.

    ``done``: those that were rows before.  ``types``: those that decode now, by the type that was expected when they
    were rejected.  ``causes``: those that do not, by why.  ``samples``: some that decode.  ``files``: what was written,
    and how many rows each has.
    """

    topic: str
    quarantined: int = 0
    done: int = 0
    types: Counter[str] = field(default_factory=Counter)
    causes: Counter[str] = field(default_factory=Counter)
    samples: list[Quarantined] = field(default_factory=list)
    files: dict[str, int] = field(default_factory=dict)

    @property
    def decoded(self) -> int:
        return self.types.total()


def plan(storage: Storage, event: EventType, progress: Progress = lambda _: None) -> Outcome:
    """What ``requarantine`` would do now."""
    return _Pass(storage, event, progress, write=False).run()


def requarantine(storage: Storage, event: EventType, progress: Progress = lambda _: None) -> Outcome:
    """Do it, and show it to readers.  Raises Unreachable, BadInput for a type and Problem for a file it cannot read."""
    outcome = _Pass(storage, event, progress, write=True).run()
    write_views(storage)  # they name the folder only once it is there; an earlier run may not have come so far
    return outcome


class _Pass:
    def __init__(self, storage: Storage, event: EventType, progress: Progress, *, write: bool) -> None:
        self._storage, self._topic, self._progress, self._write = storage, event.topic, progress, write
        self._builder = RowBuilder(event)
        self._outcome = Outcome(event.topic)
        #: Places of all rows of the files that there are, and their number.
        self._taken: set[Where] = set()
        self._last = 0
        self._rows: list[pa.Table] = []

    def run(self) -> Outcome:
        outcome = self._outcome
        known = inventory.quarantined(self._storage, self._topic)
        outcome.quarantined = sum(map(len, known.values()))
        if known:
            self._catch_up()
        for chain, offsets in known.items():
            left = [offset for offset in offsets if (chain.epoch, chain.partition, offset) not in self._taken]
            outcome.done += len(offsets) - len(left)
            for chunk in self._chunks(chain, left):
                self._decode(chain, chunk)
                if self._held_rows() >= FILE_ROWS or sum(table.nbytes for table in self._rows) >= FILE_BYTES:
                    self._publish()
        self._publish()
        return outcome

    def _chunks(self, chain: Chain, offsets: Sequence[int]) -> Iterator[list[Quarantined]]:
        chunk: list[Quarantined] = []
        size = 0
        for offset in offsets:
            self._progress(1)
            try:
                found = inventory.read(self._storage, chain, offset)
            except (FileNotFoundError, Damaged):
                self._outcome.causes[MISSING] += 1
                continue
            chunk.append(found)
            size += len(found.record.value or b"")
            if len(chunk) >= CHUNK_RECORDS or size >= CHUNK_BYTES:
                yield chunk
                chunk, size = [], 0
        yield chunk

    def _decode(self, chain: Chain, chunk: Sequence[Quarantined]) -> None:
        batches, rejected = self._builder.build(chain, [one.record for one in chunk])
        errors = {one.record.offset: one.error for one in rejected}
        decoded = [one for one in chunk if one.record.offset not in errors]
        outcome = self._outcome
        outcome.causes.update(errors.values())
        outcome.types.update(one.event_type for one in decoded)
        outcome.samples += decoded[: SAMPLE - len(outcome.samples)]
        if self._write and batches:
            self._rows.append(pa.Table.from_batches(batches))

    def _held_rows(self) -> int:
        return sum(table.num_rows for table in self._rows)

    def _publish(self) -> None:
        """What is held becomes the next file, less what others have made meanwhile."""
        while self._rows:
            table = pa.concat_tables(self._rows)
            table = table.filter(pa.array([where not in self._taken for where in _places(table)], pa.bool_()))
            if not table.num_rows:
                self._rows = []
                return
            key = inventory.requarantined_key(self._topic, self._last + 1)
            if self._create(table, key):
                self._rows = []
                self._outcome.files[key] = table.num_rows
            self._catch_up()  # with our own file, or with that of who was first

    def _create(self, table: pa.Table, key: str) -> bool:
        path = self._storage.scratch / f".{uuid.uuid4().hex}.tmp"
        try:
            pq.write_table(
                table,
                path,
                compression="zstd",
                compression_level=1,
                use_dictionary=self._builder.repeating_columns,
            )
            return self._storage.create(path, key)
        finally:
            path.unlink(missing_ok=True)

    def _catch_up(self) -> None:
        """Read the files that came since the last one known."""
        while True:
            try:
                places = inventory.places(self._storage, inventory.requarantined_key(self._topic, self._last + 1))
            except FileNotFoundError:
                return
            self._taken.update(places)
            self._last += 1


def _places(table: pa.Table) -> list[Where]:
    return list(zip(*(table[name].to_pylist() for name in ("_epoch", "_partition", "_offset")), strict=True))
