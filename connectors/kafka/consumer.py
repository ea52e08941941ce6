"""How records reach agents and what is committed: Faust's consumer with batches and done-prefix commits.

Every override stands for a loss, a stall or a crash that stock Faust or aiokafka showed on a real broker; its docstring
says which.  All names with an underscore are private to Faust and aiokafka: their versions are pinned exactly.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any

import structlog
from aiokafka.errors import KafkaConnectionError
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage

if TYPE_CHECKING:
    from connectors.kafka.app import App

log = structlog.get_logger("waybill.engine")

#: One fetch: the positions before and after it, and the records between them.
Fetched = dict[TP, tuple[int, int, list[Any]]]


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """aiokafka in its own thread and event loop."""

    app: "App"

    async def on_start(self) -> None:
        """Wait for a broker that is away; aiokafka gives up after one try."""
        await until_connected(super().on_start, self._close)

    async def _close(self) -> None:
        await self._ensure_consumer().stop()

    def _create_worker_consumer(self, transport: Any) -> Any:
        """Faust has no setting for these; aiokafka reads them when it starts."""
        consumer = super()._create_worker_consumer(transport)
        for name, value in self.app.consumer_overrides.items():
            if not hasattr(consumer, name):
                raise RuntimeError(f"aiokafka has no {name}: its version is not the pinned one")
            setattr(consumer, name, value)
        return consumer

    async def _fetch_records(
        self,
        consumer: Any,
        active_partitions: set[TP],
        timeout: float | None = None,  # noqa: ASYNC109 - Faust's signature
        max_records: int | None = None,
    ) -> Any:
        """Answer ``(epoch, Fetched)``: a fetch dated, in one step of this thread, by its epoch and its positions.

        A fetch that outlives a rebalance is answered by aiokafka from the *new* assignment, whose positions it moves.
        Dropping that answer skipped up to 6 % of the records, silently.  So they are put back, to the position before
        the fetch: on a transactional topic the first record returned may lie behind filtered ones.
        """
        epoch = self.app.rebalancing_count  # raised in this thread, before anything is revoked
        subscription = consumer._subscription.subscription
        assignment = subscription and subscription.assignment
        before = _positions(assignment, active_partitions)
        records = await super()._fetch_records(consumer, active_partitions, timeout=timeout, max_records=max_records)
        current = subscription and subscription.assignment
        if self.app.rebalancing_count != epoch or current is not assignment:
            for tp, got in records.items():
                start = self.app.assigned_positions.get(tp)
                if start is None:
                    start = await consumer.committed(tp)
                if start is None:
                    start = got[0].offset
                log.info(
                    "records fetched across a rebalance were put back", topic=tp.topic, partition=tp.partition, to=start
                )
                consumer._fetcher.seek_to(tp, start)
            return epoch, {}
        fetched = {}
        for tp, end in _positions(assignment, active_partitions).items():
            got = records.get(tp, [])
            if got or end != before.get(tp, end):
                fetched[tp] = (before.get(tp, got[0].offset if got else end), end, got)
        return epoch, fetched

    async def seek_to_committed(self) -> Mapping[TP, int]:
        """Leave batch topics where they are.

        Faust seeks in the middle of an assignment, sometimes while records already flow (faust issue 596).  A new
        assignment starts at the committed offset anyway; the positions of batch topics move by fetches only.
        """
        found: Mapping[TP, int] = await self.call_thread(self._seek_ordinary_topics)
        return found

    async def _seek_ordinary_topics(self) -> Mapping[TP, int]:
        consumer = self._ensure_consumer()
        committed = {tp: await consumer.committed(tp) for tp in consumer.assignment()}
        for tp, offset in committed.items():
            if offset and tp.topic not in self.app.batch_topics:
                consumer._fetcher.seek_to(tp, offset)
        return committed

    async def seek_all(self, offsets: Mapping[TP, int]) -> None:
        """Put partitions of a new assignment at ``offsets``, before anything of them was handed out."""

        async def seek() -> None:
            consumer = self._ensure_consumer()
            assigned = consumer.assignment()
            for tp, offset in offsets.items():
                if tp in assigned:
                    consumer._fetcher.seek_to(tp, offset)

        await self.call_thread(seek)

    async def keep_alive(self) -> None:
        """Show aiokafka that we live while nothing is fetched, else it leaves the group at max_poll_interval."""
        with self._ensure_consumer()._subscription.fetch_context():
            pass


async def until_connected(start: Callable[[], Awaitable[None]], close: Callable[[], Awaitable[None]]) -> None:
    """Call ``start`` until it finds a broker; ``close`` what found none."""
    while True:
        try:
            await start()
        except KafkaConnectionError as error:
            log.warning("waiting for Kafka", error=str(error))
            await close()
            await asyncio.sleep(1.0)
        else:
            return


def _positions(assignment: Any, active: Iterable[TP]) -> dict[TP, int]:
    if not assignment:
        return {}
    return {
        tp: state.position
        for tp in active
        if tp in assignment.tps and (state := assignment.state_value(tp)).has_valid_position
    }


def _event_of(batch: Any, last: Any, generation: int) -> ConsumerMessage:
    """The whole batch as the value of one message, at the offset of its last record."""
    tp = batch.tp
    return ConsumerMessage(
        tp.topic,
        tp.partition,
        last.offset,
        last.timestamp / 1000.0,
        last.timestamp_type,
        [],
        None,
        batch,
        None,
        0,
        0,
        tp,
        generation_id=generation,
    )


class Consumer(driver.Consumer):
    """Admits batches to the gate and commits what the windows say."""

    app: "App"
    _thread: ConsumerThread

    def _new_consumer_thread(self) -> ConsumerThread:
        return ConsumerThread(self, loop=self.loop, beacon=self.beacon)

    # -- intake

    async def _getmany(self, active_partitions: set[TP] | None, timeout: float) -> Any:  # noqa: ASYNC109 - Faust's signature
        """Fetch only partitions that have room.

        Stock backpressure sleeps a second when every buffer is full.  An empty set must never reach aiokafka, which
        reads it as "all".
        """
        gate = self.app.gate
        if gate.load.uncommitted >= gate.bounds.uncommitted // 2 and self._commit_fut is None and gate.dirty():
            self.add_future(self.commit())  # a crash repeats what is uncommitted: keep that small
        room = await gate.wait_room(timeout)
        wanted = {tp for tp in active_partitions or () if gate.has_room(tp)} if room else set()
        if not wanted:
            await self._thread.keep_alive()
            await asyncio.sleep(0.05)
            return 0, {}
        return await self._thread.getmany(wanted, timeout)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Any]]:  # noqa: ASYNC109 - Faust's signature
        """One event for each partition of a fetch; fetches of an older assignment are dropped (nobody lost them)."""
        got: Any
        got, active = await self._wait_next_records(timeout)
        if not got or self.should_stop or not self.flow_active:  # the next owner reads them again
            return
        epoch: int
        fetched: Fetched
        epoch, fetched = got
        app, gate = self.app, self.app.gate
        for tp, (start, end, records) in fetched.items():
            if app.rebalancing_count != epoch or not self.flow_active or self.should_stop:
                break
            if tp.topic not in app.batch_topics:
                if tp in (active or ()) or tp in self._buffered_partitions:
                    for record in records:
                        yield tp, self._to_message(tp, record)
                continue
            batch = gate.window(tp, app.origin(tp)).admit(records, start, end)
            app.monitor.track_tp_end_offset(tp, self.highwater(tp))
            if records:
                yield tp, _event_of(batch, records[-1], app.consumer_generation_id)

    async def perform_seek(self) -> None:
        """Faust drops, without a word, whatever lies below the group's offset: 2,803 of 967,500 records once."""
        await super().perform_seek()
        for tp in self._read_offset:
            if tp.topic in self.app.batch_topics:
                self._read_offset[tp] = None

    # -- commits: the done-prefix and nothing else

    async def _add_gap(self, *_: Any) -> None:
        """Stock Faust marks the event after a gap as acknowledged."""

    def _filter_tps_with_pending_acks(self, topics: Any = None) -> Iterator[TP]:
        dirty = [tp for tp in self.app.gate.dirty() if topics is None or tp in topics or tp.topic in topics]
        return chain(super()._filter_tps_with_pending_acks(topics), dirty)

    def _new_offset(self, tp: TP) -> int | None:
        if tp.topic in self.app.batch_topics:
            window = self.app.gate.windows.get(tp)
            return window.position if window else None
        offset: int | None = super()._new_offset(tp)
        return offset

    def _should_commit(self, tp: TP, offset: int) -> bool:
        """A position the broker refused once is offered again; stock Faust believes its own cache."""
        return tp.topic in self.app.batch_topics or super()._should_commit(tp, offset)

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        accepted: bool = await super()._commit(offsets)
        if accepted:
            self.app.gate.accepted(offsets)
        return accepted

    # -- rebalance

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Drain before Faust forgets offsets and clears queues: 29 % of a rebalance's events were repeated without."""
        if self.app.gate.windows:
            await self.app.gate.drain(self.commit, self.app.commit_timeout)
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        """Under the lock, and without a seek once the app stops: the thread would never answer, and the stop hang."""
        async with self.app.assigning:
            self.app.gate.reset()
            if not self.app.should_stop:
                await self.app.place(self._thread, {tp for tp in assigned if tp.topic in self.app.batch_topics})
            await super().on_partitions_assigned(assigned, generation_id)
