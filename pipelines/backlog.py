"""Retries that wait in this process: whole while there is room, else only where they lie in the retry topic.

Their records are uncommitted, so what is let go of here is read again when it is due.
"""

import asyncio
import time
from collections import defaultdict, deque
from collections.abc import Hashable
from dataclasses import dataclass

import structlog

from connectors.kafka import App, Batch, Forgotten, Pool
from connectors.kafka.again import Again
from connectors.problems import Unreachable
from pipelines import metrics
from pipelines.waiting import Waiting

log = structlog.get_logger()

#: Seconds between two looks at what holds a retry up: a copy under way, a Kafka that does not answer.
RECHECK = 1.0
#: Seconds between two looks for a record that Kafka has no more.
GONE_RECHECK = 60.0
#: Retries that are read again together at most.
TOGETHER = 500


@dataclass(slots=True, eq=False)
class Waiter:
    """One delivery of the retry topic.  ``spent``: its budget is; ``openings``: see CutOff."""

    batch: Batch
    index: int
    offset: int
    endpoint: str
    spent: bool = False
    openings: int = 0

    @property
    def lot(self) -> Hashable:
        """What can turn it away: the breaker of its endpoint, or, when it is spent, the DLQ."""
        return self.endpoint, self.spent


class Backlog:
    """Gives what is due to ``pool``, with its record in its batch."""

    def __init__(self, app: App, consumer: str, topic: str, pool: Pool[Waiter]) -> None:
        self.app, self.consumer, self.topic, self.pool = app, consumer, topic, pool
        #: Bytes of the table's rows, which count too.
        self.row_bytes = 0
        self._waiting: Waiting[Waiter] = Waiting()
        self._unread: deque[Waiter] = deque()
        self._reading = False
        self._again = Again(app.access, topic)
        self._sooner = asyncio.Event()
        app.gate.held_elsewhere = lambda: self.row_bytes
        app.gate.on_open.append(self._clear)

    def __len__(self) -> int:
        return len(self._waiting) + len(self._unread)

    def wait(self, waiter: Waiter, due: float) -> None:
        """Until ``due``, in seconds since the epoch."""
        self._waiting.add(waiter, due)
        self._lighten(waiter)
        if self._waiting.next_due == due:
            self._sooner.set()

    def park(self, waiter: Waiter) -> None:
        """Until somebody of its lot gets through."""
        self._waiting.park(waiter)
        self._lighten(waiter)

    def let_out(self, lot: Hashable, most: int) -> None:
        """Somebody of ``lot`` got through: others may follow."""
        self._waiting.let_out(lot, most)
        self._sooner.set()

    def knock(self) -> None:
        """One of each lot tries whether it gets through."""
        self._waiting.knock()
        self._sooner.set()

    async def run(self) -> None:
        """Give out what is due, as long as the app runs."""
        while not self.app.should_stop:
            while waiter := self._waiting.take(time.time()):
                if isinstance(waiter.batch.records[waiter.index], Forgotten):
                    self._unread.append(waiter)
                    self._read_again()
                else:
                    await self.pool.put(waiter)
            self._sooner.clear()
            pause = min(1.0, (self._waiting.next_due or float("inf")) - time.time())
            try:
                await asyncio.wait_for(self._sooner.wait(), max(pause, 0.001))
            except TimeoutError:
                continue

    async def close(self) -> None:
        await self._again.close()

    def _clear(self) -> None:
        self._waiting.clear()
        self._unread.clear()

    def _lighten(self, waiter: Waiter) -> None:
        """Whatever waits while half of what the app may hold is taken waits without its record."""
        if self.app.gate.load.held + self.row_bytes > self.app.bounds.held // 2:
            waiter.batch.forget(waiter.index)

    # -- what was let go of

    def _read_again(self) -> None:
        if not self._reading:
            self._reading = True
            self.pool.aside(self._read_all())

    async def _read_all(self) -> None:
        try:
            while self._unread and self.app.gate.open:
                together = [self._unread.popleft() for _ in range(min(TOGETHER, len(self._unread)))]
                if live := [waiter for waiter in together if waiter.batch.live]:
                    await self._read(live)
        finally:
            self._reading = False

    async def _read(self, waiters: list[Waiter]) -> None:
        wanted: defaultdict[int, list[int]] = defaultdict(list)
        for waiter in sorted(waiters, key=lambda waiter: waiter.offset):
            wanted[waiter.batch.tp.partition].append(waiter.offset)
        try:
            found = await self._again.read(wanted, self.app.bounds.held // 8)
        except Unreachable as problem:
            log.warning("retries that are due wait for Kafka", consumer=self.consumer, error=str(problem))
            for waiter in waiters:
                self._waiting.add(waiter, time.time() + RECHECK)
            return
        gone = set(found.gone)
        if gone:
            self._report(found.gone)
        metrics.READ_AGAIN.labels(self.consumer).inc(len(found.records))
        for waiter in waiters:
            place = waiter.batch.tp.partition, waiter.offset
            if not waiter.batch.live:
                continue
            if place in gone:
                self._waiting.add(waiter, time.time() + GONE_RECHECK)
            elif record := found.records.get(place):
                waiter.batch.replace(waiter.index, record)
                await self.pool.put(waiter)
            else:
                self._unread.append(waiter)

    def _report(self, gone: list[tuple[int, int]]) -> None:
        partition, offset = min(gone)
        log.error(
            "Kafka has no more what waits for a retry: retention took it; its partition's offset is held",
            consumer=self.consumer,
            topic=self.topic,
            records=len(gone),
            partition=partition,
            offset=offset,
        )
