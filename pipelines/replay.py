"""The replay agent: runs the plans of the commands topic.

It moves dead letters back to the retry topic of the consumer that gave them up, as the next generation of the delivery
and with a fresh budget.  A plan's record is committed when the plan has ended; until then its progress is in the
agent's table, so whoever takes over goes on where the last one stopped.  What was moved and not yet written down is
moved again: the retry agent knows a delivery by event, endpoint and generation.
"""

import asyncio
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Generator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import structlog

from connectors.access import Access
from connectors.kafka import App, Batch, Bounds, Needs, Pool, on_partition_of, reader
from connectors.problems import Unreachable
from pipelines import dlq, handover, names, replay_state
from pipelines.dlq import DeadLetter
from pipelines.plan import CHANNEL, Channel, Plan, UnreadablePlan
from pipelines.replay_state import Fate, Mark, Portion, Progress, State
from pipelines.versions import NewerVersion

log = structlog.get_logger()

#: One page of the DLQ, in records and in bytes of them.
PAGE_RECORDS, PAGE_BYTES = 200, 16 << 20
#: Seconds of the rate that one portion is worth: how smooth the pace is, and how often progress is written.
PORTION_SECONDS = 0.25
#: Seconds until the next try when Kafka does not answer.
PAUSE = 5.0
#: Seconds between two alarms about a command that waits for a newer worker.
ALARM = 30.0
#: Longest piece of work: a portion and its rows, acknowledged.
DRAIN_TIMEOUT = 10.0


def build(broker: Access, channel: Channel = CHANNEL, **options: Any) -> App:
    """The app of the replay worker.  ``options`` go to it and to Faust."""
    app = App(
        channel.group,
        broker=broker,
        bounds=Bounds(),
        needs=Needs((channel.commands, channel.changelog), (channel.changelog,)),
        drain_timeout=DRAIN_TIMEOUT,
        **options,
    )
    agent = ReplayAgent(app, broker, channel)
    app.consume(agent.run, channel.commands, name="replay")
    return app


@dataclass(frozen=True, slots=True)
class Job:
    """A plan, and the record it stands in."""

    batch: Batch
    index: int
    plan: Plan


class ReplayAgent:
    """Runs plans: those of one consumer in turn, those of several side by side."""

    def __init__(self, app: App, access: Access, channel: Channel) -> None:
        self.app, self.access = app, access
        self.table: Any = app.Table(names.REPLAY_TABLE, partitions=channel.partitions, key_type=bytes, value_type=bytes)
        self.turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self.pool: Pool[Job] = Pool(app, self.start, 1)

    async def run(self, batches: AsyncIterator[Batch]) -> None:
        async for batch in batches:
            for index, record in enumerate(batch.records):
                try:
                    plan = Plan.from_bytes(record.value)
                except UnreadablePlan as error:
                    self.leave_out(batch, index, str(error))
                except NewerVersion as newer:
                    self.pool.aside(self.leave(batch, record.offset, newer))
                else:
                    await self.pool.put(Job(batch, index, plan))

    def leave_out(self, batch: Batch, index: int, reason: str) -> None:
        """A command that cannot be read is no event: nothing is lost with it, and it must not hold up the others."""
        offset = batch.records[index].offset
        log.error(
            "a command cannot be read", topic=batch.tp.topic, partition=batch.tp.partition, offset=offset, reason=reason
        )
        batch.done(index)

    async def leave(self, batch: Batch, offset: int, newer: NewerVersion) -> None:
        """Leave a command to a newer worker, uncommitted, and say so again and again; others go on."""
        while self.app.gate.open and batch.live:
            log.error(
                "a command cannot be read and waits",
                topic=batch.tp.topic,
                partition=batch.tp.partition,
                offset=offset,
                reason=str(newer),
            )
            await self.app.gate.sleep(ALARM)

    async def start(self, job: Job) -> None:
        self.pool.aside(self.replay(job))

    async def replay(self, job: Job) -> None:
        """Run a plan to its end, or until the partition is given up."""
        async with self.turns[job.plan.consumer]:
            while self.ours(job):
                try:
                    progress = self.progress(job)
                    if progress.state is State.ENDED:
                        log.info("replay ended", plan=job.plan.id, moved=progress.moved, skipped=progress.skipped)
                        job.batch.done(job.index)
                        return
                    await self.advance(job, progress)
                except (Unreachable, NewerVersion) as problem:
                    log.warning("replay waits", plan=job.plan.id, reason=str(problem), seconds=PAUSE)
                    await self.app.gate.sleep(PAUSE)

    async def advance(self, job: Job, progress: Progress) -> None:
        """Go through what is left of the plan, a portion at a time."""
        plan = job.plan
        log.info("replay runs", plan=plan.id, consumer=plan.consumer, moved=progress.moved)
        partitions = len(await asyncio.to_thread(reader.ends, self.access, plan.retry_topic))
        records = reader.scan(self.access, plan.dlq_topic, progress.left(plan.ranges))
        limit = max(1, int(plan.rate * PORTION_SECONDS))
        async with paging(records) as next_page:
            while page := await next_page():
                for portion in replay_state.portions(page, lambda dead_letter: self.fate(job, dead_letter), limit):
                    began = time.monotonic()
                    progress = progress.after(portion, datetime.now(UTC))
                    if not await self.settle(job, portion, progress, partitions):
                        return
                    if portion.move:
                        await self.app.gate.sleep(len(portion.move) / plan.rate - (time.monotonic() - began))
        await self.settle(job, Portion(), progress.ended(plan.ranges, datetime.now(UTC)), partitions)

    async def settle(self, job: Job, portion: Portion, progress: Progress, retry_partitions: int) -> bool:
        """Move a portion and write that down; False if the partition is given up, then nothing or some was moved."""
        if not self.ours(job):
            return False
        self.app.gate.begin()
        try:
            moves = (self.move(job, dead_letter, retry_partitions) for dead_letter in portion.move)
            if not all(await asyncio.gather(*moves)):
                return False
            marks = {
                replay_state.mark_key(dead_letter): Mark(job.plan.id, dead_letter.event.id).to_bytes()
                for dead_letter in portion.move
            }
            return await self.write(job, marks) and await self.write(
                job, {replay_state.plan_key(job.plan.id): progress.to_bytes()}
            )
        finally:
            self.app.gate.end()

    async def move(self, job: Job, dead_letter: DeadLetter, retry_partitions: int) -> bool:
        event, delivery = dead_letter.event, dead_letter.delivery
        assert delivery, "malformed dead letters are skipped"
        return await self.app.hand_over(
            job.batch,
            job.plan.retry_topic,
            event.key,
            event.value,
            handover.headers(event.headers, event.id, delivery.replayed()),
            handover.retry_partition(event.id, retry_partitions),
        )

    # -- the table

    def ours(self, job: Job) -> bool:
        return self.app.gate.open and job.batch.live

    def progress(self, job: Job) -> Progress:
        found = replay_state.read_progress(self.row(job, replay_state.plan_key(job.plan.id)))
        return found or replay_state.started(job.plan.consumer, datetime.now(UTC))

    def fate(self, job: Job, dead_letter: DeadLetter) -> Fate:
        return replay_state.fate(job.plan, dead_letter, self.row(job, replay_state.mark_key(dead_letter)))

    def row(self, job: Job, key: bytes) -> bytes | None:
        with on_partition_of(job.batch):
            found: bytes | None = self.table.get(key)
        return found

    async def write(self, job: Job, rows: Mapping[bytes, bytes]) -> bool:
        """Write rows to the table once the brokers have them.

        The table's own writes are not acknowledged: a plan could be committed ahead of what it did.
        """
        topic, partition = self.table.changelog_topic_name, job.batch.tp.partition
        sent = (self.app.hand_over(job.batch, topic, key, row, [], partition) for key, row in rows.items())
        if not all(await asyncio.gather(*sent)):
            return False
        with on_partition_of(job.batch):
            self.table.data.update(rows)
        return True


@asynccontextmanager
async def paging(
    records: Generator[reader.Record, None, None],
) -> AsyncIterator[Callable[[], Awaitable[list[DeadLetter]]]]:
    """Pages of a blocking scan, read in a thread of its own, which also closes the scan when it is left early."""

    def page() -> list[DeadLetter]:
        read: list[DeadLetter] = []
        held = 0
        for record in records:
            read.append(dlq.read(record))
            held += len(record.value or b"")
            if len(read) == PAGE_RECORDS or held >= PAGE_BYTES:
                break
        return read

    thread = ThreadPoolExecutor(1, "dlq-scan")
    try:
        yield lambda: asyncio.get_running_loop().run_in_executor(thread, page)
    finally:
        thread.submit(records.close)
        thread.shutdown(wait=False)
