"""The retry agent: deliveries that wait for their next attempt, each at one endpoint only.

A record stays uncommitted in the retry topic until its delivery has ended, so a crash repeats at most what the table
did not know.  Waiting holds no worker: due times lie in a heap.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from heapq import heappop, heappush
from itertools import count
from random import Random
from typing import Any

from connectors.kafka import App, Batch, Pool, Window, on_partition_of
from pipelines import backoff, events, handover, retry_state
from pipelines.caller import Caller, Kind
from pipelines.dead_letters import bury
from pipelines.events import Event
from pipelines.format import Consumer
from pipelines.handover import HandOver, MalformedError
from pipelines.outcome import CutOff, Delivered, Rejected, Retryable
from pipelines.retry_state import RetryState
from pipelines.routing import Endpoint, Route

#: Statuses of dead letters that were never called, in place of a gRPC status.
MALFORMED, GONE = "MALFORMED", "GONE"
#: Seconds between two looks at what holds a retry up: a breaker, a copy under way, a DLQ that takes no spent ones.
RECHECK = 1.0
#: Rows of ended deliveries that a rebalance left behind are removed after this many seconds.
ROW_AGE = 3600.0


@dataclass(slots=True)
class Retry:
    """One record of the retry topic.  ``given`` is what its headers say."""

    batch: Batch
    index: int
    offset: int
    event: Event
    given: HandOver
    key: bytes
    openings: int = 0


class RetryAgent:
    """Runs in ``app``, the child of the consumer's app; shares ``caller`` with the delivery agent."""

    def __init__(
        self,
        app: App,
        consumer: Consumer,
        routes: Mapping[str, Route],
        table: Any,
        caller: Caller,
        rng: Random,
    ) -> None:
        self.app, self.consumer, self.table, self.caller, self.rng = app, consumer, table, caller, rng
        self.endpoints: dict[str, Endpoint] = {}
        self.types: dict[str, str] = {}
        for route in routes.values():
            for endpoint in route.endpoints:
                self.endpoints[endpoint.name], self.types[endpoint.name] = endpoint, route.event_type.name
        self.pool: Pool[Retry] = Pool(app, self.handle, max(1, consumer.max_in_flight))
        self._waiting: list[tuple[float, int, Retry]] = []
        self._order = count()
        self._calling: set[bytes] = set()
        self._ended: list[tuple[Window, int, Batch, bytes]] = []
        self._latest: dict[int, Batch] = {}
        self._sooner = asyncio.Event()

    @property
    def backlog(self) -> int:
        """Deliveries that wait."""
        return len(self._waiting)

    # -- intake

    async def run(self, batches: AsyncIterator[Batch]) -> None:
        async for batch in batches:
            self._latest[batch.tp.partition] = batch
            for index, record in enumerate(batch.records):
                if not (self.app.gate.open and batch.live):
                    break
                self._receive(batch, index, record)

    def _receive(self, batch: Batch, index: int, record: Any) -> None:
        try:
            given = handover.parse(record.headers)
        except MalformedError as error:
            given = HandOver(self.consumer.name, "", record.topic, record.partition, record.offset)
            self._give_up_unread(batch, index, given, MALFORMED, f"malformed retry record: {error}")
            return
        if given.endpoint not in self.endpoints:
            text = f"endpoint {given.endpoint} is not in the configuration of {self.consumer.name} any more"
            self._give_up_unread(batch, index, given, GONE, text)
            return
        if record.value is None:  # an empty payload is an event, a null one is none
            self._give_up_unread(batch, index, given, MALFORMED, "malformed retry record: its value is null")
            return
        event = events.read(record, self.types[given.endpoint])
        key = retry_state.key(event.id, given.endpoint, given.generation)
        retry = Retry(batch, index, record.offset, event, given, key)
        row = self._row(retry)
        if row:
            self._wait(retry, row.due)
        elif given.attempts:
            self._wait(retry, record.timestamp / 1000 + self._pause(1))
        else:
            self._wait(retry, 0.0)

    def _pause(self, attempt: int) -> float:
        told = self.consumer.retry_backoff
        return backoff.equal_jitter(attempt, told.initial, told.max, self.rng)

    # -- waiting

    def _wait(self, retry: Retry, due: float) -> None:
        heappush(self._waiting, (due, next(self._order), retry))
        if self._waiting[0][2] is retry:
            self._sooner.set()

    async def wait_for_due(self) -> None:
        """Move what is due to the workers; drop what is not ours any more."""
        while not self.app.should_stop:
            while self._waiting and (self._waiting[0][0] <= time.time() or not self._waiting[0][2].batch.live):
                retry = heappop(self._waiting)[2]
                if retry.batch.live:
                    await self.pool.put(retry)
            self._sooner.clear()
            pause = min(1.0, self._waiting[0][0] - time.time()) if self._waiting else 1.0
            try:
                await asyncio.wait_for(self._sooner.wait(), max(pause, 0.001))
            except TimeoutError:
                continue

    # -- work

    async def handle(self, retry: Retry) -> None:
        """One attempt, if it is still needed."""
        gate = self.app.gate
        if not (gate.open and retry.batch.live):
            return
        if retry.key in self._calling:
            self._wait(retry, time.time() + RECHECK)  # a copy of this record is under way
            return
        gate.begin()
        self._calling.add(retry.key)
        try:
            await self._advance(retry)
        finally:
            self._calling.discard(retry.key)
            gate.end()

    async def _advance(self, retry: Retry) -> None:
        row = self._row(retry)
        if row and row.done:
            self._finish(retry)
            return
        state = row or RetryState(retry.given, 0.0, time.time())
        if self._spent(retry, state.delivery):
            await self._bury_when_allowed(retry, state)
            return
        endpoint, delivery = self.endpoints[retry.given.endpoint], state.delivery
        result = await self.caller.attempt(
            endpoint,
            retry.event.id,
            retry.event.value or b"",
            (*retry.event.metadata, events.attempt_number(delivery.attempts + 1)),
            kind=Kind.RETRY,
            openings=retry.openings,
            wait=False,  # one endpoint's breaker must not hold the workers of all
        )
        if not retry.batch.live:
            return  # never write a partition that may have another owner
        now = time.time()
        match result:
            case Delivered():
                self._save(retry, replace(state, at=now, done="delivered"))
                self._finish(retry)
            case Rejected(status, message):
                await self._bury(retry, delivery.failed(status, message, now))
            case Retryable(status, message):
                delivery = delivery.failed(status, message, now)
                due = now + self._pause(delivery.attempts - retry.given.attempts + 1)
                state = RetryState(delivery, due, now)
                self._save(retry, state)
                if self._spent(retry, delivery):
                    await self._bury_when_allowed(retry, state)
                else:
                    self._wait(retry, due)
            case CutOff(openings):
                retry.openings = openings
                self._wait(retry, now + RECHECK * self.rng.uniform(1, 3))

    def _spent(self, retry: Retry, delivery: HandOver) -> bool:
        return delivery.attempts - retry.given.attempts >= self.consumer.max_retry_attempts

    # -- ends

    async def _bury_when_allowed(self, retry: Retry, state: RetryState) -> None:
        """The DLQ takes spent deliveries only while their endpoint succeeds, so that an outage does not fill it."""
        if self.caller.take_dlq_token(retry.given.endpoint):
            await self._bury(retry, state.delivery)
        else:
            self._wait(retry, time.time() + RECHECK)

    async def _bury(self, retry: Retry, delivery: HandOver) -> None:
        if await bury(self.app, retry.batch, self.consumer, retry.event, delivery):
            self._save(retry, RetryState(delivery, 0.0, time.time(), done="dead"))
            self._finish(retry)

    def _give_up_unread(self, batch: Batch, index: int, given: HandOver, status: str, text: str) -> None:
        self.pool.aside(self._bury_unread(batch, index, given.ended(status, text, time.time())))

    async def _bury_unread(self, batch: Batch, index: int, delivery: HandOver) -> None:
        self.app.gate.begin()
        try:
            event = events.read(batch.records[index], "")
            if await bury(self.app, batch, self.consumer, event, delivery) and batch.live:
                batch.done(index)
        finally:
            self.app.gate.end()

    def _finish(self, retry: Retry) -> None:
        if retry.batch.live:
            retry.batch.done(retry.index)
            self._ended.append((retry.batch.window, retry.offset, retry.batch, retry.key))

    # -- table

    def _row(self, retry: Retry) -> RetryState | None:
        with on_partition_of(retry.batch):
            row = self.table.get(retry.key)
        return RetryState.from_bytes(row) if row else None

    def _save(self, retry: Retry, state: RetryState) -> None:
        if retry.batch.live:
            with on_partition_of(retry.batch):
                self.table[retry.key] = state.to_bytes()

    def sweep(self) -> None:
        """Remove rows whose records are committed: until then a record that is read again must find its row."""
        keep = []
        for ended in self._ended:
            window, offset, batch, key = ended
            if not window.live:
                continue
            if (window.committed or 0) <= offset:
                keep.append(ended)
            else:
                with on_partition_of(batch):
                    self.table.pop(key, None)
        self._ended = keep

    async def sweep_old(self) -> None:
        """Remove ended rows that a rebalance kept from ``sweep``."""
        old, partitions = time.time() - ROW_AGE, await self.app.partitions_of(self.consumer.retry_topic)
        for key, row in list(self.table.items()):
            state = RetryState.from_bytes(row)
            batch = self._latest.get(handover.retry_partition(retry_state.event_id(key), partitions))
            if state.done and state.at < old and batch and batch.live:
                with on_partition_of(batch):
                    self.table.pop(key, None)
