"""What a step of the compactor makes: the rows of its segments, sorted by time and cut into files by date.

Rows go by their event's time (``_time``, else ``_timestamp``, else 1970), then by epoch, partition and offset; a file
has the events of one UTC date.  Columns are those of all the segments.  All follows from the intent: whoever does a
step again, or at the same time, makes the same files.

A first pass reads the times alone and gives every row its place; a second one deals the rows out to their row groups,
each of which is written as soon as it and all before it are complete.  Memory holds some 30 bytes a row besides the row
groups that are being filled; where segments' times overlap so much that these do not fit, rows wait in the scratch
folder.
"""

import io
import tempfile
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import islice, pairwise
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from connectors.problems import Problem
from lake.main.compaction import Input, Intent, Output, main_folder, main_key
from lake.storage import Storage

#: Bytes of a row group in memory, roughly.
GROUP_BYTES = 32 << 20
#: Bytes of rows that wait in memory until their row groups are complete.
HELD_BYTES = 96 << 20
#: Bytes of rows read at once, roughly.
BATCH_BYTES = 16 << 20
#: Compression sees no further than a page; with Arrow's own pages of 1 MiB files are a sixth larger.
PAGE_BYTES = 4 << 20
#: What a row takes in memory beside what Parquet says of it: its dictionary columns, mostly.
ROW_BYTES = 256

#: Segments looked into at once, lest each waits for the answer of a storage about the one before.
READERS = 8

_TIMES = ("_time", "_timestamp")
_MICROSECONDS = pa.timestamp("us", "UTC")
_PLACE = "_place"

#: Is told how many rows have been read; each row is read twice.
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Part:
    """A file to be: rows ``[start, stop)`` of the step, in their order."""

    date: str
    number: int
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class _Source:
    """What the first pass learns of a segment."""

    key: str
    schema: pa.Schema
    dictionaries: frozenset[str]
    """Parquet paths of the columns that repeat: those that the sink gave a dictionary."""
    groups: tuple[tuple[int, int], ...]
    """Rows of each of its row groups, and bytes of one such row in memory, roughly."""
    earliest: int
    first: int = 0
    """Rows of the segments before it."""


@dataclass(slots=True)
class _Group:
    """A row group to be: rows ``[start, stop)`` of the step, of which ``arrived`` have been read."""

    start: int
    stop: int
    arrived: int = 0
    held: list[pa.RecordBatch] = field(default_factory=list)


def merge(storage: Storage, intent: Intent, progress: Progress = lambda _: None) -> tuple[Output, ...]:
    """Make what is missing of the files of ``intent``; returns all of them.

    Raises FileNotFoundError for a segment that is gone; Problem for one that is not what the intent says, and for a
    file that is there with other rows.
    """
    inputs = sorted(intent.inputs, key=lambda one: (one.epoch, one.partition, one.start))
    sources, times = _read_times(storage, inputs, progress)
    order = pc.sort_indices(times).cast(pa.int64())  # stable: rows of one time stay in the order of the inputs
    parts = cut(times.take(order), intent.rows_per_file)
    keys = {part: main_key(intent.topic, part.date, intent.seq, part.number) for part in parts}
    folders = {f"{main_folder(intent.topic)}/dt={part.date}" for part in parts}
    there = {key for folder in folders for key in storage.keys(folder)}
    if missing := [part for part in parts if keys[part] not in there]:
        places = pc.inverse_permutation(order).cast(pa.int32())
        weights = _weights(sources).take(order)
        groups = {part: _groups(part, weights) for part in missing}
        del times, order, weights
        schema = _columns(sources)
        batches = _batches(storage, sources, schema, places, progress)
        with tempfile.TemporaryDirectory(prefix=".", dir=storage.scratch) as scratch:
            rows = _filled(batches, [group for part in missing for group in groups[part]], Path(scratch))
            for part in missing:
                path = Path(scratch) / "part"
                _write(path, intent, part, islice(rows, len(groups[part])), schema, sources)
                storage.create(path, keys[part])
                path.unlink()  # it may be the same file as the one created: not to be written again
    return tuple(_made(storage, part, keys[part]) for part in parts)


def cut(times: pa.Array, rows_per_file: int) -> list[Part]:
    """Files of at most ``rows_per_file`` rows, each of one date and those of a date of one size.

    ``times`` are microseconds since 1970, sorted.
    """
    days = pc.run_end_encode(times.cast(_MICROSECONDS).cast(pa.date32()))
    bounds = [0, *days.run_ends.to_pylist()]
    parts = []
    for day, (start, stop) in zip(days.values.to_pylist(), pairwise(bounds), strict=True):
        files = -((start - stop) // rows_per_file)
        cuts = [start + (stop - start) * number // files for number in range(files + 1)]
        parts += [Part(day.isoformat(), number, *span) for number, span in enumerate(pairwise(cuts))]
    return parts


def _read_times(storage: Storage, inputs: Sequence[Input], progress: Progress) -> tuple[list[_Source], pa.Array]:
    """The first pass: every segment that has rows, and the times of all rows."""
    sources, times, first = [], [pa.array([], pa.int64())], 0
    with ThreadPoolExecutor(READERS) as pool:
        for one, found in zip(inputs, pool.map(partial(_read_one, storage), inputs), strict=True):
            if found:
                sources.append(replace(found[0], first=first))
                times.append(found[1])
                first += one.rows
            progress(one.rows)
    return sources, pa.concat_arrays(times)


def _read_one(storage: Storage, one: Input) -> tuple[_Source, pa.Array] | None:
    with opened(storage, one.key) as parquet:
        table = parquet.read([*_TIMES, "_offset"])
        _check(one, table["_offset"].combine_chunks())
        if not one.rows:
            return None
        found = [table[name].cast(_MICROSECONDS).cast(pa.int64()) for name in _TIMES]
        times = pc.coalesce(*found, pa.scalar(0, pa.int64())).combine_chunks()
        return _source(one.key, parquet, pc.min(times).as_py()), times


@contextmanager
def opened(storage: Storage, key: str) -> Iterator[pq.ParquetFile]:
    """Raises FileNotFoundError, and Problem for what is no Parquet file."""
    try:
        with storage.open(key) as file:
            yield pq.ParquetFile(file)
    except FileNotFoundError:
        raise
    except (OSError, pa.ArrowException) as error:
        raise Problem(
            f"{storage.uri(key)} cannot be read: {error}; until it can, its topic is not compacted"
        ) from error


def _check(one: Input, offsets: pa.Array) -> None:
    """Inputs cover stretches of their chains that do not overlap: so no offset is in a step twice."""
    inside = not len(offsets) or one.start <= offsets[0].as_py() <= offsets[-1].as_py() < one.next
    rising = pc.all(pc.greater(offsets[1:], offsets[:-1])).as_py() is not False
    if not (len(offsets) == one.rows and inside and rising):
        raise Problem(
            f"{one.key} is not the segment of {one.rows} rows from offset {one.start} to {one.next - 1} that the "
            "compactor's intent names; nothing of it was compacted, and what reads the lake should leave it alone"
        )


def _source(key: str, parquet: pq.ParquetFile, earliest: int) -> _Source:
    metadata = parquet.metadata
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    columns = [groups[0].column(number) for number in range(groups[0].num_columns)]
    return _Source(
        key,
        parquet.schema_arrow.remove_metadata(),
        frozenset(column.path_in_schema for column in columns if column.has_dictionary_page),
        tuple((group.num_rows, group.total_byte_size // group.num_rows + ROW_BYTES) for group in groups),
        earliest,
    )


def _columns(sources: Iterable[_Source]) -> pa.Schema:
    """Of all sources, fields within structs too; older segments lack some."""
    try:
        return pa.unify_schemas([source.schema for source in sources])
    except pa.ArrowException as error:
        keys = " and ".join(source.key for source in sources)
        raise Problem(f"the columns of {keys} do not fit into one file: {error}") from error


def _weights(sources: Iterable[_Source]) -> pa.Array:
    """Bytes of each row, roughly."""
    each = [pa.repeat(pa.scalar(weight, pa.int64()), rows) for source in sources for rows, weight in source.groups]
    return pa.concat_arrays(each)


def _groups(part: Part, weights: pa.Array) -> list[_Group]:
    """Its row groups; ``weights`` are in the order of places."""
    sums = pc.cumulative_sum(weights.slice(part.start, part.stop - part.start))
    ends = pc.run_end_encode(pc.divide(sums, GROUP_BYTES)).run_ends.to_pylist()
    return [_Group(part.start + start, part.start + stop) for start, stop in pairwise([0, *ends])]


def _batches(
    storage: Storage, sources: Iterable[_Source], schema: pa.Schema, places: pa.Array, progress: Progress
) -> Iterator[pa.RecordBatch]:
    """The second pass: all rows in ``schema``, with their places.  Early ones first: fewer row groups wait."""
    whole = schema.append(pa.field(_PLACE, pa.int32()))
    for source in sorted(sources, key=lambda source: source.earliest):
        at = source.first
        with opened(storage, source.key) as parquet:
            for number, (_, weight) in enumerate(source.groups):
                for batch in parquet.iter_batches(max(1, BATCH_BYTES // weight), row_groups=[number]):
                    columns = [_column(batch, one) for one in schema]
                    yield pa.RecordBatch.from_arrays([*columns, places.slice(at, len(batch))], schema=whole)
                    at += len(batch)
                    progress(len(batch))


def _column(batch: pa.RecordBatch, wanted: pa.Field) -> pa.Array:
    if wanted.name not in batch.schema.names:
        return pa.nulls(len(batch), wanted.type)
    column = batch.column(wanted.name)
    return column if column.type.equals(wanted.type) else column.cast(wanted.type)


def _filled(batches: Iterable[pa.RecordBatch], groups: Sequence[_Group], scratch: Path) -> Iterator[pa.RecordBatch]:
    """The rows of each of ``groups``, sorted; rows of no group are left out."""
    held, following = 0, 0
    for batch in batches:
        for group, rows in _dealt(batch, groups):
            group.held.append(rows)
            group.arrived += len(rows)
            held += rows.nbytes
        while following < len(groups) and groups[following].arrived == groups[following].stop - groups[following].start:
            held -= sum(rows.nbytes for rows in groups[following].held)
            yield _sorted(groups[following], scratch)
            following += 1
        if held > HELD_BYTES:
            for group in groups[following:]:
                _spill(group, scratch)
            held = 0


def _dealt(batch: pa.RecordBatch, groups: Sequence[_Group]) -> Iterator[tuple[_Group, pa.RecordBatch]]:
    """``batch`` in pieces, each of one group."""
    batch = batch.take(pc.sort_indices(batch[_PLACE]))
    places = batch[_PLACE].to_pylist()
    first = bisect_right(groups, places[0], key=lambda group: group.stop)
    last = bisect_right(groups, places[-1], key=lambda group: group.start)
    for group in groups[first:last]:
        start, stop = bisect_left(places, group.start), bisect_left(places, group.stop)
        if start < stop:
            yield group, batch.slice(start, stop - start)


def _spill(group: _Group, scratch: Path) -> None:
    """Append what it holds to its file, as a stream of its own."""
    if group.held:
        options = pa.ipc.IpcWriteOptions(compression="lz4")
        with _spilled(group, scratch).open("ab") as file:
            with pa.ipc.new_stream(file, group.held[0].schema, options=options) as stream:
                for batch in group.held:
                    stream.write_batch(batch)
        group.held.clear()


def _sorted(group: _Group, scratch: Path) -> pa.RecordBatch:
    """All of its rows, without their places; it holds nothing after."""
    batches, path = [*group.held], _spilled(group, scratch)
    group.held.clear()
    if path.exists():
        with pa.OSFile(str(path)) as file:
            while file.tell() < file.size():
                batches += pa.ipc.open_stream(file)
        path.unlink()
    rows = pa.concat_batches(batches)
    batches.clear()
    return rows.take(pc.sort_indices(rows[_PLACE])).drop_columns([_PLACE])


def _spilled(group: _Group, scratch: Path) -> Path:
    return scratch / f"{group.start}.arrows"


def _write(
    path: Path,
    intent: Intent,
    part: Part,
    rows: Iterable[pa.RecordBatch],
    schema: pa.Schema,
    sources: Iterable[_Source],
) -> None:
    footer = {"topic": intent.topic, "seq": intent.seq, "date": part.date, "rows": part.stop - part.start}
    with pq.ParquetWriter(
        path,
        schema,
        compression="zstd",
        compression_level=3,
        data_page_size=PAGE_BYTES,
        use_dictionary=sorted({path for source in sources for path in source.dictionaries}),
        bloom_filter_options={"_event_id": {"ndv": part.stop - part.start, "fpp": 0.05}},
    ) as parquet:
        for batch in rows:
            parquet.write_batch(batch, row_group_size=len(batch))
        parquet.add_key_value_metadata({f"waybill.{name}": str(value) for name, value in footer.items()})


def _made(storage: Storage, part: Part, key: str) -> Output:
    """What stands in the storage, whoever made it."""
    with storage.open(key) as file:
        rows = pq.read_metadata(file).num_rows
        size = file.seek(0, io.SEEK_END)
    if rows != part.stop - part.start:
        raise Problem(
            f"{storage.uri(key)} has {rows} rows where {part.stop - part.start} belong: it is not what the compactor "
            "makes of its intent; move it out of the lake, its rows are still in hot/, and compact again"
        )
    return Output(key, part.date, rows, size)
