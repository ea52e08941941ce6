"""All open segments of a sink and how they are published.  Blocking; one thread calls it, which is the only lock."""

import os
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import structlog

from connectors.kafka.holds import Halt
from connectors.problems import BadInput, Problem, Unreachable
from connectors.schemas import EventType
from connectors.settings import Settings
from lake import metrics, segments
from lake.epochs import Identify, TopicIds
from lake.hot.ends import BY_ITSELF, WAY_OUT, end_of, places, published
from lake.hot.fetches import Answer, Fetch, Finished, Halted, Tail
from lake.hot.outage import AWAY, Outage
from lake.hot.rows import RowBuilder, builder_of
from lake.hot.spool import DamagedError
from lake.hot.writer import OpenSegment
from lake.segments import Adopted, Chain, Limits, Remainder, Rotation
from lake.storage import Storage
from lake.storage import of as storage_of

log = structlog.get_logger()

Partition = tuple[str, int]

#: Seconds after which a chain may have moved on so far that the name of its next segment is free again: its segments
#: are compacted, and then deleted, `lake.hot-retention` (an hour or more) later.
FENCE = 1800.0


def awake() -> float:
    """Seconds; they count while the machine sleeps, too."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


def chains_of(config: Settings, events: Sequence[EventType]) -> "Chains":
    """Those of the lake that the settings name, in a scratch folder that is held until the process ends."""
    told = config.lake
    limits = Limits(told.segment_bytes, told.segment_age, told.memory_bytes, told.quarantine_limit)
    return Chains(storage_of(told), events, limits, TopicIds(config.kafka.access).lives)


class Chains:
    """Takes fetches in and publishes segments.

    A segment hangs on the window of its assignment and dies with it, unpublished: whoever has the partition next reads
    it again.  A segment must never lack records that lie before others of it, so

    - what may fail and be tried again comes after all has been taken in: a storage that is away or full holds closed
      segments back, and what arrives behind them waits in memory, where the bound of it stops the reading;
    - what fails with the records of one partition halts that partition, as a whole;
    - after any other failure nothing more is taken in or published until partitions are assigned anew.
    """

    def __init__(
        self,
        storage: Storage,
        events: Iterable[EventType],
        limits: Limits,
        identify: Identify,
        clock: Callable[[], float] = awake,
    ) -> None:
        self.storage, self.limits, self.identify, self.clock = storage, limits, identify, clock
        self.builders = {event.topic: builder_of(event) for event in events}
        self.held = 0
        #: Since when the oldest record waits that is in no file yet, by ``clock``.
        self.oldest: float | None = None
        self._writer = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        #: Life of each assigned topic and end of each assigned chain, or why there is none; both as of ``_placed``.
        self._lives: Mapping[str, str | Problem] = {}
        self._starts: Mapping[Partition, int | Halt] = {}
        self._placed = 0.0
        self._tails: dict[Any, Tail] = {}
        self._halted: set[Any] = set()
        self._failed = False
        self._storage = Outage(
            "The lake's storage takes nothing: what is due waits, and reading stops when memory is full.",
            "see that it can be reached, and has room; nothing is lost meanwhile, and the lake goes on by itself",
            clock,
        )
        self._kafka = Outage(
            "Segments wait for Kafka to confirm their topics.", "see to the brokers; nothing is lost meanwhile", clock
        )

    def assign(self, partitions: Iterable[Partition]) -> dict[Partition, int | Halt]:
        """Where each partition goes on: at the end of its chain, or at 0; or why it cannot.  Unreachable, to ask again.

        Never at the group's offset: two owners that began one stretch at different offsets would both win, and an
        offset ahead of the lake would be a hole.
        """
        wanted = list(partitions)
        self._lives, self._starts = {}, {}
        lives = self._identified({topic for topic, _ in wanted})
        placed = self.clock()
        try:
            _ = self.storage.scratch  # there is one before it is needed
            ends = places(self.storage, self.builders, lives)
        except AWAY as error:
            self._storage.met(error)
            raise Unreachable(f"the storage does not say where the lake ends: {error}") from error
        self._storage.over()
        starts = {
            (topic, partition): found if isinstance(found := ends[topic], Halt) else found.get(partition, 0)
            for topic, partition in wanted
        }
        self._lives, self._starts, self._placed, self._failed = lives, starts, placed, False
        return starts

    def changed(self) -> list[str]:
        """Assigned topics that Kafka has in another life than when they were assigned.  Any thread may ask."""
        known = self._lives
        try:
            lives = self.identify(known.keys())
        except Unreachable:  # then nothing of them is read, either
            return []
        return sorted(topic for topic, life in lives.items() if isinstance(life, str) and life != known[topic])

    def step(self, fetches: Iterable[Fetch]) -> list[Answer]:
        """Take in ``fetches``, bound the memory, publish what is due."""
        with self._whole():
            answers = self._take_in(fetches)
            answers += self._bound_memory()
            now = self.clock()
            for tail in self._tails.values():
                segment = tail.segment
                if segment.since is not None and tail.due is None:
                    tail.due = segments.rotation(segment.size, now - segment.since, self.limits)
            if self._storage.due and self._kafka.due:
                answers += self._publish([window for window, tail in self._tails.items() if tail.due])
            self._measure()
            return answers

    def flush(self, reason: Rotation = "shutdown") -> list[Answer]:
        """Publish whatever there is, once: the partitions are being given up."""
        with self._whole():
            live = [w for w, tail in self._tails.items() if w.live and tail.segment.since is not None]
            for window in live:
                self._tails[window].due = self._tails[window].due or reason
            answers = self._publish(live)
            self._measure()
            return answers

    def close(self) -> None:
        for tail in self._tails.values():
            tail.segment.discard()
        self._tails.clear()

    @property
    def waits(self) -> str | None:
        """What the lake waits for, if it does."""
        return f"the storage takes nothing: {self._storage.error}" if self._storage.error else None

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """After a failure segments may lack records, or have them half written."""
        if self._failed:
            raise Problem("the lake failed before; what it had not published is read again")
        try:
            yield
        except BaseException:
            self._failed = True
            raise

    # -- lives of topics

    def _identified(self, topics: set[str]) -> Mapping[str, str | Problem]:
        try:
            lives = self.identify(topics)
        except Unreachable as error:
            self._kafka.met(error)
            raise
        self._kafka.over()
        return lives

    # -- taking in

    def _take_in(self, fetches: Iterable[Fetch]) -> list[Answer]:
        for window in [window for window in self._tails if not window.live]:
            self._tails.pop(window).segment.discard()
        self._halted = {window for window in self._halted if window.live}
        answers: list[Answer] = []
        for fetch in fetches:
            if fetch.window.live:
                answers += self._add(fetch)
        return answers

    def _add(self, fetch: Fetch) -> list[Answer]:
        if fetch.window in self._halted:
            return []
        tail = self._tails.get(fetch.window)
        if tail is None:
            tail = self._tails[fetch.window] = Tail(self._begin(fetch))
        if tail.segment.closed:
            tail.behind.append(fetch)
            return []
        segment = tail.segment
        if fetch.end <= segment.start:  # another sink has published all of it
            return [Finished(fetch.window, fetch.end)]
        records = fetch.records
        if fetch.start < segment.start:
            records = [record for record in records if record.offset >= segment.start]
        return self._alone(fetch.window, lambda: segment.add(records, fetch.end, fetch.size, self.clock()))

    def _begin(self, fetch: Fetch) -> OpenSegment:
        life, start = self._lives.get(fetch.topic), self._starts.get((fetch.topic, fetch.partition))
        if not isinstance(life, str) or not isinstance(start, int):
            raise Problem(f"{fetch.topic}[{fetch.partition}] sent records before the lake knew where it goes on")
        return self._segment(Chain(fetch.topic, life, fetch.partition), start, self._placed)

    def _segment(self, chain: Chain, start: int, placed: float) -> OpenSegment:
        builder = self.builders[chain.topic]
        assert isinstance(builder, RowBuilder), "a topic without one is halted when it is assigned"
        return OpenSegment(chain, start, placed, builder, self.storage, self._writer)

    def _bound_memory(self) -> list[Answer]:
        """Write row groups of the largest segments; where that is not enough, publish the largest."""
        budget, answers = self.limits.memory_bytes // 2, list[Answer]()
        unwritten = {window: tail.segment.unwritten for window, tail in self._tails.items()}
        for window in segments.to_spill(unwritten, budget):
            answers += self._alone(window, self._tails[window].segment.spill)
        held = {window: tail.segment.held for window, tail in self._tails.items() if not tail.segment.closed}
        for window in segments.to_spill(held, budget * 5 // 4):  # its row groups' columns cost memory until then
            self._tails[window].due = self._tails[window].due or "memory"
        return answers

    def _alone(self, window: Any, work: Callable[[], None]) -> list[Answer]:
        """Do ``work`` on the segment of ``window``; what goes wrong with its records halts this partition alone."""
        segment = self._tails[window].segment
        try:
            work()
        except MemoryError:
            raise
        except AWAY as error:  # no storage has part in this: what failed half way cannot be repeated
            raise DamagedError(f"a segment of {segment.chain} is half written: {error}") from error
        except Exception as error:
            log.exception("A segment failed.", topic=segment.chain.topic, partition=segment.chain.partition)
            return [self._halt(window, f"offsets {segment.start} to {segment.end - 1} failed: {error!r}")]
        if segments.spoilt(segment.rejected, segment.decoded, self.limits.quarantine):
            return [self._break(window)]
        return []

    def _break(self, window: Any) -> Halted:
        """It is not single records that are bad: who decodes them is, or who produces them."""
        segment = self._tails[window].segment
        rejected, first = segment.rejected, segment.first_rejected
        cause = f"; the first at offset {first.record.offset}: {first.error}" if first else ""
        return self._halt(
            window,
            f"{rejected:,} of {rejected + segment.decoded:,} records from offset {segment.start} on cannot be "
            f"decoded{cause}",
            "deploy the descriptors that these records were written with, or raise `lake.quarantine-limit` to have "
            "them in quarantine, and restart the lake's workers; until then they wait in Kafka",
        )

    def _halt(self, window: Any, gap: str, way_out: str = WAY_OUT) -> Halted:
        segment = self._tails.pop(window).segment
        self._halted.add(window)
        segment.discard()
        return Halted(window, segment.chain.topic, segment.chain.partition, Halt(segment.start, gap, way_out))

    # -- publishing

    def _publish(self, due: Sequence[Any]) -> list[Answer]:
        """Those that the storage does not take now stay due."""
        answers: list[Answer] = self._confirm(due)
        trouble: Exception | None = self._settle()
        for window in due if not self._kafka.error else ():
            try:
                answers += self._publish_one(window)
            except OSError as error:  # others may have what they need, and make room
                trouble = error
            except (Unreachable, BadInput) as error:
                trouble = error
                self._tails[window] = self._tails.pop(window)  # the next time, others come first
                break
            except Problem as problem:
                answers.append(self._halt(window, str(problem)))
        if trouble:
            self._storage.met(trouble)
        elif not self._kafka.error:
            self._storage.over()
        return answers

    def _settle(self) -> OSError | None:
        """Scratch files get what their disk had no room for."""
        try:
            for tail in self._tails.values():
                tail.segment.settle()
        except OSError as error:
            return error
        return None

    def _confirm(self, due: Sequence[Any]) -> list[Answer]:
        """Records were read by the topic's name: only if it is the same topic still, they are of its epoch."""
        if not due:
            return []
        try:
            lives = self._identified({self._tails[window].segment.chain.topic for window in due})
        except Unreachable:
            return []
        gone = {topic: life for topic, life in lives.items() if life != self._lives[topic]}
        found = [(window, tail.segment.start, tail.segment.chain.topic) for window, tail in self._tails.items()]
        return [
            self._halt(window, _what_became(topic, gone[topic], start), BY_ITSELF)
            for window, start, topic in found
            if topic in gone
        ]

    def _publish_one(self, window: Any) -> list[Answer]:
        """May be repeated, whatever the storage raised: an answer that got lost shows as a race lost to ourselves."""
        tail = self._tails.get(window)
        if tail is None:
            return []
        segment = tail.segment
        if halted := self._alone(window, segment.spill):
            return halted
        path = segment.close()
        following = self._overtaken(segment) or self._create(segment, path, tail.due)
        self._tails[window] = Tail(following)
        segment.discard()
        answers: list[Answer] = [Finished(window, following.start)]
        for fetch in tail.behind:
            answers += self._add(fetch)
        return answers

    def _overtaken(self, segment: OpenSegment) -> OpenSegment | None:
        """What follows if the chain has gone on without us, perhaps so far that the segment's name is free again."""
        now, chain = self.clock(), segment.chain
        if now - segment.placed < FENCE:
            return None
        end = end_of(self.storage, chain)
        if end > segment.start:
            return self._after_lost_race(segment, end)
        segment.placed = now
        return None

    def _create(self, segment: OpenSegment, path: Path, reason: Rotation | None) -> OpenSegment:
        chain, start, end = segment.chain, segment.start, segment.end
        key = segments.segment_key(chain, start)
        segment.quarantine()
        if not self.storage.create(path, key):
            winner = published(self.storage, key)
            if (winner.writer, winner.next) != (self._writer, end):
                return self._after_lost_race(segment, winner.next)
        metrics.FILES.labels(chain.topic, reason).inc()
        metrics.ROWS.labels(chain.topic).inc(segment.rows)
        log.info(
            "A segment is published.",
            topic=chain.topic, partition=chain.partition, start=start, end=end, rows=segment.rows, reason=reason,
        )  # fmt: skip
        now = self.clock()
        if now - segment.placed >= FENCE:  # the process was stopped in between, and the name may have been free again
            end = max(end, end_of(self.storage, chain))
        return self._segment(chain, end, now)

    def _after_lost_race(self, segment: OpenSegment, winner_next: int) -> OpenSegment:
        chain, now = segment.chain, self.clock()
        metrics.LOST_RACES.labels(chain.topic).inc()
        log.info(
            "Another sink published this segment first.",
            topic=chain.topic, partition=chain.partition, start=segment.start, end=segment.end, winner_end=winner_next,
        )  # fmt: skip
        match segments.after_lost_race(segment.end, winner_next):
            case Adopted(start):
                return self._segment(chain, start, now)
            case Remainder(start):
                return segment.rest(start, now)

    def _measure(self) -> None:
        self.held = sum(tail.held for tail in self._tails.values())
        self.oldest = min((t.segment.since for t in self._tails.values() if t.segment.since is not None), default=None)
        metrics.HELD_BYTES.set(self.held)
        metrics.COMMIT_AGE.set(0 if self.oldest is None else self.clock() - self.oldest)
        metrics.DUE.set(sum(tail.due is not None for tail in self._tails.values()))
        metrics.STORAGE_AWAY.set(self._storage.seconds)


def _what_became(topic: str, life: str | Problem, start: int) -> str:
    became = life if isinstance(life, Problem) else f"the topic {topic} was deleted and made anew"
    return f"{became}; what was read of it from offset {start} on and not published is given up, as Kafka has done"
