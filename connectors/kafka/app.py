"""Faust's App on the batch transport."""

import asyncio
import contextlib
import faulthandler
import gc
import sys
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import faust
import structlog
from faust import streams
from faust.app import base
from faust.serializers.schemas import Schema
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode.loop import use as use_loop
from mode.utils.objects import cached_property
from mode.utils.queues import FlowControlEvent

from connectors import logs
from connectors.kafka.admin import Topics
from connectors.kafka.consumer import Consumer, ConsumerThread, until_connected
from connectors.kafka.gate import Bounds, Gate
from connectors.kafka.window import Batch
from connectors.problems import Unreachable

if streams._CStreamIterator is None:  # type: ignore[attr-defined] # set by an optional import
    raise ImportError("Faust's compiled streams are missing: its Python ones acknowledge events they skipped")

log = structlog.get_logger("waybill.engine")

#: Answers, for partitions just assigned, where each must go on.
StartOffsets = Callable[[set[TP]], Awaitable[dict[TP, int]]]

#: Seconds for the commit at the end of a drain.
COMMIT_TIMEOUT = 10.0
#: Bytes of key, headers and framing that may come on top of the largest event.
HEADROOM = 128 << 10


class Producer(driver.Producer):
    async def on_start(self) -> None:
        """Wait for a broker that is away."""
        await until_connected(super().on_start, self._close)

    async def _close(self) -> None:
        await self._ensure_producer().stop()

    def _settings_extra(self) -> Mapping[str, Any]:
        """Faust asks for idempotence only under exactly_once."""
        return {"acks": "all", "enable_idempotence": True}


class Flow(FlowControlEvent):
    def resume(self) -> None:
        """Once only: a second call empties live queues (faust issue 596)."""
        if not self.is_active():
            super().resume()


class BatchSchema(Schema):  # type: ignore[type-arg] # neither key nor value is decoded
    """Lets batches pass undecoded: Faust acknowledges what it cannot decode."""

    def loads_key(self, app: Any, message: Any, **kwargs: Any) -> None:
        return None

    def loads_value(self, app: Any, message: Any, **kwargs: Any) -> Any:
        return message.value


class BootStrategy(base.BootStrategy):
    """The stock command line turns Faust's web server on, which shows table contents to anybody."""

    enable_web = False


class App(faust.App):
    """A Faust app whose agents get batches (``consume``).

    ``drain_timeout`` (s) must exceed the longest piece of work.  ``start_offsets`` says where assigned partitions go
    on; without it, where the group has committed.  ``max_message_bytes`` bounds what is produced, without headers.
    ``needs`` names topics without which the worker does not start.
    """

    BootStrategy = BootStrategy

    def __init__(
        self,
        id: str,  # noqa: A002 - Faust's name
        *,
        broker: str,
        bounds: Bounds,
        drain_timeout: float,
        max_message_bytes: int = 4 << 20,
        start_offsets: StartOffsets | None = None,
        needs: Sequence[str] = (),
        fetch_max_wait_ms: int = 100,
        **options: Any,
    ) -> None:
        use_loop("uvloop")  # before Faust makes its loop; a quarter more events for a CPU-second
        self.batch_topics: set[str] = set()
        self.bounds, self.drain_timeout, self.commit_timeout = bounds, drain_timeout, COMMIT_TIMEOUT
        self.start_offsets, self.needs, self.bootstrap = start_offsets, needs, broker
        self.assigned_positions: dict[TP, int] = {}
        self.assigning = asyncio.Lock()
        # Debezium's transactions: aborted records must not be delivered.  Faust offers this only with exactly_once.
        self.consumer_overrides = {"_isolation_level": "read_committed", "_fetch_max_wait_ms": fetch_max_wait_ms}
        defaults = {
            "autodiscover": False,
            "broker_commit_interval": 1.0,
            "broker_max_poll_records": 500,
            "broker_rebalance_timeout": max(60.0, drain_timeout + COMMIT_TIMEOUT + 10.0),
            "consumer_auto_offset_reset": "earliest",
            # A leader that saw no metadata right after a broker's restart assigned nothing for five minutes.
            "consumer_metadata_max_age_ms": 10_000,
            "logging_config": logs.config(),
            "key_serializer": "raw",
            "value_serializer": "raw",
            "producer_max_request_size": max_message_bytes + HEADROOM,
            "producer_request_timeout": 60.0,  # Faust's own is 20 minutes
            "store": "memory://",
            "stream_wait_empty": False,
            "table_standby_replicas": 0,
            "topic_allow_declare": False,
            "topic_disable_leader": True,
            "worker_redirect_stdouts": False,
        }
        super().__init__(id, broker=f"kafka://{broker}", **{**defaults, **options})

    async def on_first_start(self) -> None:
        """Wait until Kafka answers, and end the process if a topic is missing: Faust would just read nothing."""
        # Records come and go by the thousand and hold no cycles: looking for some costs a tenth of a worker's time.
        gc.set_threshold(50_000, 20, 100)
        cluster = Topics(self.bootstrap)
        while True:
            try:
                missing = await asyncio.to_thread(cluster.missing, self.needs)
            except Unreachable as problem:
                log.warning("waiting for Kafka", error=str(problem))
                await asyncio.sleep(1.0)
            else:
                break
        if missing:
            log.error(
                "the worker cannot start: topics are missing; create them with `waybill topics apply`",
                group=self.conf.id,
                topics=missing,
                kafka=self.bootstrap,
            )
            raise SystemExit(1)
        await super().on_first_start()

    @cached_property
    def gate(self) -> Gate:
        return Gate(self.conf.id, self.bounds, self.drain_timeout)

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
        return committed

    async def place(self, thread: ConsumerThread, assigned: set[TP]) -> None:
        """Put newly assigned partitions where ``start_offsets`` says, whatever the group has committed."""
        self.assigned_positions = {}
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
        pause = 0.1
        while batch.live:
            try:
                await producer.send_and_wait(topic, key, value, partition, None, list(headers))
            except Exception as error:  # noqa: BLE001 - whatever failed, giving up would lose the record
                log.warning("a hand-over failed; the offset waits", topic=topic, error=repr(error), next_try_in=pause)
                await asyncio.sleep(pause)
                pause = min(pause * 2, 5.0)
            else:
                return True
        return False

    async def partitions_of(self, topic: str) -> int:
        """How many partitions a topic has that this app produces to."""
        producer: Any = await self.maybe_start_producer()
        found: set[int] = await producer._ensure_producer().partitions_for(topic)
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


@contextmanager
def on_partition_of(batch: Batch) -> Iterator[None]:
    """Read and write tables for a record of ``batch``; all its records share the partition that a table needs.

    No await inside; check ``batch.live`` before a write.
    """
    token = streams._current_event.set(weakref.ref(batch.event))
    try:
        yield
    finally:
        streams._current_event.reset(token)
