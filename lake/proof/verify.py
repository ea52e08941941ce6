"""Proves a lake whole: every record once, where it belongs, and all that Kafka shows.

A topic's segments are gone through in the order of their chains: those whose rows are in ``main/`` by the compactor's
records, those of ``hot/`` by their footers.  A window of them is held at a time, as the offsets of its rows; records of
Kafka in the same ranges pass by.  What is wrong is told only if a second look sees it too: sinks and compactors may go
on meanwhile.
"""

import re
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import TypeVar

import pyarrow as pa

from connectors.access import Access
from connectors.kafka.reader import MissingTopic
from connectors.problems import BadInput, Problem, Unreachable
from lake import segments
from lake.main import compaction
from lake.main.compaction import Input
from lake.proof import findings, inventory
from lake.proof.files import MainFile, Progress, Reader, files_of
from lake.proof.findings import Comparison, End, Finding, Place, Segment
from lake.proof.inventory import Damaged
from lake.proof.topic_log import TopicLog, digest
from lake.proof.window import Window, once
from lake.reading import snapshot
from lake.reading.reader_files import columns_key
from lake.segments import Chain
from lake.storage import Storage

_RECORD = re.compile(r".*/(\d{12})\.(intent|commit)\.json")

T = TypeVar("T")


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


class _Look:
    """One look at one topic."""

    def __init__(
        self, storage: Storage, topic: str, access: Access | None, progress: Progress, *, values: bool
    ) -> None:
        self._storage, self._topic, self._access = storage, topic, access
        self._values = values
        self._log: TopicLog | None = None
        self._found: list[Finding] = []
        self._reader = Reader(storage, topic, progress, self._found, values=values)
        self._notes: list[str] = []
        self._rows = self._files = 0
        self._ends: dict[Place, End] = {}
        self._named: defaultdict[Place, set[int]] = defaultdict(set)
        self._window = Window()
        #: Of the steps that are in the window, or half in one before.
        self._main: dict[int, list[MainFile]] = {}

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
            files = files_of(seq, commit, main)
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
            told, rows = self._reader.read_segment(key)
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

    def _is_there(self, key: str) -> bool:
        try:
            self._storage.open(key).close()
        except FileNotFoundError:
            return False
        return True

    # -- the window

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
                self._reader.read_main(one, file, window)
        self._window = Window()
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
                compared[place] = Comparison(*once(rows, quarantined, digests=self._values), *span)
        self._compare(compared, window.segments)
        for done in [one for one in self._main if one != step]:
            for file in self._main.pop(done):
                self._reader.check_taken(done, file)

    def _tell(self, kind: str, what: str, key: str) -> None:
        """Once, however many windows come by."""
        findings.tell(self._found, Finding(kind, self._topic, what, key))

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
