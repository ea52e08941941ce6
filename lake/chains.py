"""All open segments of a sink and how they are published.  Blocking; one thread calls it, which is the only lock."""

import os
import socket
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import structlog

from connectors.problems import Problem, Unreachable
from connectors.schemas import EventType
from connectors.settings import Settings
from lake import metrics, segments
from lake.epochs import Identify, TopicIds
from lake.rows import RowBuilder
from lake.segments import Adopted, Chain, Limits, Remainder
from lake.storage import Storage, footer
from lake.storage import of as storage_of
from lake.writer import OpenSegment

log = structlog.get_logger()

Partition = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Fetch:
    """All of one partition in ``[start, end)``; ``size`` is the memory of the records, ``window`` their assignment."""

    window: Any
    topic: str
    partition: int
    records: list[Any]
    start: int
    end: int
    size: int


@dataclass(frozen=True, slots=True)
class Finished:
    """Everything of ``window`` below ``offset`` is in the lake."""

    window: Any
    offset: int


def chains_of(config: Settings, events: Sequence[EventType]) -> "Chains":
    """Those of the lake that the settings name, in a scratch folder that is held until the process ends."""
    limits = Limits(config.lake.segment_bytes, config.lake.segment_age, config.lake.memory_bytes)
    return Chains(storage_of(config.lake), events, limits, TopicIds(config.kafka.access))


class Chains:
    """Takes fetches in and publishes segments.

    A segment hangs on the window of its assignment and dies with it, unpublished: whoever has the partition next reads
    it again.  So do all of them when something fails, a full disk for one: until partitions are assigned anew, nothing
    more is taken in or published.
    """

    def __init__(
        self,
        storage: Storage,
        events: Iterable[EventType],
        limits: Limits,
        identify: Identify,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.storage, self.limits, self.identify, self.clock = storage, limits, identify, clock
        self.builders = {event.topic: RowBuilder(event) for event in events}
        self.held = 0
        #: Since when the oldest record waits that is in no file yet, by ``clock``.
        self.oldest: float | None = None
        self._writer = f"{socket.gethostname()}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
        self._epochs: Mapping[str, str] = {}
        self._starts: Mapping[Partition, int] = {}
        self._open: dict[Any, OpenSegment] = {}
        self._failed = False

    def assign(self, partitions: Iterable[Partition]) -> dict[Partition, int]:
        """Where each partition goes on: at the end of its chain, or at 0.

        Never at the group's offset: two owners that began one stretch at different offsets would both win, and an
        offset ahead of the lake would be a hole.
        """
        wanted = list(partitions)
        self._epochs, self._starts = {}, {}
        epochs = self.identify({topic for topic, _ in wanted})
        keys = [key for topic, epoch in epochs.items() for key in self.storage.keys(segments.folder(topic, epoch))]
        ends = {chain: self._next(segments.segment_key(chain, start)) for chain, start in segments.newest(keys).items()}
        starts = {
            (topic, partition): ends.get(Chain(topic, epochs[topic], partition), 0) for topic, partition in wanted
        }
        self._epochs, self._starts, self._failed = epochs, starts, False
        return starts

    def step(self, fetches: Iterable[Fetch]) -> list[Finished]:
        """Take in ``fetches``, bound the memory, publish what is due."""
        with self._whole():
            finished = self._take_in(fetches)
            held = {window: segment.held for window, segment in self._open.items()}
            for window in segments.to_spill(held, self.limits.memory_bytes // 2):
                self._open[window].spill()
            now = self.clock()
            due = {
                window: reason
                for window, segment in self._open.items()
                if segment.since is not None
                and (reason := segments.rotation(segment.size, now - segment.since, self.limits))
            }
            try:
                finished += self._publish(due)
            except Unreachable as error:  # held back, not lost: tried again at the next step
                log.warning("Segments wait for Kafka to confirm their topics.", segments=len(due), error=str(error))
            self._measure(now)
            return finished

    def flush(self) -> list[Finished]:
        """Publish whatever there is: the partitions are being given up."""
        with self._whole():
            live = {
                window: "drain" for window, segment in self._open.items() if window.live and segment.since is not None
            }
            finished = self._publish(live)
            self._measure(self.clock())
            return finished

    def close(self) -> None:
        for segment in self._open.values():
            segment.discard()
        self._open.clear()

    @contextmanager
    def _whole(self) -> Iterator[None]:
        """After a failure segments may lack records, or have them half written."""
        if self._failed:
            raise Problem("the lake failed before; what it had not published is read again")
        try:
            yield
        except Unreachable:  # asked for before anything is touched
            raise
        except BaseException:
            self._failed = True
            raise

    def _take_in(self, fetches: Iterable[Fetch]) -> list[Finished]:
        for window in [window for window in self._open if not window.live]:
            self._open.pop(window).discard()
        finished: list[Finished] = []
        for fetch in fetches:
            if fetch.window.live:
                finished += self._add(fetch)
        return finished

    def _add(self, fetch: Fetch) -> list[Finished]:
        segment = self._open.get(fetch.window)
        if segment is None:
            segment = self._open[fetch.window] = self._begin(fetch)
        if fetch.end <= segment.start:  # another sink has published all of it
            return [Finished(fetch.window, fetch.end)]
        records = fetch.records
        if fetch.start < segment.start:
            records = [record for record in records if record.offset >= segment.start]
        segment.add(records, fetch.end, fetch.size, self.clock())
        return []

    def _begin(self, fetch: Fetch) -> OpenSegment:
        epoch, start = self._epochs.get(fetch.topic), self._starts.get((fetch.topic, fetch.partition))
        if epoch is None or start is None:
            raise Problem(f"{fetch.topic}[{fetch.partition}] sent records before the lake knew where it goes on")
        return self._segment(Chain(fetch.topic, epoch, fetch.partition), start)

    def _segment(self, chain: Chain, start: int) -> OpenSegment:
        return OpenSegment(chain, start, self.builders[chain.topic], self.storage, self._writer)

    def _publish(self, due: Mapping[Any, str]) -> list[Finished]:
        self._confirm({self._open[window].chain.topic for window in due})
        return [Finished(window, self._publish_one(window, reason)) for window, reason in due.items()]

    def _confirm(self, topics: set[str]) -> None:
        """Records were read by the topic's name: only if it is the same topic still, they are of its epoch."""
        for topic, found in self.identify(topics).items():
            if found != self._epochs[topic]:
                raise Problem(f"the topic {topic} was deleted and made anew; the sink starts again with a new chain")

    def _publish_one(self, window: Any, reason: str) -> int:
        segment = self._open[window]
        chain, start, end, path = segment.chain, segment.start, segment.end, segment.close()
        key = segments.segment_key(chain, start)
        if self.storage.create(path, key):
            metrics.FILES.labels(chain.topic, reason).inc()
            metrics.ROWS.labels(chain.topic).inc(segment.rows)
            log.info(
                "A segment is published.",
                topic=chain.topic, partition=chain.partition, start=start, end=end, rows=segment.rows, reason=reason,
            )  # fmt: skip
            following = self._segment(chain, end)
        else:
            following = self._after_lost_race(segment, self._next(key))
        self._open[window] = following
        segment.discard()
        return following.start

    def _after_lost_race(self, segment: OpenSegment, winner_next: int) -> OpenSegment:
        """The winner may be our own earlier try, of which we never heard the answer."""
        chain = segment.chain
        metrics.LOST_RACES.labels(chain.topic).inc()
        log.info(
            "Another sink published this segment first.",
            topic=chain.topic, partition=chain.partition, start=segment.start, end=segment.end, winner_end=winner_next,
        )  # fmt: skip
        match segments.after_lost_race(segment.end, winner_next):
            case Adopted(start):
                return self._segment(chain, start)
            case Remainder(start):
                return segment.rest(start, self.clock())

    def _next(self, key: str) -> int:
        return segments.next_offset(key, footer(self.storage, key))

    def _measure(self, now: float) -> None:
        self.held = sum(segment.held for segment in self._open.values())
        self.oldest = min((each.since for each in self._open.values() if each.since is not None), default=None)
        metrics.HELD_BYTES.set(self.held)
        metrics.COMMIT_AGE.set(0 if self.oldest is None else now - self.oldest)
