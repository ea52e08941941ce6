"""The files of main and hot as they are read, in batches of rows, and what is wrong with each of them."""

import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from lake.main.compaction import Commit, Input, Output
from lake.proof import findings, inventory
from lake.proof.findings import Finding
from lake.proof.inventory import Damaged
from lake.proof.topic_log import digest
from lake.proof.window import Window
from lake.storage import Storage

#: Rows of a file that are decoded at once, and bytes where payloads are read.
BATCH_ROWS = 65_536
BATCH_BYTES = 16 << 20

_PLACE = ["_epoch", "_partition", "_offset"]
_TIMES = ["_time", "_timestamp"]
_RAW = "_raw"
_MICROSECONDS = pa.timestamp("us", "UTC")
_MAIN_FILE = re.compile(r".*/dt=([^/]+)/(\d{12})-\d+\.parquet")

#: Called with the number of rows that were looked at.
Progress = Callable[[int], None]


@dataclass(slots=True)
class MainFile:
    """A file of main, what its commit says of it if there is one, and how many of its rows lie where they belong."""

    key: str
    told: Output | None = None
    rows: int | None = None
    """None until it was read."""
    taken: int = 0
    lost: bool = False
    """It is not there or cannot be read: no window needs to try again."""

    @property
    def date(self) -> str:
        match = _MAIN_FILE.fullmatch(self.key)
        return match[1] if match else ""

    @property
    def whole(self) -> bool:
        return self.rows is not None and not self.lost and (self.told is None or self.told.rows == self.rows)


def files_of(seq: int, commit: Commit | None, main: set[str]) -> list[MainFile]:
    """Of step ``seq``, by its commit; without one by their names."""
    if commit:
        return [MainFile(one.key, one) for one in commit.outputs]
    return [MainFile(key) for key in sorted(main) if f"/{seq:012d}-" in key]


class Reader:
    """Of one look at a topic.  Adds what is wrong to ``found``; reads payloads, for their digests, if ``values``."""

    def __init__(self, storage: Storage, topic: str, progress: Progress, found: list[Finding], *, values: bool) -> None:
        self._storage, self._topic = storage, topic
        self._progress, self._found, self._values = progress, found, values

    def read_main(self, step: int, file: MainFile, window: Window) -> None:
        """Its rows into the window."""
        if file.lost:
            return
        try:
            with self._storage.open(file.key) as opened, pq.ParquetFile(opened) as parquet:
                if file.rows is None:
                    file.rows = parquet.metadata.num_rows
                    if file.told:
                        size = opened.seek(0, os.SEEK_END)
                        self._found += findings.output(self._topic, file.told, file.rows, size)
                for batch in self._batches(parquet, [*_PLACE, *_TIMES]):
                    file.taken += self._put(step, batch, file, window)
        except FileNotFoundError:
            file.lost = True
            what = f"{file.key} of step {step} is not there"
            findings.tell(self._found, Finding("missing file", self._topic, what, file.key))
        except (OSError, pa.ArrowException, LookupError) as error:
            file.lost = True
            what = f"{file.key} of step {step} cannot be read: {error}"
            findings.tell(self._found, Finding("damaged file", self._topic, what, file.key))

    def check_taken(self, step: int, file: MainFile) -> None:
        """Rows that no window took belong nowhere."""
        if file.whole and file.rows is not None and file.taken < file.rows:
            what = f"{file.key} has rows that are not of the inputs of step {step}"
            count = file.rows - file.taken
            self._found.append(Finding("outside", self._topic, what, file.key, count=count))

    def read_segment(self, key: str) -> tuple[Input | None, list[pa.RecordBatch]]:
        """What a segment says, and its rows as far as they are of that; None if it cannot be relied on."""
        rows, others = [], 0
        try:
            with self._storage.open(key) as opened, pq.ParquetFile(opened) as parquet:
                told = inventory.declared(key, _texts(parquet.metadata.metadata or {}))
                for batch in self._batches(parquet, _PLACE):
                    mine = batch.filter(_is_of(told, batch))
                    others += batch.num_rows - mine.num_rows
                    rows.append(self._slim(mine))
        except Damaged as error:
            findings.tell(self._found, Finding("footer", self._topic, str(error), key))
            return None, []
        except (OSError, pa.ArrowException, LookupError) as error:
            findings.tell(self._found, Finding("unreadable", self._topic, f"{key} cannot be read: {error}", key))
            return None, []
        if others:
            what = f"{key} has rows that are not of its chain from {told.start} to {told.next - 1}"
            self._found.append(Finding("footer", self._topic, what, key, count=others))
        return told, rows

    def _put(self, step: int, batch: pa.RecordBatch, file: MainFile, window: Window) -> int:
        """Into the window the rows that belong there; how many."""
        taken = 0
        for epoch in pc.unique(batch["_epoch"]).to_pylist():
            rows = window.within(step, epoch, batch.filter(pc.equal(batch["_epoch"], epoch)))
            if rows.num_rows:
                self._check_dates(rows, file)
                window.rows[epoch].append(self._slim(rows))
                taken += rows.num_rows
        return taken

    def _check_dates(self, rows: pa.RecordBatch, file: MainFile) -> None:
        wrong = rows.filter(pc.not_equal(_dates(rows), file.date))
        if wrong.num_rows:
            epoch, partition, offset = (wrong[name][0].as_py() for name in _PLACE)
            what = f"the first event of another date in {file.key}"
            self._found.append(
                Finding("wrong date", self._topic, what, file.key, epoch, partition, offset, offset + 1, wrong.num_rows)
            )

    def _batches(self, parquet: pq.ParquetFile, names: Sequence[str]) -> Iterator[pa.RecordBatch]:
        """The columns of these names; KeyError if one of a row's place is missing."""
        has = parquet.schema_arrow.names
        if absent := [name for name in _PLACE if name not in has]:
            raise KeyError(f"no column {absent[0]}")
        size = min(BATCH_ROWS, BATCH_BYTES // _raw_bytes(parquet)) if self._values else BATCH_ROWS
        wanted = [name for name in [*names, _RAW][: None if self._values else -1] if name in has]
        for batch in parquet.iter_batches(max(1, size), columns=wanted, use_threads=False):
            self._progress(batch.num_rows)
            yield batch

    def _slim(self, rows: pa.RecordBatch) -> pa.RecordBatch:
        """What the window keeps of them."""
        columns = {name: rows[name] for name in ("_partition", "_offset")}
        if self._values:
            columns["_digest"] = pa.array(map(digest, rows[_RAW].to_pylist()), pa.uint64())
        return pa.RecordBatch.from_pydict(columns)


def _texts(metadata: Mapping[bytes, bytes]) -> dict[str, str]:
    return {name.decode(errors="replace"): value.decode(errors="replace") for name, value in metadata.items()}


def _raw_bytes(parquet: pq.ParquetFile) -> int:
    """Bytes of the largest row's payload, as far as row groups tell."""
    metadata = parquet.metadata
    groups = [metadata.row_group(at) for at in range(metadata.num_row_groups)]
    columns = [(group.num_rows, group.column(at)) for group in groups for at in range(group.num_columns)]
    sizes = [c.total_uncompressed_size // max(1, rows) for rows, c in columns if c.path_in_schema == _RAW]
    return max(sizes, default=1) or 1


def _is_of(told: Input, rows: pa.RecordBatch) -> pa.Array:
    offsets = rows["_offset"]
    inside = pc.and_(pc.greater_equal(offsets, told.start), pc.less(offsets, told.next))
    chain = pc.and_(pc.equal(rows["_epoch"], told.epoch), pc.equal(rows["_partition"], told.partition))
    return pc.and_(inside, chain)


def _dates(rows: pa.RecordBatch) -> pa.Array:
    """Of the events, as folders are named."""
    times = [rows[name].cast(_MICROSECONDS) for name in _TIMES if name in rows.schema.names]
    return pc.coalesce(*times, pa.scalar(0, _MICROSECONDS)).cast(pa.date32()).cast(pa.string())
