"""How records reach agents and what is committed: Faust's consumer with batches and done-prefix commits.

Every override stands for a loss, a stall or a crash that stock Faust or aiokafka showed on a real broker; its docstring
says which.  All names with an underscore are private to Faust and aiokafka: their versions are pinned exactly.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from itertools import chain
from typing import TYPE_CHECKING, Any

from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.types.tuples import ConsumerMessage

from connectors.kafka.thread import ConsumerThread

if TYPE_CHECKING:
    from connectors.kafka.app import App


def _message(tp: TP, record: Any, headers: Any, key: bytes | None, value: Any, generation: int) -> ConsumerMessage:
    """Faust's, of ``record``; nobody asks for the kind of its timestamp, its checksum and its sizes."""
    offset, seconds = record.offset, record.timestamp / 1000.0
    return ConsumerMessage(
        tp.topic, tp.partition, offset, seconds, 0, headers, key, value, None, 0, 0, tp, generation_id=generation
    )


class Consumer(driver.Consumer):
    """Admits batches to the gate and commits what the windows say."""

    app: "App"
    _thread: ConsumerThread

    @property
    def member_id(self) -> str:
        """Who this worker is to the group; nobody before it has joined."""
        consumer: Any = self._thread._consumer
        return consumer._coordinator.member_id if consumer else ""

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
        holds = self.app.holds
        wanted = {tp for tp in gate.with_room(active_partitions or ()) if tp not in holds} if room else set()
        if not wanted:
            await self._thread.keep_alive()
            await asyncio.sleep(0.05)
            return None
        return await self._thread.getmany(wanted, timeout)

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Any]]:  # noqa: ASYNC109 - Faust's signature
        """One event for each partition of a fetch; fetches of an older assignment are dropped (nobody lost them)."""
        if not self._active_partitions:  # aiokafka would take a worker without partitions for dead
            await self._thread.keep_alive()
        fetch: Any
        fetch, active = await self._wait_next_records(timeout)
        if not fetch or self.should_stop or not self.flow_active:  # the next owner reads them again
            return
        app, gate = self.app, self.app.gate
        if app.rebalancing_count == fetch.epoch:
            app.holds.add(fetch.holds)
        for tp, (start, end, records) in fetch.spans.items():
            if self._too_late(fetch, tp):
                break
            if tp.topic not in app.batch_topics:
                if tp in (active or ()) or tp in self._buffered_partitions:
                    for record in records:
                        yield tp, self._to_message(tp, record)
                continue
            batch = gate.window(tp, app.origin(tp)).admit(records, start, end)
            app.monitor.track_tp_end_offset(tp, self.highwater(tp))
            if records:
                # The whole batch as the value of one message, at the offset of its last record.
                yield tp, _message(tp, records[-1], [], None, batch, app.consumer_generation_id)

    def _too_late(self, fetch: Any, tp: TP) -> bool:
        """Whether ``tp`` is given up, or of another assignment than ``fetch``: who has it next reads it again."""
        app = self.app
        drained = tp.topic in app.batch_topics and not app.gate.open  # before a stop ends the fetching
        return app.rebalancing_count != fetch.epoch or not self.flow_active or self.should_stop or drained

    def _to_message(self, tp: TP, record: Any) -> ConsumerMessage:
        """A record of a table's changelog."""
        return _message(tp, record, record.headers, record.key, record.value, self.app.consumer_generation_id)

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
            self.app.holds.clear()
            self._thread.share_buffers(len(assigned))
            if not self.app.should_stop:
                await self.app.place(self._thread, {tp for tp in assigned if tp.topic in self.app.batch_topics})
            await super().on_partitions_assigned(assigned, generation_id)
