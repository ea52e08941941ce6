"""aiokafka in a thread of its own: what a fetch brings, and from where a partition is read.

Every override stands for a loss, a stall or a crash that stock Faust or aiokafka showed on a real broker; its docstring
says which.  All names with an underscore are private to Faust and aiokafka: their versions are pinned exactly.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import structlog
from aiokafka.consumer.fetcher import OffsetResetStrategy
from aiokafka.errors import (
    GroupAuthorizationFailedError,
    KafkaConnectionError,
    KafkaError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    TopicAuthorizationFailedError,
)
from aiokafka.structs import OffsetAndMetadata
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from connectors.kafka.connections import ask_without_making, know_closed_ones
from connectors.kafka.holds import Hold, judge
from connectors.kafka.records import read_any_header_name

if TYPE_CHECKING:
    from connectors.kafka.app import App

log = structlog.get_logger("waybill.engine")

read_any_header_name()
know_closed_ones()
ask_without_making()

#: Milliseconds to wait for the ends of a log; without an answer its partition asks again at the next fetch.
ENDS_TIMEOUT_MS = 10_000
#: Seconds to take leave of the group; without it the others wait for the session's timeout.
LEAVE_TIMEOUT = 5.0
#: Bytes fetched ahead of one partition at most; more would not be faster.
LARGEST_SHARE = 1 << 20
#: Answers of brokers that may be on their way at once where all partitions are fetched together.
PIECES = 4


@dataclass(frozen=True, slots=True)
class Fetch:
    """One fetch, made in ``epoch``.

    ``spans``: for each partition the positions before and after it, and the records between them.  ``holds``:
    partitions that cannot go on.
    """

    epoch: int
    spans: Mapping[TP, tuple[int, int, list[Any]]] = field(default_factory=dict)
    holds: Mapping[TP, Hold] = field(default_factory=dict)


class ConsumerThread(driver.AIOKafkaConsumerThread):
    """aiokafka in its own thread and event loop."""

    app: "App"

    async def on_start(self) -> None:
        """Wait for a broker that is away; aiokafka gives up after one try."""
        await until_connected(super().on_start, self._close)

    async def _close(self) -> None:
        await self._ensure_consumer().stop()

    async def on_thread_stop(self) -> None:
        """Leave the group; for a moment only, as aiokafka waits for a broker that is away however long it is.

        Where a fetch has just failed aiokafka's end is a CancelledError, with which this thread would end and tell
        nobody: the stop would wait for it.
        """
        leaving = asyncio.ensure_future(super().on_thread_stop())
        await asyncio.wait({leaving}, timeout=LEAVE_TIMEOUT)
        if not leaving.done():
            leaving.cancel()
            log.warning("Kafka does not answer a worker that leaves", group=self.app.conf.id)
        elif not leaving.cancelled() and (error := leaving.exception()):
            log.warning("a worker did not leave its group well", group=self.app.conf.id, error=repr(error))

    def close(self) -> None:
        """Leave it to the end of this thread, which stops aiokafka.

        Faust closes its connections from another thread: where one was just being read from, the process ended by a
        segmentation fault, in about one of six stops at a busy moment.
        """

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
        """Answer a ``Fetch``, dated in one step of this thread by its epoch and its positions.

        A fetch that outlives a rebalance is answered by aiokafka from the *new* assignment, whose positions it moves.
        Dropping that answer skipped up to 6 % of the records, silently.  So they are put back, to the position before
        the fetch: on a transactional topic the first record returned may lie behind filtered ones.
        """
        epoch = self.app.rebalancing_count  # raised in this thread, before anything is revoked
        subscription = consumer._subscription.subscription
        assignment = subscription and subscription.assignment
        before = _positions(assignment, active_partitions)
        lost: BaseException | None = None
        try:
            records = await super()._fetch_records(
                consumer, active_partitions, timeout=timeout, max_records=max_records
            )
        except (NoOffsetForPartitionError, OffsetOutOfRangeError) as error:
            records, lost = {}, error  # others may have moved all the same, past markers
        current = subscription and subscription.assignment
        if self.app.rebalancing_count != epoch or current is not assignment:
            for tp in _positions(current, active_partitions):  # some moved past markers without a record
                start = self.app.assigned_positions.get(tp)
                if start is None:
                    committed = await consumer.committed(tp)
                    start = self.app.assigned_positions.get(tp, committed)  # it may have been placed meanwhile
                if not current.active:  # the next assignment begins at what is committed, too
                    break
                if start is None:
                    continue
                log.info("a fetch across a rebalance was put back", topic=tp.topic, partition=tp.partition, to=start)
                consumer._fetcher.seek_to(tp, start)
                self.app.put_back[tp] = start
            return Fetch(epoch)
        fetched = {}
        for tp, end in _positions(assignment, active_partitions).items():
            got = records.get(tp, [])
            if got or end != before.get(tp, end):
                fetched[tp] = (before.get(tp, got[0].offset if got else end), end, got)
        return Fetch(epoch, fetched, await self._place_lost(consumer, assignment, lost) if lost else {})

    async def _place_lost(self, consumer: Any, assignment: Any, error: BaseException) -> Mapping[TP, Hold]:
        """Deal with partitions that aiokafka has no valid position for; what must be held is the answer.

        aiokafka can only reset by itself, to one end of the log: past what retention removed, without a word.
        """
        try:
            match error:
                case NoOffsetForPartitionError():
                    await self._begin(consumer, assignment, error.args[0])
                case OffsetOutOfRangeError():
                    return await self._out_of_range(consumer, assignment, error.args[0])
        except (GroupAuthorizationFailedError, TopicAuthorizationFailedError):
            raise  # a right was taken away; the next worker says which
        except KafkaError as problem:  # aiokafka tells of the partition again
            log.warning("a partition waits for its place in the log", group=self.app.conf.id, error=repr(problem))
        return {}

    async def _begin(self, consumer: Any, assignment: Any, tp: TP) -> None:
        """Start a partition without a committed offset at the start of its log.

        That is committed at once: retention that passes the group before its first record is settled must show.
        """
        state = assignment.state_value(tp)
        if state.has_valid_position:  # an error from before the last call
            return
        if tp.topic not in self.app.batch_topics:
            state.await_reset(OffsetResetStrategy.EARLIEST)
            return
        start = (await consumer._fetcher.beginning_offsets([tp], ENDS_TIMEOUT_MS))[tp]
        await consumer.commit({tp: OffsetAndMetadata(start, "")})
        if assignment.active and not state.has_valid_position:
            consumer._fetcher.seek_to(tp, start)

    async def _out_of_range(self, consumer: Any, assignment: Any, offsets: Mapping[TP, int]) -> Mapping[TP, Hold]:
        holds = {}
        for tp, offset in offsets.items():
            state = assignment.state_value(tp)
            if not state.has_valid_position or state.position != offset:  # moved since
                continue
            if tp.topic not in self.app.batch_topics:  # a table's changelog
                state.await_reset(OffsetResetStrategy.EARLIEST)
                continue
            starts = await consumer._fetcher.beginning_offsets([tp], ENDS_TIMEOUT_MS)
            if not offset and self.app.start_offsets:  # whoever places has nothing of it yet
                consumer._fetcher.seek_to(tp, starts[tp])
                continue
            ends = await consumer._fetcher.end_offsets([tp], ENDS_TIMEOUT_MS)
            if hold := judge(offset, starts[tp], ends[tp]):
                holds[TP(tp.topic, tp.partition)] = hold
        return holds

    def verify_event_path(self, now: float, tp: TP) -> None:
        """Leave it to the watchdog: Faust's own check takes a quiet or held partition for a broken one."""

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

    async def rejoin(self) -> None:
        """Join the group anew, as if it rebalanced."""
        await self.call_thread(self._ensure_consumer()._coordinator.request_rejoin)

    def share_buffers(self, partitions: int) -> None:
        """Bound what is fetched ahead; of each partition aiokafka holds one batch of records at least.

        Each partition has its share, whatever becomes of the others; where all are read together, all have the whole.
        """
        fetcher, whole = self._ensure_consumer()._fetcher, self.app.fetch_bytes
        if self.app.fetch_together:
            fetcher.bound, fetcher._fetch_max_bytes = whole, whole // PIECES
            partitions = PIECES
        fetcher.held = lambda: self.app.holds.held
        fetcher._max_partition_fetch_bytes = min(LARGEST_SHARE, whole // max(1, partitions))

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
