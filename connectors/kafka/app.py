"""Faust's App on the batch transport."""

import asyncio
import contextlib
import faulthandler
import gc
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from functools import partial
from typing import Any

import faust
import structlog
from faust import streams
from faust.types import TP
from mode.loop import use as use_loop
from mode.utils.objects import cached_property

from connectors import logs
from connectors.access import Access
from connectors.kafka import rights
from connectors.kafka.consumer import Consumer
from connectors.kafka.gate import Bounds, Gate
from connectors.kafka.guard import Guard
from connectors.kafka.holds import Holds
from connectors.kafka.producer import UNSENT, HandOvers, Producer
from connectors.kafka.rights import NO_NEEDS, Needs
from connectors.kafka.stock import BatchSchema, BootStrategy, Flow, credentials
from connectors.kafka.thread import ConsumerThread
from connectors.kafka.window import Batch
from connectors.problems import Problem, Refused, Unreachable

if streams._CStreamIterator is None:  # type: ignore[attr-defined] # set by an optional import
    raise ImportError("Faust's compiled streams are missing: its Python ones acknowledge events they skipped")

log = structlog.get_logger("waybill.engine")

#: Answers, for partitions just assigned, where each must go on.
StartOffsets = Callable[[set[TP]], Awaitable[dict[TP, int]]]

#: Seconds for the commit at the end of a drain.
COMMIT_TIMEOUT = 10.0
#: Seconds to wait for Kafka before saying that it is away; a stop waits as long.
START_TIMEOUT = 3.0
#: What a person does about a held partition of a consumer group.
WAY_OUT = "stop all workers of the group, move it on with `waybill consumer skip`, and start them again"
#: Bytes a record may have before it is compressed; afterwards its topic decides.
LARGEST_RECORD = 1 << 30


class App(faust.App):
    """A Faust app whose agents get batches (``consume``).

    ``drain_timeout`` (s) must exceed the longest piece of work.  ``start_offsets`` says where assigned partitions go
    on; without it, where the group has committed.  ``needs`` names topics without which the worker does not start,
    ``wants`` those that it reads as soon as they are there; nor does it start without the rights to do so.  One that is
    ``read_only`` hands nothing over and needs no right to write.
    ``fetch_bytes`` bounds what is fetched ahead, over all partitions.  Each has an equal share of it, or, with
    ``fetch_together``, what the others leave: for agents that never leave one partition unread.

    ``way_out`` tells a person what to do about a held partition (``holds``).  ``stall_timeout``: seconds after which
    the worker ends itself if it stands still (``watchdog``).

    ``prepare`` takes steps that must be done before the group is joined: they run in order, in a thread, once they see
    that the topics are there.  One that raises Unreachable is tried again until Kafka answers; any other Problem is
    logged and ends the process with status 1.
    """

    BootStrategy = BootStrategy

    def __init__(
        self,
        id: str,  # noqa: A002 - Faust's name
        *,
        broker: Access,
        bounds: Bounds,
        drain_timeout: float,
        start_offsets: StartOffsets | None = None,
        needs: Needs = NO_NEEDS,
        wants: Sequence[str] = (),
        read_only: bool = False,
        way_out: str = WAY_OUT,
        stall_timeout: float = 300.0,
        fetch_max_wait_ms: int = 100,
        fetch_bytes: int = 50 << 20,
        fetch_together: bool = False,
        **options: Any,
    ) -> None:
        use_loop("uvloop")  # before Faust makes its loop; a quarter more events for a CPU-second
        self.batch_topics: set[str] = set()
        self.bounds, self.drain_timeout, self.commit_timeout = bounds, drain_timeout, COMMIT_TIMEOUT
        self.start_offsets, self.access, self.way_out = start_offsets, broker, way_out
        self.needs, self.wants, self.read_only = needs, wants, read_only
        self.fetch_bytes, self.fetch_together = fetch_bytes, fetch_together
        self.prepare: list[Callable[[], None]] = []
        self.stall_timeout = stall_timeout
        self.assigned: frozenset[TP] | None = None  # None before the first assignment
        self.assigned_positions: dict[TP, int] = {}
        #: Where partitions of this assignment were put back to; what is committed may have moved since.
        self.put_back: dict[TP, int] = {}
        self.hand_overs = HandOvers()
        #: Says what waits on purpose and may wait for long, if something does (see ``watchdog``).
        self.on_purpose: list[Callable[[], str | None]] = []
        #: What a preparation waits for, if one does.
        self.waits_to_start = ""
        #: How often somebody who waited for a worker of a pool got one.
        self.turns = 0
        self.assigning = asyncio.Lock()
        # Debezium's transactions: aborted records must not be delivered.  Faust offers this only with exactly_once.
        self.consumer_overrides = {
            "_isolation_level": "read_committed",
            "_fetch_max_wait_ms": fetch_max_wait_ms,
            "_fetch_max_bytes": fetch_bytes,
        }
        defaults = {
            "autodiscover": False,
            "broker_commit_interval": 1.0,
            "broker_max_poll_records": 500,
            "broker_rebalance_timeout": max(60.0, drain_timeout + COMMIT_TIMEOUT + 10.0),
            "consumer_auto_offset_reset": "none",  # see ConsumerThread._place_lost
            # A leader that saw no metadata right after a broker's restart assigned nothing for five minutes.
            "consumer_metadata_max_age_ms": 10_000,
            "logging_config": logs.config(),
            "key_serializer": "raw",
            "value_serializer": "raw",
            # What came in compressed must fit where it is handed over to.
            "producer_compression_type": "zstd",
            "producer_max_request_size": LARGEST_RECORD,
            "producer_request_timeout": 60.0,  # Faust's own is 20 minutes
            "store": "memory://",
            "stream_wait_empty": False,
            "table_standby_replicas": 0,
            "topic_allow_declare": False,
            "topic_disable_leader": True,
            "worker_redirect_stdouts": False,
        }
        super().__init__(
            id, broker=f"kafka://{broker}", broker_credentials=credentials(broker), **{**defaults, **options}
        )

    async def on_first_start(self) -> None:
        """Wait until Kafka answers; end the process if a topic is missing (Faust would just read nothing) or a
        preparation fails.
        """
        # Records come and go by the thousand and hold no cycles: looking for some costs a tenth of a worker's time.
        gc.set_threshold(50_000, 20, 100)
        self.guard.begin()
        self.add_future(self.guard.pulse())
        for step in (self._check_needs, *self.prepare):
            await self._once_reachable(step)
        await super().on_first_start()

    async def _once_reachable(self, step: Callable[[], None]) -> None:
        """Run ``step`` in a thread until Kafka is there for it.  Another problem, a refusal too, ends the process."""
        while not self.should_stop:
            try:
                await asyncio.to_thread(step)
            except Problem as problem:
                if isinstance(problem, Unreachable) and not isinstance(problem, Refused):
                    self.waits_to_start = str(problem)
                    log.warning("waiting for Kafka", group=self.conf.id, error=str(problem))
                    await asyncio.sleep(1.0)
                    continue
                log.error("the worker cannot start", group=self.conf.id, error=str(problem))  # noqa: TRY400 - says what to do; a traceback would not
                raise SystemExit(1) from None
            else:
                self.waits_to_start = ""
                return

    def _check_needs(self) -> None:
        rights.check(self.access, self.conf.id, self.needs, self.wants, START_TIMEOUT)

    @cached_property
    def gate(self) -> Gate:
        return Gate(self.conf.id, self.bounds, self.drain_timeout)

    @cached_property
    def holds(self) -> Holds:
        return Holds(self.conf.id, self.way_out)

    @cached_property
    def guard(self) -> Guard:
        return Guard(self, self.stall_timeout)

    @property
    def excuses(self) -> tuple[str, ...]:
        """What waits on purpose."""
        told = [self.waits_to_start, *(waits() for waits in self.on_purpose)]
        if self.gate.sleeping:
            told.append(f"{self.gate.sleeping} pieces of work wait for their next try")
        if self.should_stop:
            told.append("the worker stops")
        return tuple(filter(None, told))

    @property
    def recovered(self) -> int:
        """Grows while tables are read again."""
        tables: Any = self.tables
        return sum(filter(None, tables.recovery.active_offsets.values())) if tables else 0

    @property
    def loops(self) -> list[asyncio.AbstractEventLoop]:
        """Those of this app: its own, and that of its consumer's thread."""
        consumer: Any = self._consumer
        return [self.loop, consumer._thread.thread_loop] if consumer else [self.loop]

    @property
    def member_id(self) -> str:
        consumer: Any = self._consumer
        return consumer.member_id if consumer else ""

    @cached_property
    def flow_control(self) -> Flow:
        return Flow(loop=self.loop)

    def _create_directories(self) -> None:
        """None are needed: tables live in memory and are read again from their changelogs."""

    def _new_transport(self) -> Any:
        transport: Any = super()._new_transport()
        transport.Consumer, transport.Producer = Consumer, Producer
        return transport

    def consume(self, run: Callable[[AsyncIterator[Batch]], Awaitable[None]], *topics: str, name: str) -> None:
        """Declare the agent ``name``: ``run`` gets the batches of ``topics``.

        What it raises crashes the app; Faust itself would restart the agent behind the batch that failed.
        """
        self.batch_topics.update(topics)

        @self.agent(self.topic(*topics, schema=BatchSchema()), name=name)
        async def agent(stream: Any) -> None:
            try:
                await run(_batches(stream))
            except Exception as error:  # noqa: BLE001 - see above
                await self.crash(error)

    def origin(self, tp: TP) -> int | None:
        """Where the first fetch of ``tp`` must begin, if that is known."""
        if self.start_offsets:
            return self.assigned_positions.get(tp)
        consumer: Any = self.consumer
        committed: int | None = consumer._committed_offset.get(tp)
        return self.put_back.get(tp, committed)

    async def place(self, thread: ConsumerThread, assigned: set[TP]) -> None:
        """Put newly assigned partitions where ``start_offsets`` says, whatever the group has committed."""
        self.assigned, self.assigned_positions, self.put_back = frozenset(assigned), {}, {}
        if self.start_offsets and assigned:
            try:
                self.assigned_positions = await self.start_offsets(assigned)
                await thread.seek_all(self.assigned_positions)
            except Exception as error:
                # aiokafka swallows what a rebalance callback raises and would go on at the group's offset.
                await self.crash(error)
                raise
        topics = sorted({tp.topic for tp in assigned})
        log.info("partitions were assigned", group=self.conf.id, partitions=len(assigned), topics=topics)

    async def reassign(self) -> None:
        """Give the partitions up and have them assigned again, as in any rebalance."""
        consumer: Any = self.consumer
        await consumer._thread.rejoin()

    async def hand_over(
        self,
        batch: Batch,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes | None]],
        partition: int | None = None,
    ) -> bool:
        """Produce one record of ``batch``'s and wait until all in-sync brokers have it, however long that takes.

        False only if the partition is no longer ours: then nothing is committed and the next owner does it again.
        """
        producer = await self.maybe_start_producer()
        if key is None and value is None:
            key = b""  # aiokafka refuses a record without either, which would hold its partition for ever
        send = partial(producer.send_and_wait, topic, key, value, partition, None, list(headers))
        return await self.hand_overs.persist(topic, send, lambda: batch.live) is not None

    async def rows_sent(self) -> None:
        """Wait while too many rows of tables are on their way to Kafka; it may be away."""
        producer: Any = self.producer
        while producer.buffer.size > UNSENT and self.gate.open:  # noqa: ASYNC110 - the buffer tells nobody that it drains
            await asyncio.sleep(0.05)

    async def partitions_of(self, topic: str) -> int:
        """How many partitions a topic has that this app produces to; waits while it is missing."""
        producer: Any = await self.maybe_start_producer()
        ask = partial(producer._ensure_producer().partitions_for, topic)
        found: set[int] | None = await self.hand_overs.persist(topic, ask, lambda: True)
        assert found, "wanted until it is found"
        return len(found)

    async def stop(self) -> None:
        """Stop after an assignment that is under way.

        A stop that hangs all the same ends the process, with its stacks in the log.
        """
        faulthandler.dump_traceback_later(
            self.drain_timeout + COMMIT_TIMEOUT + 20.0, exit=True, file=sys.__stderr__ or sys.stderr
        )
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(COMMIT_TIMEOUT), self.assigning:
                    pass
            await super().stop()
        finally:
            self.guard.end()
            faulthandler.cancel_dump_traceback_later()

    async def _stop_consumer(self) -> None:
        if self._consumer is not None and self.gate.windows:
            await self.gate.drain(self._consumer.commit, self.commit_timeout)
        await super()._stop_consumer()


async def _batches(stream: Any) -> AsyncIterator[Batch]:
    """The batches of an agent's stream, none acknowledged by Faust.  Raises HoleError if one got lost on the way."""
    async for event in stream.noack().events():
        batch: Batch = event.value
        batch.event = event
        if batch.live:
            batch.window.received(batch)
            yield batch
