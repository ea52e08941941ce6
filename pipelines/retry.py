"""The retry agent: deliveries that wait for their next attempt, each at one endpoint only.

A record stays uncommitted in the retry topic until its delivery has ended, so a crash repeats at most what the table
did not know.  Waiting holds no worker (``backlog``).
"""

import time
from collections import Counter
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from random import Random
from typing import Any

import structlog

from connectors.kafka import App, Batch, Pool
from pipelines import backoff, events, handover, retry_state
from pipelines.backlog import RECHECK, Backlog, Waiter
from pipelines.caller import Caller, Kind, never
from pipelines.dead_letters import bury
from pipelines.events import Event
from pipelines.format import Consumer
from pipelines.handover import HandOver, MalformedError
from pipelines.outcome import CutOff, Delivered, Rejected, Retryable
from pipelines.retry_rows import Rows
from pipelines.retry_state import RetryState
from pipelines.routing import Endpoint, Route
from pipelines.versions import NewerVersion

log = structlog.get_logger()

#: Statuses of dead letters that were never called, in place of a gRPC status.
MALFORMED, GONE = "MALFORMED", "GONE"


@dataclass(frozen=True, slots=True)
class Retry:
    """One delivery whose turn it is.  ``given`` is what the headers of its record say; ``key`` its row's."""

    waiter: Waiter
    event: Event
    given: HandOver
    key: bytes

    @property
    def batch(self) -> Batch:
        return self.waiter.batch


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
        self.app, self.consumer, self.caller, self.rng = app, consumer, caller, rng
        self.endpoints: dict[str, Endpoint] = {}
        self.types: dict[str, str] = {}
        for route in routes.values():
            for endpoint in route.endpoints:
                self.endpoints[endpoint.name], self.types[endpoint.name] = endpoint, route.event_type.name
        self.pool: Pool[Waiter] = Pool(app, self.handle, consumer.max_in_flight)
        self.rows = Rows(app, consumer, table)
        self.backlog = Backlog(app, consumer.name, consumer.retry_topic, self.pool)
        self._calling: set[bytes] = set()
        self._left: list[tuple[Batch, int, NewerVersion]] = []

    # -- intake

    async def run(self, batches: AsyncIterator[Batch]) -> None:
        async for batch in batches:
            self.rows.received(batch)
            for index, record in enumerate(batch.records):
                if not (self.app.gate.open and batch.live):
                    break
                try:
                    self._receive(batch, index, record)
                except NewerVersion as newer:
                    self._leave(batch, record.offset, newer)

    def _receive(self, batch: Batch, index: int, record: Any) -> None:
        """Let a record wait for its next attempt, or give it up.  Raises NewerVersion."""
        try:
            given = handover.parse(record.headers)
        except MalformedError as error:
            given = HandOver(self.consumer.name, "", record.topic, record.partition, record.offset)
            self._give_up_unread(batch, index, given, MALFORMED, f"malformed retry record: {error}")
            return
        if given.consumer != self.consumer.name:
            text = f"malformed retry record: it is of consumer {given.consumer}, not of {self.consumer.name}"
            self._give_up_unread(batch, index, given, MALFORMED, text)
            return
        if given.endpoint not in self.endpoints:
            text = f"endpoint {given.endpoint} is not in the configuration of {self.consumer.name} any more"
            self._give_up_unread(batch, index, given, GONE, text)
            return
        if record.value is None:  # an empty payload is an event, a null one is none
            self._give_up_unread(batch, index, given, MALFORMED, "malformed retry record: its value is null")
            return
        event = events.read(record, self.types[given.endpoint])
        if refusal := events.refusal(event, self.types[given.endpoint], self.consumer.max_message_bytes):
            self._give_up_unread(batch, index, given, events.REFUSED, refusal)
            return
        waiter, due = Waiter(batch, index, record.offset, self.endpoints[given.endpoint].name), 0.0
        row = self.rows.get(batch, retry_state.key(event.id, given.endpoint, given.generation))
        if row:
            waiter.spent = self._spent(given, row.delivery)
            due = min(row.due, time.time() + self.consumer.retry_backoff.max)
        elif given.attempts:
            # Never the record's time alone: a clock that runs ahead would hold it as long.
            due = min(record.timestamp / 1000, time.time()) + self._pause(1)
        self.backlog.wait(waiter, due)

    def _pause(self, attempt: int) -> float:
        told = self.consumer.retry_backoff
        return backoff.equal_jitter(attempt, told.initial, told.max, self.rng)

    # -- work

    async def handle(self, waiter: Waiter) -> None:
        """One attempt, if it is still needed."""
        gate, lot = self.app.gate, waiter.lot
        await self.app.rows_sent()
        if not (gate.open and waiter.batch.live):
            return
        retry = self._retry(waiter)
        if retry.key in self._calling:
            self.backlog.wait(waiter, time.time() + RECHECK)  # a copy of this record is under way
            return
        gate.begin()
        self._calling.add(retry.key)
        try:
            followers = await self._advance(retry)
        finally:
            self._calling.discard(retry.key)
            gate.end()
        self.backlog.let_out(lot, followers)

    def _retry(self, waiter: Waiter) -> Retry:
        record = waiter.batch.records[waiter.index]
        given, event = handover.parse(record.headers), events.read(record, self.types[waiter.endpoint])
        return Retry(waiter, event, given, retry_state.key(event.id, given.endpoint, given.generation))

    async def _advance(self, retry: Retry) -> int:
        """One attempt, or its end.  How many may follow that wait for the same: none if it was turned away."""
        row = self.rows.get(retry.batch, retry.key)
        if row and row.done:
            self._finish(retry)
            return 1
        state = row or RetryState(retry.given, 0.0, time.time())
        if self._spent(retry.given, state.delivery):
            return await self._bury_when_allowed(retry, state)
        endpoint, delivery = self.endpoints[retry.given.endpoint], state.delivery
        result = await self.caller.attempt(
            endpoint,
            retry.event.id,
            retry.event.value or b"",
            (*retry.event.metadata, events.attempt_number(delivery.attempts + 1)),
            kind=Kind.RETRY,
            openings=retry.waiter.openings,
            waits=never,  # one endpoint's breaker must not hold the workers of all
        )
        if not retry.batch.live:
            return 0  # never write a partition that may have another owner
        now = time.time()
        match result:
            case Delivered():
                self.rows.put(retry.batch, retry.key, replace(state, at=now, done="delivered"))
                self._finish(retry)
                followers = 2
            case Rejected(status, message):
                await self._bury(retry, delivery.failed(status, message, now))
                followers = 2
            case Retryable(status, message):
                delivery = delivery.failed(status, message, now)
                due = now + self._pause(delivery.attempts - retry.given.attempts + 1)
                state = RetryState(delivery, due, now)
                self.rows.put(retry.batch, retry.key, state)
                if self._spent(retry.given, delivery):
                    retry.waiter.spent = True
                    await self._bury_when_allowed(retry, state)
                else:
                    self.backlog.wait(retry.waiter, due)
                followers = 1
            case CutOff(openings):
                retry.waiter.openings = openings
                self.backlog.park(retry.waiter)
                followers = 0
        return followers

    def _spent(self, given: HandOver, delivery: HandOver) -> bool:
        return delivery.attempts - given.attempts >= self.consumer.max_retry_attempts

    # -- what a newer worker must take

    @property
    def waiting(self) -> int:
        """Records that wait: for their time, for a breaker, for a newer worker."""
        return len(self.backlog) + sum(batch.live for batch, _, _ in self._left)

    def _leave(self, batch: Batch, offset: int, newer: NewerVersion) -> None:
        """Neither done nor given up: its offset is not committed, so whoever has the partition next reads it again."""
        first = not any(left.window is batch.window for left, _, _ in self._left)
        self._left.append((batch, offset, newer))
        if first:
            self.alarm()

    def alarm(self) -> None:
        """Say for each partition, again and again, that records of it are left to a newer worker."""
        self._left = [each for each in self._left if each[0].live]
        counts = Counter(batch.tp for batch, _, _ in self._left)
        firsts = {batch.tp: (offset, newer) for batch, offset, newer in reversed(self._left)}
        for tp, (offset, newer) in firsts.items():
            log.error(
                "retries cannot be read and wait",
                consumer=self.consumer.name,
                topic=tp.topic,
                partition=tp.partition,
                offset=offset,
                records=counts[tp],
                reason=str(newer),
            )

    def sweep(self) -> None:
        """See ``Rows.sweep``; what is left takes memory."""
        self.rows.sweep()
        self.backlog.row_bytes = self.rows.size

    # -- ends

    async def _bury_when_allowed(self, retry: Retry, state: RetryState) -> int:
        """The DLQ takes spent deliveries only while their endpoint succeeds, so that an outage does not fill it."""
        if not self.caller.take_dlq_token(retry.given.endpoint):
            self.backlog.park(retry.waiter)
            return 0
        await self._bury(retry, state.delivery)
        return 2

    async def _bury(self, retry: Retry, delivery: HandOver) -> None:
        if await bury(self.app, retry.batch, self.consumer, retry.event, delivery):
            self.rows.put(retry.batch, retry.key, RetryState(delivery, 0.0, time.time(), done="dead"))
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
            retry.batch.done(retry.waiter.index)
            self.rows.ended(retry.batch, retry.waiter.offset, retry.key)
