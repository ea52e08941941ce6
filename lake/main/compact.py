"""The compactor: takes the hot segments of a topic to ``main/``, step by step, and removes them when nobody reads them.

Any number of compactors may be at work and any may die at any moment: each step is decided once, done by whoever comes
by, and looks the same whoever did it (``lake.main.compaction``).
"""

import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

import structlog

from connectors.problems import Problem, Unreachable
from connectors.settings import Lake
from lake import segments
from lake.main import compaction
from lake.main.compaction import Commit, Intent, Waiting
from lake.main.merge import READERS, Progress, merge, opened
from lake.proof.inventory import declared
from lake.reading import reader_files
from lake.storage import Storage, create_bytes, footer

log = structlog.get_logger()

#: What one step takes at most; a longer backlog goes in several.  The rows bound its memory.
STEP_BYTES = 1 << 30
STEP_SEGMENTS = 10_000
STEP_ROWS = 5_000_000


@dataclass(frozen=True, slots=True)
class Policy:
    """When a topic is compacted, and when what was is removed; in bytes and seconds."""

    file_bytes: int
    age: float
    retention: float


@dataclass(slots=True)
class Report:
    """What was done of one topic."""

    topic: str
    steps: int = 0
    segments: int = 0
    rows: int = 0
    files: int = 0
    bytes: int = 0
    removed: int = 0
    """Hot segments."""
    waiting: int = 0
    """Hot segments that are not in ``main/`` yet."""
    problems: list[str] = field(default_factory=list)


#: Is told of each step that begins.
Begun = Callable[[Intent], Progress]


def unwatched(_: Intent) -> Progress:
    return lambda _: None


def policy_of(lake: Lake) -> Policy:
    return Policy(lake.main_file_bytes, lake.compact_age, lake.hot_retention)


def run(
    storage: Storage,
    topics: Iterable[str],
    policy: Policy,
    *,
    everything: bool = False,
    clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    begun: Begun = unwatched,
) -> list[Report]:
    """Compact what is due of each topic, show it to readers, then remove what they need no more.

    A problem of one topic keeps no other from its turn.  ``begun`` is told of each step.  Raises Unreachable.
    """
    reports = [Report(topic) for topic in topics]
    try:
        for report in reports:
            with _noted(report):
                while _step(storage, policy, report, everything=everything, clock=clock, begun=begun):
                    pass
        reader_files.write_views(storage)  # before anything is removed that they name
        for report in reports:
            with _noted(report):
                report.removed = clean(storage, report.topic, clock() - timedelta(seconds=policy.retention))
    except OSError as error:
        raise Unreachable(
            f"{storage} did not do what the compactor asked for: {error}; run it again when that is mended"
        ) from error
    return reports


@contextmanager
def _noted(report: Report) -> Iterator[None]:
    try:
        yield
    except Unreachable:
        raise
    except Problem as problem:
        report.problems.append(str(problem))


def clean(storage: Storage, topic: str, before: datetime) -> int:
    """Remove hot segments that were committed to ``main/`` before that time; how many."""
    numbers = compaction.committed(storage, topic)
    old = bisect_right(numbers, before, key=lambda seq: _committed_at(storage, topic, seq))
    if not old:
        return 0
    watermarks = compaction.read_commit(storage, topic, numbers[old - 1]).watermarks
    keys = compaction.removable(storage.keys(compaction.hot_folder(topic)), watermarks)
    for key in keys:
        storage.delete(key)
    if keys:
        log.info("Hot segments that main/ has are removed.", topic=topic, segments=len(keys))
    return len(keys)


def _step(
    storage: Storage,
    policy: Policy,
    report: Report,
    *,
    everything: bool,
    clock: Callable[[], datetime],
    begun: Begun,
) -> bool:
    """The next step of a topic, if one was begun or is due."""
    commit = compaction.newest(storage, report.topic)
    seq = commit.seq + 1
    try:
        intent = _begun(storage, report.topic, seq)
        intent = intent or _decided(storage, commit, policy, report, everything=everything, now=clock())
        if intent is None:
            return False
        started = time.monotonic()
        done = _done(storage, commit, intent, clock, begun(intent))
    except FileNotFoundError as error:
        if seq in compaction.committed(storage, report.topic):  # and its segments were removed, while we slept
            return True
        raise Problem(f"step {seq} of the compaction of {report.topic} needs a file that is gone: {error}") from error
    rows, size = sum(one.rows for one in done.outputs), sum(one.bytes for one in done.outputs)
    report.steps += 1
    report.segments += len(intent.inputs)
    report.rows += rows
    report.files += len(done.outputs)
    report.bytes += size
    log.info(
        "A step of compaction is done.",
        topic=report.topic, step=intent.seq, segments=len(intent.inputs), rows=rows, files=len(done.outputs),
        bytes=size, seconds=round(time.monotonic() - started, 1),
    )  # fmt: skip
    return True


def _decided(
    storage: Storage, commit: Commit, policy: Policy, report: Report, *, everything: bool, now: datetime
) -> Intent | None:
    """The step after ``commit``, ours or that of another compactor who was quicker; None if nothing is due."""
    topic = report.topic
    waiting, broken = compaction.waiting(storage.sizes(compaction.hot_folder(topic)), commit.watermarks)
    report.waiting = len(waiting)
    report.problems = [
        f"no segment of {topic}[{partition}] (epoch {epoch}) begins at offset {offset}: what follows stays in hot/; "
        "`waybill lake verify` looks for what is missing"
        for (epoch, partition), offset in broken.items()
    ]
    if not waiting or not (everything or _due(storage, waiting, policy, now)):
        return None
    chosen = compaction.affordable(waiting, STEP_BYTES, STEP_SEGMENTS)
    with ThreadPoolExecutor(READERS) as pool:
        found = list(pool.map(lambda one: declared(one.key, footer(storage, one.key)), chosen))
    inputs = compaction.follow(found, commit.watermarks, STEP_ROWS)
    taken = {one.key for one in inputs}
    size = sum(one.bytes for one in chosen if one.key in taken)
    rows = compaction.rows_per_file(inputs, size, policy.file_bytes)
    intent = Intent(topic, commit.seq + 1, inputs, rows, now.isoformat())
    if create_bytes(storage, compaction.intent_key(topic, intent.seq), compaction.encode_intent(intent)):
        return intent
    return compaction.read_intent(storage, topic, intent.seq)


def _due(storage: Storage, waiting: Sequence[Waiting], policy: Policy, now: datetime) -> bool:
    """Whether there is enough for a file, or what a chain begins with has waited long enough."""
    if sum(one.bytes for one in waiting) >= policy.file_bytes:
        return True
    limit = now - timedelta(seconds=policy.age)
    known: set[segments.Chain] = set()
    for one in waiting:
        if one.chain not in known and (written := _written(storage, one.key)) is not None:
            if written <= limit:
                return True
            known.add(one.chain)
    return False


def _written(storage: Storage, key: str) -> datetime | None:
    """When Kafka got the newest record of a segment, about when it was published; None if it has no rows."""
    with opened(storage, key) as parquet:
        metadata = parquet.metadata
    groups = [metadata.row_group(number) for number in range(metadata.num_row_groups)]
    columns = [group.column(number) for group in groups for number in range(group.num_columns)]
    known = [one.statistics for one in columns if one.path_in_schema == "_timestamp" and one.is_stats_set]
    times = [one.max for one in known if one.has_min_max]
    return max(times, default=None)


def _begun(storage: Storage, topic: str, seq: int) -> Intent | None:
    try:
        return compaction.read_intent(storage, topic, seq)
    except FileNotFoundError:
        return None


def _done(
    storage: Storage, commit: Commit, intent: Intent, clock: Callable[[], datetime], progress: Progress
) -> Commit:
    """The commit of ``intent``, made if it is not there yet."""
    topic, seq = intent.topic, intent.seq
    outputs = merge(storage, intent, progress)
    before, after = sum(one.rows for one in intent.inputs), sum(one.rows for one in outputs)
    if before != after:
        raise Problem(f"step {seq} of the compaction of {topic} has made {after} rows of {before}; it is not committed")
    marks = compaction.advanced(commit.watermarks, intent.inputs)
    done = Commit(topic, seq, outputs, marks, clock().isoformat())
    create_bytes(storage, compaction.commit_key(topic, seq), compaction.encode_commit(done))
    return done


def _committed_at(storage: Storage, topic: str, seq: int) -> datetime:
    return datetime.fromisoformat(compaction.read_commit(storage, topic, seq).committed_at)
