"""The delivery agent: every event of a topic to every endpoint of one consumer.

A delivery leaves here in one of three ways: the consumer has it, the retry topic has it, or the DLQ has it, the latter
two acknowledged by the brokers.  When all deliveries of an event have left, its offset may be committed.

A delivery whose endpoint's breaker is open waits here, until it makes way (``_makes_way``): what waits for one endpoint
must not stop what goes to the others.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from random import Random

from connectors.kafka import App, Batch, Pool
from pipelines import backoff, events, handover, metrics
from pipelines.caller import Caller, never
from pipelines.dead_letters import bury
from pipelines.events import Event
from pipelines.format import Consumer
from pipelines.handover import HandOver
from pipelines.outcome import CutOff, Delivered, Outcome, Rejected, Retryable
from pipelines.routing import Endpoint, Route


class Left(Enum):
    """How a delivery left this agent."""

    DELIVERED = "delivered"
    HANDED_OVER = "handed over"
    LET_GO = "let go"  # a drain came first: the next owner of the partition goes on, or the retry topic


@dataclass(slots=True)
class Progress:
    """One event on its way to all its endpoints."""

    batch: Batch
    index: int
    event: Event
    refusal: str | None
    outstanding: int
    started: bool = False
    arrived: bool = False  # at some endpoint, or in a topic on its behalf
    let_go: list["Delivery"] = field(default_factory=list)

    @property
    def offset(self) -> int:
        """Of an event that is not done."""
        offset: int = self.batch.records[self.index].offset
        return offset


@dataclass(slots=True)
class Delivery:
    """One event to one endpoint.

    ``failures`` counts the attempts and holds the last one, None before the first; ``openings``: see CutOff.
    """

    progress: Progress
    endpoint: Endpoint
    failures: HandOver | None = None
    openings: int = 0


class DeliveryAgent:
    """Runs in ``app``; shares ``caller`` with the retry agent of the same consumer."""

    def __init__(self, app: App, consumer: Consumer, routes: Mapping[str, Route], caller: Caller, rng: Random) -> None:
        self.app, self.consumer, self.routes, self.caller, self.rng = app, consumer, routes, caller, rng
        self.pool: Pool[Delivery] = Pool(app, self.handle, consumer.max_in_flight)
        #: Events that a drain let go of and that arrived nowhere.
        self._let_go: list[Progress] = []
        app.gate.on_idle.append(self._close_gaps)

    async def run(self, batches: AsyncIterator[Batch]) -> None:
        """Take batches and put their deliveries before the workers."""
        gate = self.app.gate
        async for batch in batches:
            route = self.routes[batch.tp.topic]
            for index in range(batch.count):
                if not (gate.open and batch.live):
                    break
                progress = self._progress(batch, index, route)
                for endpoint in route.endpoints:
                    await self.pool.put(Delivery(progress, endpoint))

    def _progress(self, batch: Batch, index: int, route: Route) -> Progress:
        record = batch.records[index]
        event = events.read(record, route.event_type.name)
        return Progress(
            batch=batch,
            index=index,
            event=event,
            refusal=events.refusal(event, route.event_type.name, self.consumer.max_message_bytes),
            outstanding=len(route.endpoints),
        )

    # -- attempts

    async def handle(self, delivery: Delivery) -> None:
        """The first attempt, by a worker; everything slower goes aside."""
        progress = delivery.progress
        if not progress.started:
            progress.started = True
            self.app.gate.begin()
        if not (self.app.gate.open and progress.batch.live):
            await self._leave(delivery, Left.LET_GO)
        elif progress.refusal is not None:
            self.pool.aside(self._dead_letter(delivery, events.REFUSED, progress.refusal, called=False))
        else:
            match await self._attempt(delivery, never):
                case Delivered():
                    await self._leave(delivery, Left.DELIVERED)
                case result:
                    self.pool.aside(self._persist(delivery, result))

    async def _attempt(self, delivery: Delivery, waits: Callable[[], bool]) -> Outcome | CutOff:
        event, failures = delivery.progress.event, delivery.failures
        number = failures.attempts + 1 if failures else 1
        return await self.caller.attempt(
            delivery.endpoint,
            event.id,
            event.value or b"",
            (*event.metadata, events.attempt_number(number)),
            openings=delivery.openings,
            waits=waits,
        )

    def _state(self, delivery: Delivery) -> HandOver:
        return delivery.failures or handover.start(self.consumer.name, delivery.endpoint.name, delivery.progress.event)

    async def _persist(self, delivery: Delivery, result: Outcome | CutOff) -> None:
        """Go on after a first attempt that did not deliver, until the delivery has left."""
        memory, gate = self.consumer.in_memory_retry, self.app.gate
        while True:
            match result:
                case Delivered():
                    await self._leave(delivery, Left.DELIVERED)
                    return
                case Rejected(status, message):
                    await self._dead_letter(delivery, status, message, called=True)
                    return
                case Retryable(status, message):
                    failures = delivery.failures = self._state(delivery).failed(status, message, time.time())
                    if not result.in_memory or failures.attempts > memory.attempts:
                        await self._to_retry_topic(delivery)
                        return
                    await gate.sleep(backoff.full_jitter(failures.attempts, memory.initial, memory.max, self.rng))
                case CutOff(openings):
                    delivery.openings = openings
            if not (gate.open and delivery.progress.batch.live):
                await self._leave(delivery, Left.LET_GO)
                return
            if self._makes_way(delivery):
                await self._to_retry_topic(delivery)
                return
            result = await self._attempt(delivery, lambda: not self._makes_way(delivery))

    def _makes_way(self, delivery: Delivery) -> bool:
        """Whether it had better wait in the retry topic, unspent: here it holds the offset of an event others have."""
        return delivery.progress.arrived and self.app.gate.crowded() and self.caller.is_open(delivery.endpoint.name)

    # -- ways to leave

    async def _leave(self, delivery: Delivery, how: Left) -> None:
        """Account for a delivery; with the last of its event the offset may be committed, or is let go."""
        progress = delivery.progress
        progress.outstanding -= 1
        if how is Left.LET_GO:
            progress.let_go.append(delivery)
        else:
            progress.arrived = True
        if progress.outstanding:
            return
        if progress.let_go and progress.arrived:
            await self._hand_over_event(progress)  # who has the event must not get it again
        elif progress.batch.live:
            if progress.let_go:
                self._let_go.append(progress)
            else:
                progress.batch.done(progress.index)
        self.app.gate.end()

    async def _close_gaps(self) -> None:
        """Hand over, at the end of a drain, the events that were let go below others that are done.

        They would hold back the offsets of those, and whoever has them would get them again.
        """
        let_go, self._let_go = [event for event in self._let_go if event.batch.live], []
        reach = {event.batch.window: event.batch.window.reach for event in let_go}
        await asyncio.gather(
            *[self._hand_over_event(event) for event in let_go if event.offset < reach[event.batch.window]]
        )

    async def _hand_over_event(self, progress: Progress) -> None:
        """What a drain let go of goes on from the retry topic, with nothing spent."""
        handed = [await self._hand_over_to_retry(waiting) for waiting in progress.let_go]
        if all(handed) and progress.batch.live:
            progress.batch.done(progress.index)

    async def _to_retry_topic(self, delivery: Delivery) -> None:
        handed = await self._hand_over_to_retry(delivery)
        await self._leave(delivery, Left.HANDED_OVER if handed else Left.LET_GO)

    async def _hand_over_to_retry(self, delivery: Delivery) -> bool:
        event, topic = delivery.progress.event, self.consumer.retry_topic
        headers = handover.headers(event.headers, event.id, self._state(delivery))
        partition = handover.retry_partition(event.id, await self.app.partitions_of(topic))
        if not await self.app.hand_over(delivery.progress.batch, topic, event.key, event.value, headers, partition):
            return False
        metrics.HAND_OVERS.labels(self.consumer.name, delivery.endpoint.name).inc()
        return True

    async def _dead_letter(self, delivery: Delivery, status: str, message: str, *, called: bool) -> None:
        progress, now, state = delivery.progress, time.time(), self._state(delivery)
        state = state.failed(status, message, now) if called else state.ended(status, message, now)
        buried = await bury(self.app, progress.batch, self.consumer, progress.event, state)
        await self._leave(delivery, Left.HANDED_OVER if buried else Left.LET_GO)
