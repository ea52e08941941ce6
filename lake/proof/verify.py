"""Proves a lake whole: every record once, where it belongs, and all that Kafka shows.

A topic's segments are gone through in the order of their chains: those whose rows are in ``main/`` by the compactor's
records, those of ``hot/`` by their footers.  A window of them is held at a time, as the offsets of its rows; records of
Kafka in the same ranges pass by.  What is wrong is told only if a second look sees it too: sinks and compactors may go
on meanwhile.
"""

import os
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import TypeVar

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from connectors.access import Access
from connectors.kafka.reader import MissingTopic
from connectors.problems import BadInput, Problem, Unreachable
from lake import segments
from lake.main import compaction
from lake.main.compaction import Commit, Input, Output
from lake.proof import findings, inventory
from lake.proof.findings import Comparison, End, Finding, Place, Segment
from lake.proof.inventory import Damaged
from lake.proof.topic_log import TopicLog, digest
from lake.reading import snapshot
from lake.reading.reader_files import columns_key
from lake.segments import Chain
from lake.storage import Storage

#: Rows whose offsets are held at once; a segment that has more is held whole.
WINDOW_ROWS = 2_000_000
#: Segments held at once, however few rows they have.
WINDOW_SEGMENTS = 10_000
#: Rows of a file that are decoded at once, and bytes where payloads are read.
BATCH_ROWS = 65_536
BATCH_BYTES = 16 << 20

_PLACE = ["_epoch", "_partition", "_offset"]
_TIMES = ["_time", "_timestamp"]
_RAW = "_raw"
_MICROSECONDS = pa.timestamp("us", "UTC")
_RECORD = re.compile(r".*/(\d{12})\.(intent|commit)\.json")
_MAIN_FILE = re.compile(r".*/dt=([^/]+)/(\d{12})-\d+\.parquet")

T = TypeVar("T")

#: Called with the number of rows that were looked at.
Progress = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Report:
    """``rows`` and ``files`` of ``main/`` and ``hot/``; ``offsets`` that the chains cover.

    ``lag``: offsets of Kafka that the lake has not reached; None if it was not compared with Kafka.
    """

    topic: str
    rows: int
    files: int
    offsets: int
    quarantined: int
    requarantined: int
    lag: int | None
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]


def topics(storage: Storage, wanted: Sequence[str]) -> list[str]:
    """``wanted``, or all of the lake.  BadInput if it lacks one of them, or has none at all."""
    if not snapshot.topics(storage):
        raise BadInput(f"there is no lake in {storage} yet; `waybill worker lake` makes one")
    return snapshot.chosen(storage, wanted)


def verify(
    storage: Storage,
    topic: str,
    access: Access | None = None,
    *,
    values: bool = False,
    progress: Progress = lambda _: None,
) -> Report:
    """What there is of ``topic`` and what is wrong with it, beside Kafka at ``access`` too; payloads if ``values``.

    Raises Unreachable, and OSError where the storage fails.
    """
    report = _Look(storage, topic, access, progress, values=values).report()
    if not report.findings:
        return report
    suspected = {one.subject for one in report.findings}
    again = _Look(storage, topic, access, progress, values=values).report()
    return replace(again, findings=tuple(one for one in again.findings if one.subject in suspected))


@dataclass(slots=True)
class _File:
    """A file of main, what its commit says of it if there is one, and how many of its rows lie where they belong."""

    key: str
    told: Output | None = None
    rows: int | None = None
    """None until it was read."""
    taken: int = 0

    @property
    def date(self) -> str:
        match = _MAIN_FILE.fullmatch(self.key)
        return match[1] if match else ""

    @property
    def whole(self) -> bool:
        return self.rows is not None and (self.told is None or self.told.rows == self.rows)


class _Window:
    """Segments that are looked at together, and their rows: partition, offset and digest, by epoch."""

    def __init__(self) -> None:
        self.segments: defaultdict[Place, list[Segment]] = defaultdict(list)
        self.steps: set[int] = set()
        self.rows: defaultdict[str, list[pa.RecordBatch]] = defaultdict(list)
        self._size = self._count = 0

    def add(self, segment: Segment) -> None:
        one = segment.told
        self.segments[one.epoch, one.partition].append(segment)
        self._size += one.rows
        self._count += 1

    def is_full_with(self, rows: int) -> bool:
        return bool(self._count) and (self._size + rows > WINDOW_ROWS or self._count >= WINDOW_SEGMENTS)

    def span(self, place: Place) -> tuple[int, int]:
        """Of a chain's segments, which follow each other."""
        held = self.segments[place]
        return held[0].told.start, max(one.told.next for one in held)

    def within(self, step: int, epoch: str, rows: pa.RecordBatch) -> pa.RecordBatch:
        """Those rows, all of ``epoch``, that lie in the span of what ``step`` took of their chain."""
        held = {
            partition: [one.told for one in told if one.step == step]
            for (of, partition), told in self.segments.items()
            if of == epoch
        }
        spans = {partition: (told[0].start, told[-1].next) for partition, told in held.items() if told}
        at = pc.index_in(rows["_partition"], value_set=pa.array(list(spans), pa.int32()))
        low = pa.array([low for low, _ in spans.values()], pa.int64()).take(at)
        high = pa.array([high for _, high in spans.values()], pa.int64()).take(at)
        offsets = rows["_offset"]
        return rows.filter(pc.and_(pc.greater_equal(offsets, low), pc.less(offsets, high)))

    def sorted_rows(self) -> Iterator[tuple[Place, pa.Table]]:
        """Offsets and digests of each chain that has rows.  The window keeps none of them."""
        while self.rows:
            epoch, batches = self.rows.popitem()
            table = pa.Table.from_batches(batches)
            del batches
            order = pc.sort_indices(table, [("_partition", "ascending"), ("_offset", "ascending")])
            table = table.take(order).combine_chunks()
            del order
            runs = pc.run_end_encode(table["_partition"].combine_chunks())
            start = 0
            for partition, end in zip(runs.values.to_pylist(), runs.run_ends.to_pylist(), strict=True):
                yield (epoch, partition), table.slice(start, end - start)
                start = end


class _Look:
    """One look at one topic."""

    def __init__(
        self, storage: Storage, topic: str, access: Access | None, progress: Progress, *, values: bool
    ) -> None:
        self._storage, self._topic, self._access = storage, topic, access
        self._progress, self._values = progress, values
        self._log: TopicLog | None = None
        self._found: list[Finding] = []
        self._notes: list[str] = []
        self._rows = self._files = 0
        self._ends: dict[Place, End] = {}
        self._named: defaultdict[Place, set[int]] = defaultdict(set)
        self._window = _Window()
        #: Of the steps that are in the window, or half in one before.
        self._main: dict[int, list[_File]] = {}

    def report(self) -> Report:
        storage, topic = self._storage, self._topic
        # Whatever is listed here has its record, or its segment, by the time that those are read.
        main = set(storage.keys(compaction.main_folder(topic)))
        requarantined = storage.keys(f"{inventory.REQUARANTINED}/{topic}")
        containers = inventory.containers(storage, topic)
        intents, commits = self._numbers()
        marks = self._marks(commits)
        hot = set(storage.keys(f"hot/{topic}"))  # after the commit: what lies above its watermarks is still there
        self._log = self._opened_log()  # after the segments: it reaches at least as far
        last = max(commits, default=0)
        self._found += findings.numbering(topic, intents, commits)
        self._steps(last, main, hot)
        if last + 1 in intents:
            self._unfinished(last + 1)
        self._readers_file(main)
        self._found += findings.left_over(topic, main, last)
        self._chains(marks, hot)
        self._close()
        self._note_containers(containers)
        count = self._requarantined(requarantined)
        lag = self._beside_kafka()
        return Report(
            topic=topic,
            rows=self._rows,
            files=self._files,
            offsets=sum(end.offset for end in self._ends.values()),
            quarantined=sum(map(len, self._named.values())),
            requarantined=count,
            lag=lag,
            findings=tuple(findings.merged(self._found)),
            notes=tuple(self._notes),
        )

    # -- the compactor's records and main

    def _numbers(self) -> tuple[set[int], set[int]]:
        """Of all intents and of all commits."""
        found: dict[str, set[int]] = {"intent": set(), "commit": set()}
        for key in self._storage.keys(compaction.folder(self._topic)):
            if match := _RECORD.fullmatch(key):
                found[match[2]].add(int(match[1]))
        return found["intent"], found["commit"]

    def _marks(self, commits: set[int]) -> Mapping[Place, int]:
        """The watermarks of the last commit that can be read."""
        for seq in sorted(commits, reverse=True):
            if commit := self._record(compaction.read_commit, compaction.commit_key, seq):
                return commit.watermarks
        return {}

    def _record(self, read: Callable[[Storage, str, int], T], key_of: Callable[[str, int], str], seq: int) -> T | None:
        """None if it is not there, which its number tells, or cannot be read."""
        key = key_of(self._topic, seq)
        try:
            return read(self._storage, self._topic, seq)
        except FileNotFoundError:
            return None
        except (BadInput, Unreachable):
            raise
        except (Problem, ValueError, LookupError, TypeError) as error:
            self._tell("record", f"{key} cannot be read: {error!r}", key)
            return None

    def _steps(self, last: int, main: set[str], hot: set[str]) -> None:
        """Go through the steps; what they made or took in is taken out of ``main`` and ``hot``."""
        moved: set[str] = set()
        for seq in range(1, last + 1):
            intent = self._record(compaction.read_intent, compaction.intent_key, seq)
            commit = self._record(compaction.read_commit, compaction.commit_key, seq)
            files = _files(seq, commit, main)
            main.difference_update(file.key for file in files)
            self._files += len(files)
            if intent is None:  # told already; there is nothing to hold its files against
                if commit:
                    key = compaction.commit_key(self._topic, seq)
                    self._ends = {place: End(offset, key) for place, offset in commit.watermarks.items()}
                continue
            self._ends, inputs, wrong = findings.step(self._ends, intent, commit)
            self._found += wrong
            moved.update(one.key for one in intent.inputs if one.key in hot)
            self._main[seq] = files
            for one in inputs:
                self._take(Segment(one, seq))
            self._window.steps.add(seq)  # though it has no inputs, its files are looked at
        hot -= moved
        if moved:
            self._notes.append(f"{len(moved):,} segments in hot are in main too: nobody reads them there")

    def _readers_file(self, main: set[str]) -> None:
        """Takes the file that shows readers all columns out of ``main``: no step made it, and it has no row."""
        key = columns_key(self._topic)
        if key in main:
            try:
                empty = not inventory.places(self._storage, key)
            except (FileNotFoundError, Damaged):
                empty = False
            if empty:
                main.remove(key)

    def _unfinished(self, seq: int) -> None:
        self._notes.append(f"step {seq} of the compactor is not finished: nobody reads its files yet")
        if intent := self._record(compaction.read_intent, compaction.intent_key, seq):
            self._found += findings.step(self._ends, intent, None)[2]

    def _read_main(self, step: int, file: _File) -> None:
        """Its rows into the window."""
        try:
            with self._storage.open(file.key) as opened, pq.ParquetFile(opened) as parquet:
                if file.rows is None:
                    file.rows = parquet.metadata.num_rows
                    if file.told:
                        size = opened.seek(0, os.SEEK_END)
                        self._found += findings.output(self._topic, file.told, file.rows, size)
                for batch in self._batches(parquet, [*_PLACE, *_TIMES]):
                    file.taken += self._put(step, batch, file)
        except FileNotFoundError:
            self._tell("missing file", f"{file.key} of step {step} is not there", file.key)
        except (OSError, pa.ArrowException, LookupError) as error:
            file.rows = None
            self._tell("damaged file", f"{file.key} of step {step} cannot be read: {error}", file.key)

    def _put(self, step: int, batch: pa.RecordBatch, file: _File) -> int:
        """Into the window the rows that belong there; how many."""
        taken = 0
        for epoch in pc.unique(batch["_epoch"]).to_pylist():
            rows = self._window.within(step, epoch, batch.filter(pc.equal(batch["_epoch"], epoch)))
            if rows.num_rows:
                self._check_dates(rows, file)
                self._window.rows[epoch].append(self._slim(rows))
                taken += rows.num_rows
        return taken

    def _check_dates(self, rows: pa.RecordBatch, file: _File) -> None:
        wrong = rows.filter(pc.not_equal(_dates(rows), file.date))
        if wrong.num_rows:
            epoch, partition, offset = (wrong[name][0].as_py() for name in _PLACE)
            what = f"the first event of another date in {file.key}"
            self._found.append(
                Finding("wrong date", self._topic, what, file.key, epoch, partition, offset, offset + 1, wrong.num_rows)
            )

    def _check_taken(self, step: int, file: _File) -> None:
        """Rows that no window took belong nowhere."""
        if file.whole and file.rows is not None and file.taken < file.rows:
            what = f"{file.key} has rows that are not of the inputs of step {step}"
            count = file.rows - file.taken
            self._found.append(Finding("outside", self._topic, what, file.key, count=count))

    # -- hot

    def _chains(self, marks: Mapping[Place, int], hot: set[str]) -> None:
        """All chains from their watermarks on.  ``hot`` is without what steps took."""
        topic, schemas = self._topic, segments.folder(self._topic, "schema") + "/"
        for key in sorted(key for key in hot if segments.parse(key) is None and not key.startswith(schemas)):
            self._tell("unknown file", f"{key} is no segment", key)
        all_steps_known = all(one.kind != "record" for one in self._found)
        found = inventory.chains(hot)
        for place in sorted({*marks, *((chain.epoch, chain.partition) for chain in found)}):
            chain, mark = Chain(topic, *place), marks.get(place, 0)
            starts = found.get(chain, [])
            if all_steps_known:
                for key in [segments.segment_key(chain, start) for start in starts if start < mark]:
                    self._tell("unknown file", f"{key} lies below the watermark {mark}, but no step took it", key)
            known = self._ends.get(place, End())
            before = known if known.offset == mark else End(mark)
            end = self._ends[place] = self._chain(chain, [start for start in starts if start >= mark], before)
            if end == before and segments.parse(end.key) and not self._is_there(end.key):
                what = f"{end.key}, the last segment of its chain, is not there"
                self._found.append(Finding("no end", topic, what, end.key, *place))

    def _chain(self, chain: Chain, starts: Sequence[int], end: End) -> End:
        """Where it ends, followed from ``end``."""
        place = chain.epoch, chain.partition
        for start, following in zip_longest(starts, starts[1:]):
            key = segments.segment_key(chain, start)
            told, rows = self._segment(key)
            known = told or Input(key, *place, start, start + 1 if following is None else following, 0)
            finding = findings.follows(self._topic, place, end, known)
            if finding and (told or finding.kind == "hole"):
                self._found.append(finding)
            if start < end.offset:
                continue
            end = End(known.next, key)
            if told:
                self._files += 1
                self._take(Segment(told))
                self._window.rows[chain.epoch] += rows
        return end

    def _segment(self, key: str) -> tuple[Input | None, list[pa.RecordBatch]]:
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
            self._tell("footer", str(error), key)
            return None, []
        except (OSError, pa.ArrowException, LookupError) as error:
            self._tell("unreadable", f"{key} cannot be read: {error}", key)
            return None, []
        if others:
            what = f"{key} has rows that are not of its chain from {told.start} to {told.next - 1}"
            self._found.append(Finding("footer", self._topic, what, key, count=others))
        return told, rows

    def _is_there(self, key: str) -> bool:
        try:
            self._storage.open(key).close()
        except FileNotFoundError:
            return False
        return True

    # -- rows

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

    def _take(self, segment: Segment) -> None:
        if self._window.is_full_with(segment.told.rows):
            self._close(segment.step)
        self._window.add(segment)
        if segment.step:
            self._window.steps.add(segment.step)

    def _close(self, step: int = 0) -> None:
        """Look at the window and begin another, for which ``step`` has more inputs (0: none has)."""
        window = self._window
        for one in sorted(window.steps):
            for file in self._main[one]:
                self._read_main(one, file)
        self._window = _Window()
        whole = {one: all(file.whole for file in self._main[one]) for one in window.steps}
        tables, compared = dict(window.sorted_rows()), dict[Place, Comparison]()
        for place, held in window.segments.items():
            rows = tables.pop(place, None)
            offsets = pa.array([], pa.int64()) if rows is None else rows["_offset"].combine_chunks()
            for segment in held:
                segment.whole = whole.get(segment.step, True)
            self._rows += len(offsets)
            self._found += findings.rows_of(self._topic, place, offsets, held)
            quarantined = self._quarantined(place, held)
            if self._log and (span := self._log.span(place, *window.span(place))):
                compared[place] = Comparison(*_once(rows, quarantined, digests=self._values), *span)
        self._compare(compared, window.segments)
        for done in [one for one in self._main if one != step]:
            for file in self._main.pop(done):
                self._check_taken(done, file)

    def _tell(self, kind: str, what: str, key: str) -> None:
        """Once, however many windows come by."""
        if all(one.subject != (kind, key, "", None) for one in self._found):
            self._found.append(Finding(kind, self._topic, what, key))

    # -- quarantine

    def _quarantined(self, place: Place, held: Sequence[Segment]) -> dict[int, int]:
        """Digests of the payloads that the segments put into quarantine, by offset."""
        offsets = {offset for one in held for offset in one.told.quarantined}
        self._named[place] |= offsets
        return {offset: self._container(Chain(self._topic, *place), offset) for offset in sorted(offsets)}

    def _container(self, chain: Chain, offset: int) -> int:
        try:
            return digest(inventory.read(self._storage, chain, offset).record.value)
        except FileNotFoundError:
            what = f"{segments.quarantine_key(chain, offset)} is not there"
        except Damaged as problem:
            what = str(problem)
        place = chain.epoch, chain.partition
        self._found.append(Finding("quarantine", self._topic, what, "", *place, offset, offset + 1))
        return 0

    def _note_containers(self, kept: Mapping[Chain, Sequence[int]]) -> None:
        nobodys = sum(len({*offsets} - self._named[chain.epoch, chain.partition]) for chain, offsets in kept.items())
        if nobodys:
            what = "of no segment: left by a crash, or their segment is not published yet"
            self._notes.append(f"{nobodys:,} containers in quarantine are {what}")

    def _requarantined(self, keys: Sequence[str]) -> int:
        """How many rows there are; each must be of a record in quarantine."""
        seen: defaultdict[Place, set[int]] = defaultdict(set)
        for number, key in enumerate(sorted(keys), 1):
            if key != inventory.requarantined_key(self._topic, number):
                self._tell("requarantined", f"{key} is not file {number}, which is missing", key)
                break
            try:
                places = inventory.places(self._storage, key)
            except (FileNotFoundError, Damaged) as problem:
                self._tell("requarantined", str(problem), key)
                continue
            for epoch, partition, offset in places:
                place = epoch, partition
                if offset in seen[place] or offset not in self._named[place]:
                    which = "a second row of it" if offset in seen[place] else "a row though it is not in quarantine"
                    what = f"{which}, in {key}"
                    self._found.append(Finding("requarantined", self._topic, what, "", *place, offset, offset + 1))
                seen[place].add(offset)
        return sum(map(len, seen.values()))

    # -- Kafka

    def _opened_log(self) -> TopicLog | None:
        if self._access is None:
            return None
        try:
            return TopicLog(self._access, self._topic, values=self._values)
        except MissingTopic:
            self._notes.append("Kafka has no such topic: not compared with it")
            return None

    def _compare(self, compared: Mapping[Place, Comparison], held: Mapping[Place, Sequence[Segment]]) -> None:
        if self._log:
            try:
                self._log.compare(compared, held)
            except MissingTopic:
                self._deleted()

    def _beside_kafka(self) -> int | None:
        """The lag; None if there is nothing to compare with."""
        if self._log is None:
            return None
        found = self._log.findings(self._ends)
        if found is None:
            self._deleted()
            return None
        self._found += found
        return self._log.lag(self._ends)

    def _deleted(self) -> None:
        self._log = None
        self._notes.append("the topic was deleted in Kafka meanwhile: not compared with it")


def _files(seq: int, commit: Commit | None, main: set[str]) -> list[_File]:
    """Of step ``seq``, by its commit; without one by their names."""
    if commit:
        return [_File(one.key, one) for one in commit.outputs]
    return [_File(key) for key in sorted(main) if f"/{seq:012d}-" in key]


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


def _once(rows: pa.Table | None, quarantined: Mapping[int, int], *, digests: bool) -> tuple[pa.Array, pa.Array | None]:
    """Every offset of a chain that is in the lake, in order, and the digests of the payloads."""
    kinds = {"_offset": pa.int64()} | ({"_digest": pa.uint64()} if digests else {})
    others = {"_offset": list(quarantined), "_digest": list(quarantined.values())}
    tables = [pa.table({name: pa.array(others[name], kind) for name, kind in kinds.items()})]
    if rows is not None:
        tables.append(rows.select(list(kinds)))
    table = pa.concat_tables(tables).sort_by("_offset").combine_chunks()
    if len(findings.repeated(table["_offset"].combine_chunks())):
        table = table.take(pc.index_in(pc.unique(table["_offset"]), value_set=table["_offset"])).combine_chunks()
    return table["_offset"].combine_chunks(), table["_digest"].combine_chunks() if digests else None
