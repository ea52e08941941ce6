"""What can be wrong with a lake, and how it shows in what was found there.  Pure.

Offsets are Arrow arrays of int64 in ascending order, and ranges of them ``[start, end)``.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa
import pyarrow.compute as pc

from lake.main.compaction import Commit, Input, Intent, Output, commit_key, folder, intent_key

#: Every kind of finding, and what to do about it.
REMEDIES: Mapping[str, str] = {
    "record": "restore `_lake/compaction` of this topic from a backup, and let nobody compact the topic before",
    "hole": "restore the segment that is missing from a backup; while the hole lies in `hot/` and Kafka still has its "
    "records, move the chain's later segments away instead, with the lake's workers stopped: they write them again",
    "overlap": "move the file away: the chain does not reach it, but readers do",
    "watermark": "restore the newest commit from a backup",
    "row count": "restore this step's files of `main/` from a backup",
    "missing file": "restore it from a backup; while this is the newest commit and its inputs are still in `hot/`, "
    "move the commit away instead: the compactor does the step again",
    "damaged file": "do as for a missing file, after moving it away",
    "unreadable": "restore it from a backup, or do as for a hole after moving it away",
    "unknown file": "move it away: readers of the folder would count its rows",
    "duplicate": "find out who wrote the second one; move the file that no step and no chain needs away",
    "outside": "do as for a damaged file: readers would count these rows twice",
    "wrong date": "do as for a damaged file: readers that ask for a date miss these rows",
    "footer": "do as for an unreadable file: it is not as it was published",
    "no end": "restore the segment: without the end of its chain the sink would begin at offset 0 again",
    "quarantine": "restore the container from a backup; while Kafka has the record, it can be read there",
    "requarantined": "move the file away, with those of higher numbers, and run `waybill lake requarantine` again",
    "lost": "keep the log of the lake's workers for a report; then do as for a hole, from this offset on",
    "extra": "see whether brokers lost records (unclean leader election): the lake has what Kafka has no more",
    "value": "keep the file for a report: its bytes are not those of the record; then restore it from a backup",
    "ahead": "brokers lost the end of this log: the sink holds the partition; see what was in the lake's rows",
    "cut": "see what retention removed before the lake had it; `waybill lake skip` lets the lake go on behind it",
}

#: Records of Kafka that are held at once, of each partition.
HELD = 50_000

#: One partition in one life of its topic: epoch and number.
Place = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Finding:
    """``kind`` is one of REMEDIES; ``start`` and ``end`` are the first offsets concerned, ``count`` says how many."""

    kind: str
    topic: str
    what: str
    key: str = ""
    epoch: str = ""
    partition: int | None = None
    start: int | None = None
    end: int | None = None
    count: int = 1

    @property
    def subject(self) -> tuple[str, str, str, int | None]:
        """What it is about, whatever the number of records is just now."""
        return self.kind, self.key, self.epoch, self.partition

    def __str__(self) -> str:
        where = self.topic if self.partition is None else f"{self.topic}[{self.partition}]"
        epoch = f" epoch {self.epoch}" if self.epoch else ""
        span = "" if self.start is None or self.end is None else f", {span_text(self.start, self.end)}"
        more = f" ({self.count:,} in all)" if self.count > 1 else ""
        return f"{where}{epoch}{span}: {self.what}{more}"


@dataclass(frozen=True, slots=True)
class End:
    """Where a chain goes on, and the segment that says so."""

    offset: int = 0
    key: str = ""


@dataclass(slots=True)
class Segment:
    """A segment as told, the step that moved its rows to main (0: none), and whether all of their files are whole."""

    told: Input
    step: int = 0
    whole: bool = True


@dataclass(frozen=True, slots=True)
class Run:
    """The first of some offsets that belong together, ``[start, end)``, and how many there are altogether."""

    start: int
    end: int
    count: int


def span_text(start: int, end: int) -> str:
    return f"offset {start}" if end == start + 1 else f"offsets {start} to {end - 1}"


def merged(findings: Sequence[Finding]) -> list[Finding]:
    """One for each subject: the first, with the count of all."""
    found: dict[tuple[str, str, str, int | None], Finding] = {}
    for one in findings:
        known = found.get(one.subject)
        found[one.subject] = replace(known, count=known.count + one.count) if known else one
    return list(found.values())


def tell(found: list[Finding], one: Finding) -> None:
    """Add it, unless its subject is there: once, however many windows come by."""
    if all(each.subject != one.subject for each in found):
        found.append(one)


# -- the compactor's records


def numbering(topic: str, intents: Collection[int], commits: Collection[int]) -> list[Finding]:
    """Commits are 1 to N without gap, each has its intent, and only N + 1 may have an intent alone."""
    last = max(commits, default=0)
    absent = [commit_key(topic, seq) for seq in range(1, last) if seq not in commits]
    absent += [intent_key(topic, seq) for seq in range(1, last + 1) if seq not in intents]
    findings = [Finding("record", topic, f"{key} is missing", key) for key in absent]
    if ahead := sorted(seq for seq in intents if seq > last + 1):
        key = intent_key(topic, ahead[0])
        findings.append(Finding("record", topic, f"{key} was made, but the commit before it is missing", key))
    return findings


def follows(topic: str, place: Place, end: End, segment: Input) -> Finding | None:
    """Whether the segment begins where its chain stands."""
    epoch, partition = place
    if segment.start > end.offset:
        between = f"between {end.key or 'the beginning'} (next {end.offset}) and {segment.key} (start {segment.start})"
        return Finding("hole", topic, f"no segment {between}", segment.key, epoch, partition, end.offset, segment.start)
    if segment.start < end.offset:
        what = f"{segment.key} begins at {segment.start}, but {end.key or 'the watermark'} reaches {end.offset}"
        stop = max(segment.start + 1, min(segment.next, end.offset))
        return Finding("overlap", topic, what, segment.key, epoch, partition, segment.start, stop)
    return None


def in_order(segments: Sequence[Input]) -> list[Input]:
    return sorted(segments, key=lambda one: (one.epoch, one.partition, one.start))


def step(
    ends: Mapping[Place, End], intent: Intent, commit: Commit | None
) -> tuple[dict[Place, End], list[Input], list[Finding]]:
    """Where all chains stand after a step, the inputs that its chains reach, and what is wrong with its records."""
    topic, after, taken, findings = intent.topic, dict(ends), [], []
    for one in in_order(intent.inputs):
        place = one.epoch, one.partition
        end = after.get(place, End())
        if finding := follows(topic, place, end, one):
            findings.append(finding)
        if one.start >= end.offset:
            taken.append(one)
            after[place] = End(one.next, one.key)
    if commit is None:
        return after, taken, findings
    key = commit_key(topic, commit.seq)
    for place in sorted({*after, *commit.watermarks}):
        told, is_at = commit.watermarks.get(place, 0), after.get(place, End()).offset
        if told != is_at:
            what = f"{key} says everything below {told} is in main, but its inputs end at {is_at}"
            findings.append(Finding("watermark", topic, what, key, *place, *sorted((told, is_at))))
    rows_in, rows_out = sum(one.rows for one in intent.inputs), sum(one.rows for one in commit.outputs)
    if rows_in != rows_out:
        what = f"step {commit.seq} had {rows_in:,} rows in its inputs and has {rows_out:,} in its files"
        findings.append(Finding("row count", topic, what, key, count=abs(rows_in - rows_out)))
    return after, taken, findings


def output(topic: str, told: Output, rows: int, size: int) -> list[Finding]:
    """A file of main beside what its commit says."""
    if (rows, size) == (told.rows, told.bytes):
        return []
    what = f"{told.key} has {rows:,} rows and {size:,} bytes, its commit says {told.rows:,} and {told.bytes:,}"
    return [Finding("damaged file", topic, what, told.key)]


def left_over(topic: str, keys: Collection[str], last: int) -> list[Finding]:
    """Files of main that no commit names, unless they may be of the step that is not finished."""
    unfinished = f"/{last + 1:012d}-"
    return [
        Finding("unknown file", topic, f"no step of {folder(topic)} made {key}", key)
        for key in sorted(keys)
        if unfinished not in key
    ]


# -- offsets


def longs(array: pa.Array) -> memoryview:
    """The numbers of an int64 array without nulls, not copied."""
    numbers = memoryview(array.buffers()[1] if len(array) else b"")
    return numbers.cast("q")[array.offset : array.offset + len(array)]


def part(offsets: pa.Array, start: int, end: int) -> pa.Array:
    """Those in ``[start, end)``."""
    view = longs(offsets)
    low = bisect_left(view, start)
    return offsets.slice(low, bisect_left(view, end) - low)


def run(some: pa.Array, all_: pa.Array) -> Run:
    """The first of ``some`` up to where ``all_``, which lacks them, goes on; ``some`` is not empty."""
    start = some[0].as_py()
    view = longs(all_)
    at = bisect_left(view, start)
    within = part(some, start, view[at]) if at < len(view) else some
    return Run(start, within[-1].as_py() + 1, len(some))


def joined(first: Run | None, second: Run | None) -> Run | None:
    """Of two pieces of one stretch."""
    return replace(first, count=first.count + second.count) if first and second else first or second


def repeated(offsets: pa.Array) -> pa.Array:
    """Those that stand there once more."""
    if len(offsets) < 2:
        return offsets.slice(0, 0)
    return offsets.slice(1).filter(pc.equal(offsets.slice(1), offsets.slice(0, len(offsets) - 1)))


def rows_of(topic: str, place: Place, offsets: pa.Array, segments: Sequence[Segment]) -> Iterator[Finding]:
    """The rows of one chain, sorted, beside what its segments say."""
    twice = repeated(offsets)
    if len(twice):
        first = twice[0].as_py()
        what = f"more than one row of {holder(segments, first)}"
        yield Finding("duplicate", topic, what, "", *place, first, first + 1, len(twice))
        offsets = pc.unique(offsets)
    view = longs(offsets)
    for segment in segments:
        one = segment.told
        found = bisect_left(view, one.next) - bisect_left(view, one.start)
        if found != one.rows and segment.whole:
            kind, where = ("row count", f"step {segment.step}") if segment.step else ("footer", "it")
            what = f"{one.key} says {one.rows:,} rows, {where} has {found:,}"
            yield Finding(kind, topic, what, one.key, *place, one.start, one.next, abs(found - one.rows))
        for offset in one.quarantined:
            if len(part(offsets, offset, offset + 1)):
                what = f"a row and in quarantine, both by {one.key}"
                yield Finding("duplicate", topic, what, "", *place, offset, offset + 1)


def holder(segments: Sequence[Segment], offset: int) -> str:
    """The segment that ``offset`` belongs to, and where its rows are now."""
    for segment in segments:
        if segment.told.start <= offset < segment.told.next:
            moved = f" (in main since step {segment.step})" if segment.step else ""
            return f"{segment.told.key}{moved}"
    return "no segment"


@dataclass(slots=True)
class Comparison:
    """One chain in ``[start, end)`` beside what Kafka shows of it, which is told in order and held for a moment only.

    ``offsets`` are those in the lake, each once, and ``digests`` of their bytes (null: not to be compared).
    """

    offsets: pa.Array
    digests: pa.Array | None
    start: int
    end: int
    lost: Run | None = None
    extra: Run | None = None
    other: Run | None = None
    _told: list[int] = field(default_factory=list)
    _digests: list[int] = field(default_factory=list)

    def add(self, offset: int, digest: int | None = None) -> None:
        self._told.append(offset)
        if digest is not None:
            self._digests.append(digest)
        if len(self._told) >= HELD:
            self._compare(offset + 1)

    def finish(self) -> None:
        self._compare(self.end)

    def findings(self, topic: str, place: Place, segments: Sequence[Segment], log_start: int) -> Iterator[Finding]:
        """``log_start`` as it is after everything was told: what lies below is in Kafka no more."""
        for kind, found, text in (
            ("lost", self.lost, "in Kafka and not in the lake, where they belong to"),
            ("extra", self.extra, "in the lake and not in Kafka, of"),
            ("value", self.other, "not the bytes that Kafka has, of"),
        ):
            if found and not (kind == "extra" and found.start < log_start):
                what = f"{text} {holder(segments, found.start)}"
                yield Finding(kind, topic, what, "", *place, found.start, found.end, found.count)

    def _compare(self, end: int) -> None:
        told, mine = pa.array(self._told, pa.int64()), part(self.offsets, self.start, end)
        lost = told.filter(pc.invert(pc.is_in(told, value_set=mine)))
        extra = mine.filter(pc.invert(pc.is_in(mine, value_set=told)))
        self.lost = joined(self.lost, run(lost, mine) if len(lost) else None)
        self.extra = joined(self.extra, run(extra, told) if len(extra) else None)
        if self.digests is not None:
            self._compare_bytes(told, mine, end)
        self._told, self._digests, self.start = [], [], end

    def _compare_bytes(self, told: pa.Array, mine: pa.Array, end: int) -> None:
        at = bisect_left(longs(self.offsets), self.start)
        known = self.digests.slice(at, len(mine)) if self.digests is not None else None
        theirs = pa.array(self._digests, pa.uint64()).take(pc.index_in(mine, value_set=told))
        differ = mine.filter(pc.not_equal(known, theirs))
        if len(differ):
            same = mine.filter(pc.equal(known, theirs))
            self.other = joined(self.other, run(differ, same))
