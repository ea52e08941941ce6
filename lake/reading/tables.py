"""What is in the lake, told by names, footers and the compactor's records: no row is read."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from itertools import groupby

import pyarrow.parquet as pq

from lake import segments
from lake.main import compaction
from lake.reading import snapshot
from lake.reading.snapshot import Snapshot
from lake.storage import Storage

#: Footers are read so many at once: of S3, most of the time is waiting.
READERS = 16


@dataclass(frozen=True, slots=True)
class Part:
    """Files of a topic in one folder of the lake, those that readers read."""

    files: int
    rows: int
    bytes: int


@dataclass(frozen=True, slots=True)
class Table:
    """One topic."""

    topic: str
    main: Part
    """Rows as the compactor's commits have them."""
    hot: Part
    """Rows as the segments' footers have them."""
    requarantined: Part
    quarantined: int
    """Files in quarantine, those of records that were decoded since too."""
    first: datetime | None
    """Times of the first and the last event, by the statistics in footers: of ``_time``, and of ``_timestamp`` in files
    with events that have none."""
    last: datetime | None
    fresh_until: datetime | None
    """When Kafka got the newest record of the newest segments."""

    @property
    def rows(self) -> int:
        return self.main.rows + self.hot.rows + self.requarantined.rows

    @property
    def files(self) -> int:
        return self.main.files + self.hot.files + self.requarantined.files

    @property
    def bytes(self) -> int:
        return self.main.bytes + self.hot.bytes + self.requarantined.bytes


@dataclass(frozen=True, slots=True)
class Told:
    """What a footer tells."""

    rows: int
    first: datetime | None
    """Bounds of the events' times; None without rows, or where no row has a time."""
    last: datetime | None
    newest: datetime | None
    """The highest ``_timestamp``."""


def tables(storage: Storage) -> Iterator[Table]:
    """One after the other, in the order of the topics' names."""
    with ThreadPoolExecutor(READERS) as readers:
        for topic in snapshot.topics(storage):
            yield _table(storage, snapshot.take(storage, topic), readers)


def _table(storage: Storage, found: Snapshot, readers: ThreadPoolExecutor) -> Table:
    def footers(keys: Iterable[str]) -> list[Told]:
        return list(readers.map(partial(_footer, storage), keys))

    topic = found.head.topic
    segment_sizes, main_sizes = storage.sizes(f"hot/{topic}"), storage.sizes(compaction.main_folder(topic))
    other_sizes = storage.sizes(f"requarantined/{topic}")
    hot, requarantined = footers(found.hot), footers(found.requarantined)
    last_of_chains = [segments.segment_key(*place) for place in segments.newest(segment_sizes).items()]
    newest = footers(set(last_of_chains).difference(found.hot))
    by_date = [list(keys) for _, keys in groupby(found.main, key=snapshot.date)]
    ends = [*hot, *requarantined, *_first_with_times(map(footers, by_date))]
    ends += _first_with_times(map(footers, reversed(by_date)))
    return Table(
        topic,
        Part(len(found.main), _rows_of_main(storage, found, readers), sum(main_sizes[key] for key in found.main)),
        Part(len(hot), sum(one.rows for one in hot), sum(segment_sizes[key] for key in found.hot)),
        Part(
            len(requarantined),
            sum(one.rows for one in requarantined),
            sum(other_sizes[key] for key in found.requarantined),
        ),
        len(storage.keys(f"quarantine/{topic}")),
        min((one.first for one in ends if one.first), default=None),
        max((one.last for one in ends if one.last), default=None),
        max((one.newest for one in [*hot, *newest] if one.newest), default=None),
    )


def _first_with_times(groups: Iterable[list[Told]]) -> list[Told]:
    return next((group for group in groups if any(one.first for one in group)), [])


def _rows_of_main(storage: Storage, found: Snapshot, readers: ThreadPoolExecutor) -> int:
    topic, files = found.head.topic, frozenset(found.main)
    numbers = [seq for seq in compaction.committed(storage, topic) if seq <= found.head.commit.seq]
    commits = readers.map(partial(compaction.read_commit, storage, topic), numbers)
    return sum(output.rows for commit in commits for output in commit.outputs if output.key in files)


def _footer(storage: Storage, key: str) -> Told:
    with storage.open(key) as file:
        return _told(pq.read_metadata(file))


def _told(metadata: pq.FileMetaData) -> Told:
    bounds: list[datetime] = []
    newest: list[datetime] = []
    for group in map(metadata.row_group, range(metadata.num_row_groups)):
        columns = {column.path_in_schema: column for column in map(group.column, range(group.num_columns))}
        time, timestamp = (columns[name].statistics for name in ("_time", "_timestamp"))
        bounds += _bounds(time)
        if time is None or time.null_count:
            bounds += _bounds(timestamp)
        newest += _bounds(timestamp)[1:]
    return Told(metadata.num_rows, min(bounds, default=None), max(bounds, default=None), max(newest, default=None))


def _bounds(statistics: pq.Statistics | None) -> list[datetime]:
    """Least and greatest; nothing where there is no value."""
    return [statistics.min, statistics.max] if statistics and statistics.has_min_max else []
